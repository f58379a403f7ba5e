# SPDX-License-Identifier: MIT
"""What the kernels do not do, so that PyTorch has to; and saying so, once.

Nothing here looks at shapes or at whether arguments make sense: what is wrong goes to PyTorch too,
which raises its own error.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

__all__ = ["plain", "reason_against", "say_once", "untraced"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PLAIN = (torch.Tensor, torch.nn.Parameter)  # not their subclasses, which change what operations do
_DTYPES = (torch.float32, torch.float64)

_said: set[str] = set()


def plain(tensors: Iterable[torch.Tensor | None]) -> bool:
    """Return whether all of these are ordinary tensors outside of every transformation."""
    return not torch._C._are_functorch_transforms_active() and all(
        t is None or (type(t) in _PLAIN and not torch._C._functorch.is_legacy_batchedtensor(t))
        for t in tensors
    )


def reason_against(tensors: Iterable[Any]) -> str | None:
    """Return why the kernels cannot work on these tensors here and now, or None."""
    if torch._C._are_functorch_transforms_active():
        return "torch.func"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    if torch._C._len_torch_dispatch_stack():
        return "a dispatch mode such as FakeTensorMode or FlopCounterMode"
    if torch.is_autocast_enabled("cpu"):
        return "autocast"
    for t in tensors:
        if type(t) not in _PLAIN:
            return f"{type(t).__name__} in place of a plain tensor"
        if not t.is_cpu:
            return f"device {t.device.type}"
        if t.layout is not torch.strided or t.is_neg():
            return "memory that NumPy cannot view"
        if t.dtype not in _DTYPES:
            return f"dtype {t.dtype}"
    return None


def say_once(module: str, reason: str) -> None:
    """Warn that PyTorch did the work; each reason is told once in the life of the process."""
    if reason in _said:
        return
    _said.add(reason)
    level, frame = 1, sys._getframe().f_back  # up to the user's line, if it is on this thread
    while frame and frame.f_globals.get("__name__", "").startswith(("torch.", "pygru.torch")):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"pygru.torch.{module}: the kernels do not cover {reason}, so PyTorch does this itself "
        "(said once for this reason)",
        RuntimeWarning,
        stacklevel=level + 1,
    )


def untraced(function: _Function) -> _Function:
    """Keep torch.compile out of a function: to it, a view by NumPy would be one more tensor.

    PyTorch breaks its graphs at recurrent modules anyway. Where nothing was ever compiled this
    costs nothing, in particular not the seconds that importing torch.compile takes.
    """
    disabled: list[Any] = []

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*arguments)
        if not disabled:
            disabled.append(torch._dynamo.disable(function))
        return disabled[0](*arguments)

    return call  # type: ignore[return-value]
