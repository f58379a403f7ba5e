# SPDX-License-Identifier: MIT
"""Gradient clipping, in place on one flat array; depends on NumPy, `checks` and `sums`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pygru import checks
from pygru.sums import dot

__all__ = ["clip_by_global_norm", "clip_by_value"]


def clip_by_global_norm(flat_grads: npt.NDArray[Any], max_norm: float) -> float:
    """Scale the gradients in place so that their Euclidean norm is at most `max_norm`.

    Parameters
    ----------
    flat_grads : floating array of shape (P,)
    max_norm : float, above 0

    Returns
    -------
    norm : float
        Before clipping. Where it is not finite the gradients are left as they are.

    Raises
    ------
    TypeError
        When flat_grads is no floating array or max_norm no number.
    ValueError
        When flat_grads is read-only or has masked elements, or max_norm is not above 0.

    References
    ----------
    Pascanu, Mikolov and Bengio (2013), "On the difficulty of training recurrent neural networks".

    Examples
    --------
    >>> grads = np.array([3.0, 4.0])
    >>> clip_by_global_norm(grads, 1.0), grads.round(6).tolist()
    (5.0, [0.6, 0.8])
    """
    _check_in_place("clip_by_global_norm", flat_grads)
    max_norm = checks.as_positive("clip_by_global_norm", "max_norm", max_norm)
    return shrink(flat_grads, max_norm)


def shrink(flat_grads: npt.NDArray[Any], max_norm: float) -> float:
    """Do what `clip_by_global_norm` does, with arguments that have been checked."""
    norm = math.sqrt(dot(flat_grads, flat_grads))
    if not 1e-12 < norm < math.inf:  # squares overflow or vanish: in float32 from 1.8e19 on
        largest = float(np.abs(flat_grads).max(initial=0))
        if 0 < largest < math.inf:
            parts = flat_grads.astype(np.float64) / largest
            norm = largest * math.sqrt(dot(parts, parts))
    if max_norm < norm < math.inf:
        flat_grads *= max_norm / norm
    return norm


def clip_by_value(flat_grads: npt.NDArray[Any], max_value: float) -> None:
    """Clip every gradient in place to -max_value .. max_value.

    Parameters
    ----------
    flat_grads : floating array of shape (P,)
    max_value : float, above 0

    Raises
    ------
    TypeError, ValueError
        As from `clip_by_global_norm`.

    Examples
    --------
    >>> grads = np.array([3.0, -0.5])
    >>> clip_by_value(grads, 1.0)
    >>> grads.tolist()
    [1.0, -0.5]
    """
    _check_in_place("clip_by_value", flat_grads)
    max_value = checks.as_positive("clip_by_value", "max_value", max_value)
    np.clip(flat_grads, -max_value, max_value, out=flat_grads)


def _check_in_place(where: str, flat_grads: npt.NDArray[Any]) -> None:
    """Refuse what cannot be scaled in place."""
    if not isinstance(flat_grads, np.ndarray):
        got = type(flat_grads).__name__
    elif flat_grads.dtype.kind != "f":
        got = f"dtype {flat_grads.dtype}"
    elif not flat_grads.flags.writeable:
        raise ValueError(f"{where}: flat_grads must be writeable, got a read-only array")
    else:
        checks.check_unmasked(where, "flat_grads", flat_grads)  # which would stay as they are
        return
    raise TypeError(f"{where}: flat_grads must be a floating array, got {got}")
