# SPDX-License-Identifier: MIT
"""The proof behind ``check=True``: model and source on one random input, and the difference."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pygru.cells import RecurrentCell
from pygru.encoder_decoder import EncoderDecoder
from pygru.interop.blocks import modules_of
from pygru.module import Module
from pygru.pooling import TimeLayer
from pygru.recurrent import Recurrent
from pygru.shapes import RepeatVector

__all__ = ["compare", "outputs_of", "random_input", "report", "unavailable"]

# What two right conversions may differ by: rounding, carried through the steps of the input.
ALLOWED = {"float32": 1e-4, "float64": 1e-9}


def random_input(
    model: Module, *, T: int = 7, B: int = 3, vectors: bool | None = None
) -> npt.NDArray[Any]:
    """Return input for a model.

    Parameters
    ----------
    model : Module
    T, B : int
        Steps and batch: (T, B, K), or (B, T, K) when batch_first; of integers without K.
    vectors : bool, optional
        Give (B, K), or integers (B,), instead. Absent, that is what a cell gets, and a model that
        makes steps of a vector itself.
    """
    first = model.encoder if isinstance(model, EncoderDecoder) else model
    rng, modules = np.random.default_rng(0), [module for _, module in modules_of(first)]
    if vectors is None:
        timed = next((m for m in modules if isinstance(m, (Recurrent, TimeLayer))), None)
        vectors = isinstance(timed, RepeatVector) or isinstance(model, RecurrentCell)
    shape = (B,) if vectors else (B, T) if model.batch_first else (T, B)
    for module in modules:
        classes = getattr(module, "input_classes", None)
        if classes is not None:
            return rng.integers(0, classes, shape)
        if module._widths.reads is not None:
            return rng.standard_normal((*shape, module._widths.reads)).astype(model.dtype)
    return rng.standard_normal((*shape, 5)).astype(model.dtype)


def outputs_of(model: Module, x: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return what a model gives: y, and h_n where it is a recurrent layer.

    An `EncoderDecoder` is taught with a target of as many steps as x has.
    """
    if isinstance(model, EncoderDecoder):
        return [model(x, _random_target(model, x.shape[:2]))]
    given = model(x)  # type: ignore[operator]
    return list(given) if isinstance(given, tuple) else [given]


def _random_target(model: EncoderDecoder, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return classes (T, B) or values (T, B, O) for a decoder to write, whole sequences."""
    rng, classes = np.random.default_rng(1), model.decoder.input_classes
    if classes is None:
        return rng.standard_normal((*shape, len(model.start))).astype(model.dtype)
    target = rng.integers(0, classes, shape)
    # After the first end nothing counts any more.
    return target if model.end is None else np.where(target == model.end, model.start, target)


def compare(
    where: str,
    model: Module,
    framework: str,
    run: Callable[[npt.NDArray[Any]], Sequence[npt.ArrayLike]],
) -> None:
    """Run both on random input and report; ``run`` goes from the model's input to its outputs."""
    x = random_input(model)
    report(where, framework, outputs_of(model, x), run(x))


def report(
    where: str,
    framework: str,
    ours: Sequence[npt.NDArray[Any]],
    theirs: Sequence[npt.ArrayLike],
) -> None:
    """Print the largest absolute difference of two lists of outputs.

    Parameters
    ----------
    where : str
        The public function that was asked to check.
    framework : str
        The name and version of what the second ones come from.
    ours, theirs : sequence of array
        y, and h_n where both have it.

    Raises
    ------
    ValueError
        When they differ by more than rounding explains.
    """
    largest = 0.0
    for a, b in zip(ours, map(np.asarray, theirs), strict=False):
        if a.shape != b.shape:
            raise ValueError(
                f"{where}: {framework} gives shape {b.shape} where the imported model gives "
                f"{a.shape}"
            )
        if a.size:
            largest = max(largest, float(np.abs(a.astype(np.float64) - b).max()))
    allowed = ALLOWED[ours[0].dtype.name]
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
