# SPDX-License-Identifier: MIT
"""Sequences that a model writes itself: what it gives at one step is its input at the next.

The state is carried from step to step, so a step costs one step however much has been written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru.activations import Softmax, last_activation
from pygru.checks import (
    FloatArray,
    FloatDType,
    IntArray,
    Random,
    as_generator,
    as_integers,
    as_lengths,
    as_number,
    as_real,
    check_bytes,
)
from pygru.ragged import padded

__all__ = [
    "Feed",
    "Step",
    "as_prompt",
    "as_temperature",
    "class_feed",
    "unlisted",
    "value_feed",
    "write",
]

Array: TypeAlias = npt.NDArray[Any]

# (B, O) that a model gave for one step -> its next input: (B,) classes or (B, I) values
Feed: TypeAlias = Callable[[FloatArray], Array]
# What runs one step from a state: (B,) or (B, I), state -> (B, O), state
Step: TypeAlias = Callable[[Array, list[FloatArray]], tuple[FloatArray, list[FloatArray]]]


def as_temperature(where: str, temperature: float | None, classes: bool, default: float) -> float:
    """Return a temperature: a number of at least 0, for classes only."""
    if temperature is None:
        return default
    if not classes:
        raise ValueError(
            f"{where}: temperature must be None for real values, which are fed back as they are, "
            f"got {temperature}"
        )
    valid = "a number >= 0"
    if not 0.0 <= as_number(where, "temperature", temperature, valid) < np.inf:
        raise ValueError(f"{where}: temperature must be {valid}, got {temperature}")
    return float(temperature)


def unlisted(
    where: str, x: Any, lengths: npt.ArrayLike | None, classes: bool, time: int
) -> tuple[Any, npt.ArrayLike | None]:
    """Return x and lengths; of a list of sequences one array, and theirs.

    Nested lists of equal lengths are an array that was padded already where lengths say so.
    """
    listed = padded(x, time)
    if listed is None or listed[0].ndim != (2 if classes else 3):
        return x, lengths
    if lengths is None:
        return listed
    if np.ptp(listed[1]) > 0:
        raise ValueError(f"{where}: lengths must be None for a list of sequences, got some")
    return x, lengths


def as_prompt(
    where: str,
    prompt: npt.ArrayLike,
    lengths: npt.ArrayLike | None,
    classes: bool,
    dtype: FloatDType,
    time: int,
) -> tuple[Array, IntArray | None, bool]:
    """Return a batch of prompts with time as axis ``time``, lengths, and whether it was a batch."""
    prompt, lengths = unlisted(where, prompt, lengths, classes, time)
    x: Array = (
        as_integers(where, "prompt", prompt) if classes else as_real(where, "prompt", prompt, dtype)
    )
    batch = 2 if classes else 3  # axes
    if x.ndim not in (batch, batch - 1):
        axes = "(B, T" if time else "(T, B"
        features = ")" if classes else ", I)"
        raise ValueError(
            f"{where}: prompt must have shape {axes}{features} or (T{features}, got {x.shape}"
        )
    batched = x.ndim == batch
    T, B = (x.shape[time], x.shape[1 - time]) if batched else (x.shape[0], 1)
    ends = None if lengths is None else as_lengths(where, lengths, T, (B,) if batched else ())
    if B == 0:
        raise ValueError(f"{where}: prompt must hold at least one sequence, got shape {x.shape}")
    if T == 0 or (ends is not None and not ends.all()):
        raise ValueError(f"{where}: prompt must hold at least one step, got an empty one")
    return x if batched else np.expand_dims(x, 1 - time), ends, batched


def class_feed(where: str, count: int, temperature: float, rng: Random, model: Any) -> Feed:
    """Draw the next of ``count`` classes from softmax(y / temperature); 0 takes the likeliest.

    Where the model ends in Softmax, log y is in the place of y.
    """
    probabilities = isinstance(last_activation(model), Softmax)
    generator = as_generator(where, rng)

    def feed(y: FloatArray) -> Array:
        if y.shape[-1] > count:
            raise ValueError(
                f"{where}: the model must give at most as many classes as it takes, {count}, "
                f"got {y.shape[-1]}"
            )
        _check_finite(where, y)
        if temperature == 0.0:
            return np.asarray(y.argmax(axis=-1))
        scores = y.astype(np.float64)
        if probabilities:
            with np.errstate(divide="ignore"):  # log 0 is a score, too
                np.log(scores, out=scores)
        scores -= scores.max(axis=-1, keepdims=True)
        with np.errstate(over="ignore"):  # to -inf
            scores /= temperature
        cumulated = np.exp(scores).cumsum(axis=-1)  # (B, C), not divided by its last column
        threshold = generator.random((len(y), 1)) * cumulated[:, -1:]
        drawn = (cumulated <= threshold).sum(axis=-1)
        return np.asarray(np.minimum(drawn, y.shape[-1] - 1))

    return feed


def value_feed(where: str, features: int) -> Feed:
    """Feed back the values themselves, which must be as many as go in."""

    def feed(y: FloatArray) -> Array:
        if y.shape[-1] != features:
            raise ValueError(
                f"{where}: the model must give as many values per step as it takes, {features}, "
                f"got {y.shape[-1]}"
            )
        _check_finite(where, y)
        return y

    return feed


def _check_finite(where: str, y: FloatArray) -> None:
    if not np.isfinite(y).all():
        raise FloatingPointError(f"{where}: the model gave NaN or infinity")


def write(
    where: str,
    step: Step,
    feed: Feed,
    y: FloatArray,
    state: list[FloatArray],
    *,
    steps: int,
    end: int | None = None,
) -> Array:
    """Write ``steps`` steps after one that gave ``y`` (B, O): (B, steps) or (B, steps, O).

    A sequence is over with the class ``end``; the rest of it is filled with that, and nothing is
    computed any more when all are over.
    """
    now = feed(y)
    check_bytes(where, "steps", now.size * steps, now.dtype)
    written = np.full((len(now), steps, *now.shape[1:]), 0 if end is None else end, now.dtype)
    going = np.ones(len(now), bool)
    for t in range(steps):
        if t > 0:
            y, state = step(now, state)
            now = feed(y)
        written[going, t] = now[going]
        if end is not None:
            going &= now != end
            if not going.any():
                break
    return written
