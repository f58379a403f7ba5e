# SPDX-License-Identifier: MIT
"""`torch.nn.GRU` and `torch.nn.RNN` on pygru's kernels: the same modules, faster on a CPU.

>>> import torch, pygru.torch
>>> model = torch.nn.Sequential(torch.nn.GRU(8, 16, batch_first=True))
>>> model = pygru.torch.accelerate(model)  # every nn.GRU and nn.RNN in it, in place
>>> y, h_n = model(torch.zeros(2, 7, 8))
>>> y.sum().backward()
>>> y.shape
torch.Size([2, 7, 16])

Not imported by ``import pygru``: this package, and no other module, needs PyTorch (2.4 or newer).
"""

from __future__ import annotations

from typing import Any, TypeVar

try:
    import torch
except ImportError as error:
    raise ImportError("pygru.torch: needs PyTorch 2.4 or newer: pip install torch") from error

from torch import nn
from torch.nn.utils import parametrize

from pygru.torch.coverage import say_once
from pygru.torch.stack import run

__all__ = ["GRU", "RNN", "accelerate", "restore"]

_Model = TypeVar("_Model", bound=nn.Module)


class _OnKernels:
    """forward by the kernels; what they do not do, and what is wrong, is left to PyTorch."""

    def forward(self: Any, input: Any, hx: torch.Tensor | None = None) -> Any:  # noqa: A002
        """Return (output, h_n), as PyTorch's module does, or raise its errors."""
        if isinstance(input, torch.fx.Proxy):  # to torch.fx a leaf, as PyTorch's own is
            arguments = (input,) if hx is None else (input, hx)
            path = input.tracer.path_of_module(self)
            return input.tracer.create_proxy("call_module", path, arguments, {})
        self._update_flat_weights()
        pytorch = super().forward  # type: ignore[misc]
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            if not torch.compiler.is_dynamo_compiling():  # which cannot trace a warning
                say_once(type(self).__name__, "tracing and exporting")
            return pytorch(input, hx)
        return run(self, pytorch, input, hx)

    def __prepare_scriptable__(self: Any) -> Any:
        # What torch.jit.script compiles in place of this: PyTorch's module, on the same parameters.
        plain = nn.GRU if isinstance(self, nn.GRU) else nn.RNN
        twin = plain.__new__(plain)
        twin.__dict__.update(self.__dict__)
        return twin


class GRU(_OnKernels, nn.GRU):  # type: ignore[misc]
    """`torch.nn.GRU`, computed by pygru.

    It is a `torch.nn.GRU`: constructor, parameters, state_dict, results and errors are those of
    PyTorch, and so is the mathematics (the reset gate acts after the recurrent product).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        As for `torch.nn.GRU`.

    Raises
    ------
    What `torch.nn.GRU` raises, by `torch.nn.GRU`.

    Warns
    -----
    RuntimeWarning
        Once for each reason why PyTorch computed something itself: another device or dtype,
        autocast, gradients of gradients, tracing and exporting, torch.func.

    Notes
    -----
    Float32 and float64 on the CPU, with or without a gradient, are covered in full: stacks,
    directions, dropout (the same draws from PyTorch's generator), unbatched and packed input.
    A call uses as many threads as PyTorch would, ``torch.get_num_threads()``, or fewer if pygru
    has been told so; the results do not depend on it.

    Examples
    --------
    >>> import torch
    >>> gru = pygru.torch.GRU(8, 64, num_layers=2)
    >>> y, h_n = gru(torch.zeros(7, 3, 8))
    >>> y.shape, h_n.shape
    (torch.Size([7, 3, 64]), torch.Size([2, 3, 64]))
    >>> _ = torch.nn.GRU(8, 64, num_layers=2).load_state_dict(gru.state_dict())
    """


class RNN(_OnKernels, nn.RNN):  # type: ignore[misc]
    """`torch.nn.RNN`, the Elman network with tanh or relu, computed by pygru.

    Parameters
    ----------
    input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional, \
    device, dtype
        As for `torch.nn.RNN`.

    Raises
    ------
    What `torch.nn.RNN` raises, by `torch.nn.RNN`.

    Warns
    -----
    RuntimeWarning
        As for `GRU`.

    Examples
    --------
    >>> import torch
    >>> y, h_n = pygru.torch.RNN(8, 64, nonlinearity="relu")(torch.zeros(7, 3, 8))
    >>> y.shape
    torch.Size([7, 3, 64])
    """


_FAST: dict[type, type] = {nn.GRU: GRU, nn.RNN: RNN}


def accelerate(model: _Model) -> _Model:
    """Let pygru compute every `torch.nn.GRU` and `torch.nn.RNN` of a model, in place.

    The modules stay the same objects with the same parameters, hooks and names; only their class
    becomes `GRU` or `RNN` of this package. So optimisers, checkpoints and references to a module
    hold, and parametrised weights stay so. Subclasses are left alone: derive them from this
    package's classes instead.

    Parameters
    ----------
    model : torch.nn.Module
        May be a GRU or RNN itself.

    Returns
    -------
    model : torch.nn.Module
        The same object.

    Raises
    ------
    TypeError
        When it is not a `torch.nn.Module`.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(3, 4), "head": torch.nn.Linear(4, 1)})
    >>> type(pygru.torch.accelerate(model)["encoder"])
    <class 'pygru.torch.GRU'>
    """
    return _change_classes("accelerate", model, _FAST)


def restore(model: _Model) -> _Model:
    """Undo `accelerate`: every `GRU` and `RNN` of this package becomes PyTorch's again, in place.

    Parameters, results and errors are those of `accelerate`. A model that is saved whole (not as
    a state_dict) after this loads without pygru.

    Examples
    --------
    >>> import torch
    >>> type(pygru.torch.restore(pygru.torch.accelerate(torch.nn.GRU(3, 4))))
    <class 'torch.nn.modules.rnn.GRU'>
    """
    return _change_classes("restore", model, {fast: plain for plain, fast in _FAST.items()})


def _change_classes(where: str, model: _Model, classes: dict[type, type]) -> _Model:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"pygru.torch.{where}: model must be a torch.nn.Module, got {type(model).__name__}"
        )
    for module in model.modules():
        cls, base = type(module), parametrize.type_before_parametrizations(module)
        if base not in classes:
            continue
        other = classes[base]
        if cls is not base:  # which PyTorch made over the base, with the weights as properties
            own = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
            other = type(cls.__name__, (other,), own)
        module.__class__ = other
    return model
