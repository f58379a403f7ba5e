# SPDX-License-Identifier: MIT
"""The one table of tolerances: how closely two computations of the same thing must agree, by dtype.

Each is relative to the largest magnitude of the expected array (see `assert_close`): single
elements may cancel to nearly nothing, arrays do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TOLERANCES: dict[str, dict[str, float]] = {
    # Central differences in float64 against an analytic gradient: step^2 plus rounding / step.
    "finite differences": {"float64": 1e-7},
    # Kernels against reference.py: the same equations, another order of summation, own tanh.
    "reference": {"float64": 1e-12, "float32": 5e-6},
    # pygru against torch.nn.GRU.
    "torch": {"float64": 1e-10, "float32": 2e-5},
    # The loss at each of many steps of training, by pygru.torch and by PyTorch.
    "loss curve": {"float32": 1e-5},
    # A model that came from another system against that system, weights equal bit for bit.
    "interop": {"float64": 1e-12, "float32": 1e-6},
    # Training that must arrive somewhere, against where it must arrive.
    "convergence": {"float64": 1e-6, "float32": 1e-3},
    # The same arithmetic written twice in NumPy: an optimiser against its published equations, say.
    "rounding": {"float64": 1e-14, "float32": 1e-6},
}


def assert_close(
    actual: npt.ArrayLike,
    expected: npt.ArrayLike,
    purpose: str,
    name: str = "array",
    least: float = 1e-3,
) -> None:
    """Compare shapes, then all elements: off by at most the table's part of the largest one.

    The largest one counts as ``least`` when it is smaller: say 1 where sums of numbers of about 1
    may cancel in every element.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (
        f"{name}: shape {actual.shape}, expected {expected.shape}"
    )
    if actual.size == 0:
        return
    tolerance = TOLERANCES[purpose][str(actual.dtype)]
    scale = max(least, float(np.abs(expected).max()))
    worst = float(np.abs(actual.astype(np.float64) - expected).max()) / scale
    assert worst <= tolerance, f"{name}: {purpose} differ by {worst:.2e}, allowed {tolerance:.0e}"


def finite_difference(loss: Any, array: npt.NDArray[np.float64], step: float = 1e-5) -> Any:
    """Return d loss() / d array by central differences, moving one element in place at a time."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        centre = array[index]
        array[index] = centre + step
        above = loss()
        array[index] = centre - step
        below = loss()
        array[index] = centre
        gradient[index] = (above - below) / (2 * step)
    return gradient
