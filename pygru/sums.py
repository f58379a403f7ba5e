# SPDX-License-Identifier: MIT
"""The sum that norms and mean losses are, of any two arrays; depends on NumPy and the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pygru import _core

__all__ = ["dot"]


def dot(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the sum of a * b over all elements of two floating arrays of one shape and dtype.

    Not by NumPy's BLAS, whose threads make the sum depend on their number and wait for each other,
    where the cores are busy, a hundred times as long as the product takes.

    Examples
    --------
    >>> dot(np.array([[3.0, 4.0]]), np.array([[1.0, 2.0]]))
    11.0
    """
    own = a.dtype.char in "fd" and a.dtype.isnative and a.flags.aligned and b.flags.aligned
    if not own:  # a loss may be given any precision, and whoever clips any memory
        precision = a.dtype.newbyteorder("=") if a.dtype.char in "fd" else np.float64
        a, b = a.astype(precision), b.astype(precision)
    return _core.dot(a.ravel(), b.ravel())
