# SPDX-License-Identifier: MIT
"""Layers without parameters that give a sequence model the input it wants.

`RepeatVector` makes a sequence of one vector, `OneHot` a vector of one integer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pygru.checks import FloatArray, as_classes, as_floating, as_size, check_bytes
from pygru.module import Config, Layer
from pygru.pooling import TimeLayer
from pygru.registry import savable
from pygru.sums import over_time
from pygru.widths import Widths

__all__ = ["OneHot", "RepeatVector"]


@savable
class RepeatVector(TimeLayer):
    """The same vector at each of n steps: a recurrent layer after it makes a sequence of one input.

    Shapes: x (B, K), or (K,) unbatched; y (n, B, K), (B, n, K) when batch_first, or (n, K).

    Parameters
    ----------
    n : int
        Number of steps.
    batch_first : bool or None
        Whether y is (B, n, K); None takes the layout of the other modules of its `Sequential`,
        and time first where none says.

    Raises
    ------
    TypeError, ValueError
        When n is not an integer of at least 1; in ``forward`` when x is no vector or batch of
        vectors.

    Examples
    --------
    >>> pygru.RepeatVector(3)([[1.0, 2.0]]).shape
    (3, 1, 2)

    From one number to a waveform of 100 samples:

    >>> model = pygru.Sequential(
    ...     pygru.Linear(1, 8, rng=0), pygru.RepeatVector(100),
    ...     pygru.GRU(8, 32, batch_first=True, rng=1), pygru.Linear(32, 1, rng=2),
    ... )
    >>> model([[440.0], [880.0]]).shape
    (2, 100, 1)
    """

    _axes = (1, 2)
    keeps_time = False  # its time axis is its own

    def __init__(self, n: int, *, batch_first: bool | None = None) -> None:
        self.n = as_size("RepeatVector", "n", n)
        super().__init__(batch_first)

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one, as JSON can hold them."""
        return {"n": self.n, "batch_first": self.batch_first}

    def _apply(
        self, x: npt.ArrayLike, _lengths: npt.ArrayLike | None, _training: bool, /
    ) -> tuple[FloatArray, int]:
        array = as_floating("RepeatVector.forward", "x", x)
        if array.ndim not in (1, 2):
            raise ValueError(
                f"RepeatVector.forward: x must have shape (B, K) or (K,), got {array.shape}"
            )
        check_bytes("RepeatVector.forward", "y", self.n * array.size, array.dtype)
        axis = 1 if self.batch_first and array.ndim == 2 else 0
        return np.repeat(np.expand_dims(array, axis), self.n, axis), axis

    def _pull(self, saved: int, dy: FloatArray, input_gradient: bool, /) -> FloatArray | None:
        if not input_gradient:
            return None
        return over_time(np.moveaxis(dy, saved, 0))


@savable
class OneHot(Layer):
    """1 at the place of an integer, 0 elsewhere: classes as input without an `Embedding` to learn.

    Parameters
    ----------
    num_classes : int
        K: x is integers of any shape (...), y is float32 of shape (..., K).

    Raises
    ------
    TypeError, ValueError
        When num_classes is not an integer of at least 1; in ``forward`` when x does not hold
        integers, or one of them is not in 0 .. K-1.

    Notes
    -----
    ``backward`` returns None: integers have no gradient.

    Examples
    --------
    >>> pygru.OneHot(3)([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = as_size("OneHot", "num_classes", num_classes)
        self._widths = Widths(gives=self.num_classes, classes=True)
        super().__init__()

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one, as JSON can hold them."""
        return {"num_classes": self.num_classes}

    @property
    def input_classes(self) -> int:
        """K: x is integers that stand for classes."""
        return self.num_classes

    def _apply(
        self, x: npt.ArrayLike, _lengths: npt.ArrayLike | None, _training: bool, /
    ) -> tuple[FloatArray, None]:
        indices = as_classes("OneHot.forward", "x", x, self.num_classes)
        check_bytes("OneHot.forward", "y", indices.size * self.num_classes, self.dtype)
        y = np.zeros((*indices.shape, self.num_classes), self.dtype)
        np.put_along_axis(y, indices[..., np.newaxis], 1.0, axis=-1)
        return y, None

    def _pull(self, _saved: None, _dy: FloatArray, _input_gradient: bool, /) -> None:
        return None
