# SPDX-License-Identifier: MIT
"""The one sum that is taken by BLAS; depends on NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["dot"]

# NumPy's OpenBLAS takes threads of its own for products of more than 10,000 elements: the sum then
# depends on their number, and where the cores are busy it waits for them a hundred times as long as
# the product takes. (Besides, sums of blocks in double precision are the more accurate ones.)
BLOCK = 8192


def dot(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the sum of a * b over all elements of two arrays of one shape.

    Examples
    --------
    >>> dot(np.array([[3.0, 4.0]]), np.array([[1.0, 2.0]]))
    11.0
    """
    if a.size <= BLOCK:
        return float(np.vdot(a, b))
    a, b = a.reshape(-1), b.reshape(-1)
    starts = range(0, a.size, BLOCK)
    return sum(float(np.vdot(a[i : i + BLOCK], b[i : i + BLOCK])) for i in starts)
