# SPDX-License-Identifier: MIT
"""A recurrent layer of which a model reads the final state only.

What `LastStep` reads of one direction, or `BothEnds` of two, is h_n of the top layer. So its
gradient can go in as dh_n, in place of a dense dy that is 0 nearly everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from pygru.activations import Activation
from pygru.checks import FloatArray
from pygru.module import Layer
from pygru.pooling import BothEnds, LastStep
from pygru.recurrent import Recurrent
from pygru.registry import overridden
from pygru.regularization import Dropout

__all__ = ["FinalState", "plan"]


class FinalState:
    """Two modules of a model that run as one."""

    keeps_time = False

    def __init__(self, recurrent: Recurrent, pooling: Layer) -> None:
        self.recurrent, self.pooling = recurrent, pooling

    @property
    def flat_params(self) -> FloatArray:
        """All parameters of both, (P,)."""
        return self.recurrent.flat_params

    def _carry_forward(
        self,
        x: npt.ArrayLike,
        lengths: npt.ArrayLike | None,
        training: bool,
        h_0s: Iterator[npt.ArrayLike | None] | None,
        h_ns: list[FloatArray],
        /,
    ) -> tuple[FloatArray, Any]:
        y, saved = self.recurrent._carry_forward(x, lengths, training, h_0s, h_ns)
        if h_0s is None and not self.recurrent.bidirectional:
            return h_ns[-1][-1].copy(), saved
        # An empty sequence has a state, what was carried into it, but no last step.
        return self.pooling._apply(y, lengths, False)[0], saved

    def _carry_backward(
        self,
        saved: Any,
        d_last: FloatArray | None,  # (B, D*H) or, unbatched, (D*H,)
        input_gradient: bool,
        _dh_ns: list[FloatArray | None] | None,  # none: an `EncoderDecoder` has no pooling
        _dh_0s: list[FloatArray | None] | None,
        /,
    ) -> FloatArray | None:
        dh_n = None
        if d_last is not None:
            H, D = self.recurrent.hidden_size, self.recurrent._directions
            dh_n = d_last.reshape(-1, D, H).swapaxes(0, 1)  # (D, B, H)
        return self.recurrent._backward(saved, None, dh_n, input_gradient, False)[0]


def plan(modules: tuple[Layer | Recurrent, ...]) -> tuple[Layer | Recurrent | FinalState, ...]:
    """Return the modules as a model runs them; refuse both ends of one direction.

    Half of these would be units that have seen one step.
    """
    steps: list[Layer | Recurrent | FinalState] = []
    source = None  # whose units a module reads, each by itself
    for i, module in enumerate(modules):
        # (A derived class may compute as it likes, below and here.)
        if type(module) is BothEnds and isinstance(source, Recurrent) and not source.bidirectional:
            raise ValueError(
                f"Sequential: module {i} (BothEnds) must read two directions, got a "
                f"{type(source).__name__} with bidirectional=False, whose last state LastStep gives"
            )
        if not isinstance(module, (Activation, Dropout)):
            source = module
        below = steps[-1] if steps else None
        if (
            isinstance(below, Recurrent)
            and type(module) is (BothEnds if below.bidirectional else LastStep)
            and overridden(below) is None
        ):
            steps[-1] = FinalState(below, module)
        else:
            steps.append(module)
    return tuple(steps)
