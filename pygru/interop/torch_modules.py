# SPDX-License-Identifier: MIT
"""The modules that PyTorch lacks and a model in a row needs, made when they are first asked for.

``torch.nn.Sequential`` stops at a recurrent layer, which gives a tuple, and there is no module
that takes the last step. Attributes of this file: `Sequential`, `LastStep`, `BothEnds`,
`MeanOverTime`, each a ``torch.nn.Module`` of the same meaning as pygru's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

__all__ = ["BothEnds", "LastStep", "MeanOverTime", "Sequential"]  # noqa: F822


@lru_cache(maxsize=1)
def _classes() -> dict[str, Any]:
    import torch

    class Sequential(torch.nn.Sequential):  # type: ignore[misc]
        """``torch.nn.Sequential`` that hands on y of what gives (y, h_n)."""

        def forward(self, x: Any) -> Any:
            """Run one module after another."""
            for module in self:
                x = module(x)
                if isinstance(x, tuple):
                    x = x[0]
            return x

    class Pooling(torch.nn.Module):  # type: ignore[misc]
        """From (T, B, K), or (B, T, K) when batch_first, to (B, K)."""

        def __init__(self, batch_first: bool = False) -> None:
            super().__init__()
            self.batch_first = batch_first

        def extra_repr(self) -> str:
            """Return the arguments."""
            return f"batch_first={self.batch_first}"

    class LastStep(Pooling):
        """The last step."""

        def forward(self, x: Any) -> Any:
            """Return it."""
            return x.select(int(self.batch_first), -1)

    class BothEnds(Pooling):
        """The first half of the last step beside the second half of the first."""

        def forward(self, x: Any) -> Any:
            """Return them."""
            time, half = int(self.batch_first), x.shape[-1] // 2
            ends = (x.select(time, -1)[..., :half], x.select(time, 0)[..., half:])
            return torch.cat(ends, dim=-1)

    class MeanOverTime(Pooling):
        """The mean over the steps."""

        def forward(self, x: Any) -> Any:
            """Return it."""
            return x.mean(int(self.batch_first))

    classes = {cls.__name__: cls for cls in (Sequential, LastStep, BothEnds, MeanOverTime)}
    for name, cls in classes.items():
        cls.__qualname__ = name  # where torch.save and copies look for it: here
    return classes


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _classes()[name]
