# SPDX-License-Identifier: MIT
"""The proof behind ``check=True``: model and source on one random input, and the difference."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pygru.interop.blocks import modules_of
from pygru.layers import Embedding, Linear
from pygru.module import Module
from pygru.recurrent import Recurrent
from pygru.regularization import LayerNorm

__all__ = ["compare", "outputs_of", "random_input", "unavailable"]

T, B = 7, 3
# What two right conversions may differ by: rounding, carried through the steps of the input.
ALLOWED = {"float32": 1e-4, "float64": 1e-9}


def random_input(model: Module) -> npt.NDArray[Any]:
    """Return input for a model: (7, 3, I), (3, 7, I) when batch_first, or integers likewise."""
    rng = np.random.default_rng(0)
    leading = (B, T) if model.batch_first else (T, B)
    for _, module in modules_of(model):
        if isinstance(module, Embedding):
            return rng.integers(0, module.num_embeddings, leading)
        if isinstance(module, Recurrent):
            return rng.standard_normal((*leading, module.input_size)).astype(model.dtype)
        if isinstance(module, Linear):
            return rng.standard_normal((*leading, module.in_features)).astype(model.dtype)
        if isinstance(module, LayerNorm):
            return rng.standard_normal((*leading, module.normalized_shape)).astype(model.dtype)
    return rng.standard_normal((*leading, 5)).astype(model.dtype)


def outputs_of(model: Module, x: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return what a model gives: y, and h_n where it is a recurrent layer."""
    given = model(x)  # type: ignore[operator]
    return list(given) if isinstance(given, tuple) else [given]


def compare(
    where: str,
    model: Module,
    framework: str,
    run: Callable[[npt.NDArray[Any]], Sequence[npt.ArrayLike]],
) -> None:
    """Run both on random input and print the largest absolute difference of their outputs.

    Parameters
    ----------
    where : str
        The public function that was asked to check.
    model : Module
    framework : str
        The name and version of what ``run`` runs on.
    run : function
        From the model's input to outputs in the layout of the model's.

    Raises
    ------
    ValueError
        When they differ by more than rounding explains.
    """
    x = random_input(model)
    ours, theirs = outputs_of(model, x), [np.asarray(y) for y in run(x)]
    largest = 0.0
    for a, b in zip(ours, theirs, strict=False):
        if a.shape != b.shape:
            raise ValueError(
                f"{where}: {framework} gives shape {b.shape} where the imported model gives "
                f"{a.shape}"
            )
        if a.size:
            largest = max(largest, float(np.abs(a.astype(np.float64) - b).max()))
    allowed = ALLOWED[model.dtype.name]
    if not largest <= allowed:  # a NaN is no proof either
        raise ValueError(
            f"{where}: the imported model must give what {framework} gives, got outputs that "
            f"differ by {largest:.1e} on random input, where rounding explains {allowed:.0e}"
        )
    print(  # noqa: T201
        f"{where}: largest absolute difference to {framework} on random input: {largest:.1e}"
    )


def unavailable(where: str, framework: str, package: str) -> bool:
    """Return whether a package is missing, and say in a line that there was no check."""
    if importlib.util.find_spec(package) is not None:
        return False
    print(f"{where}: not checked, {framework} is not installed")  # noqa: T201
    return True
