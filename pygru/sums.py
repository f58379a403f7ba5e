# SPDX-License-Identifier: MIT
"""Sums in an order that no layout of memory decides; depends on NumPy and the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pygru import _core

__all__ = ["dot", "over_time"]


def dot(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the sum of a * b over all elements of two floating arrays of one shape and dtype.

    Not by NumPy's BLAS, whose threads make the sum depend on their number and wait for each other,
    where the cores are busy, a hundred times as long as the product takes.

    Examples
    --------
    >>> dot(np.array([[3.0, 4.0]]), np.array([[1.0, 2.0]]))
    11.0
    """
    if a.dtype.char not in "fd" or not a.dtype.isnative:  # a loss may be given any precision
        precision = a.dtype.newbyteorder("=") if a.dtype.char in "fd" else np.float64
        a, b = a.astype(precision), b.astype(precision)
    return _core.dot(a, b)


def over_time(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the sum along the first axis, one step after another whatever the layout.

    NumPy adds so unless the steps are neighbours in memory: these it would add in pairs.

    Examples
    --------
    >>> over_time(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    others = [abs(stride) for stride, n in zip(x.strides[1:], x.shape[1:], strict=True) if n > 1]
    neighbours = len(x) > 0 and all(abs(x.strides[0]) <= stride for stride in others)
    total: npt.NDArray[Any] = np.add.accumulate(x)[-1] if neighbours else x.sum(axis=0)
    return np.asarray(total)
