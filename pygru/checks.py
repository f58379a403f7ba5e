# SPDX-License-Identifier: MIT
"""What every layer asks of its arguments, and the words it uses when they do not fit.

Each check takes ``where``, the function the user called, so that a message reads
``where: argument must be ..., got ...``. A wrong kind is a TypeError, a wrong shape or value a
ValueError. An array that is already right is returned as it is, without a copy.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from reprlib import repr as short
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.int64]
FloatDType: TypeAlias = np.dtype[np.floating[Any]]

# What ``rng=`` takes everywhere: a seed, a generator, or None for fresh entropy. (Quoted, because
# NumPy imports numpy.random when it is first named, and importing pygru should not wait for that.)
Random: TypeAlias = "int | np.random.Generator | None"

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_NUMBERS = (float, int, np.floating, np.integer)
_MOST_LISTED = 20
LARGEST = np.iinfo(np.intp).max  # bytes in one array, hence the limit of every product of sizes


def as_array(where: str, name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return ``value`` as an array of whatever it holds; masks within a list are not looked for."""
    if type(value) is np.ndarray:
        return value
    # What a module reads; of other lists of arrays each may have its own meaning.
    if name == "x" and isinstance(value, tuple) and any(type(v) is np.ndarray for v in value):
        raise TypeError(
            f"{where}: x must be one array, got a tuple of {len(value)}; of what a recurrent layer "
            "gives, (y, h_n), hand on y"
        )
    check_unmasked(where, name, value)
    try:
        return np.asarray(value)
    except ValueError:
        if not isinstance(value, (list, tuple)):  # what its own __array__ says
            raise
        raise ValueError(
            f"{where}: {name} must be one array, got nested sequences of unequal lengths"
        ) from None


def check_unmasked(where: str, name: str, value: object) -> None:
    """Refuse an array with masked elements, which would silently count as their values."""
    if type(value) is np.ndarray or not isinstance(value, np.ndarray):
        return
    if np.ma.is_masked(value):
        raise ValueError(f"{where}: {name} must have no masked elements, got some in {value.shape}")


def as_real(where: str, name: str, value: npt.ArrayLike, dtype: FloatDType) -> FloatArray:
    """Return ``value`` in ``dtype``, its last axis as the kernels want it: unit stride, aligned."""
    if type(value) is np.ndarray and value.dtype == dtype:
        array: FloatArray = value
    else:
        array = as_array(where, name, value)
        check_real(where, name, array)
        array = array.astype(dtype, copy=False)
    flags = array.flags
    if flags.aligned and (
        flags.c_contiguous or array.strides[-1] == array.itemsize or array.shape[-1] <= 1
    ):
        return array
    return np.array(array, order="C")


def check_real(where: str, name: str, array: npt.NDArray[Any]) -> None:
    """Refuse text, complex numbers and objects, which pandas makes of its nullable types."""
    if array.dtype.kind not in "fiub":
        hint = "; a pandas table gives them by to_numpy(dtype=float)"
        raise TypeError(
            f"{where}: {name} must hold real numbers, got dtype {array.dtype}"
            + hint * (array.dtype == object)
        )


def as_buffer(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a flat array from a pickle as one to compute in.

    Buffers that a pickle leaves apart (protocol 5) may lie at any address, in read-only memory that
    processes share.
    """
    return np.require(array, requirements=("ALIGNED", "WRITEABLE", "ENSUREARRAY"))


def as_values(where: str, name: str, value: npt.ArrayLike, dtype: FloatDType) -> FloatArray:
    """Return what `as_real` does; a finite number that ``dtype`` has no room for is an error."""
    given = as_array(where, name, value)
    with np.errstate(over="ignore"):
        array = as_real(where, name, given, dtype)
    if array is not given:
        lost = np.isinf(array) & np.isfinite(given)
        if lost.any():
            index = tuple(np.argwhere(lost)[0].tolist())
            raise ValueError(
                f"{where}: {name} must be finite in {dtype}, got {given[index]} at index {index}"
            )
    return array


def as_floating(where: str, name: str, value: npt.ArrayLike) -> FloatArray:
    """Return ``value`` as float64 when it has that precision, else as float32."""
    array = as_array(where, name, value)
    wide = array.dtype.kind == "f" and array.itemsize >= 8
    return as_real(where, name, array, _FLOAT64 if wide else _FLOAT32)


def as_bool(where: str, name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False, or 1 or 0."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{where}: {name} must be True or False, got {value!r}")


def as_integers(where: str, name: str, value: npt.ArrayLike) -> npt.NDArray[np.integer[Any]]:
    """Return ``value`` as integers; floats are an error even where they happen to be whole."""
    array = as_array(where, name, value)
    if array.size == 0 and array.dtype.kind == "f":  # what NumPy makes of []
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{where}: {name} must hold integers, got dtype {array.dtype}")
    return array


def as_classes(
    where: str, name: str, value: npt.ArrayLike, count: int
) -> npt.NDArray[np.integer[Any]]:
    """Return ``value`` as integers in 0 .. K-1 for K = ``count`` classes."""
    array = as_integers(where, name, value)
    if array.size and (array.min() < 0 or array.max() >= count):
        wrong = array[(array < 0) | (array >= count)]
        raise ValueError(
            f"{where}: {name} must hold integers in 0 .. K-1 = {count - 1}, got {wrong.flat[0]}"
        )
    return array


def as_lengths(
    where: str,
    lengths: npt.ArrayLike,
    steps: int,
    batch: tuple[int, ...],
    name: str = "lengths",
) -> IntArray:
    """Return one length per sequence, 0 <= length <= T, as a fresh (B,) array.

    ``batch`` is (B,), or () for one unbatched sequence, whose length is a plain integer.
    """
    array = as_integers(where, name, lengths)
    if array.shape != batch:
        symbols = "(B,)" if batch else "()"
        raise ValueError(f"{where}: {name} must have shape {symbols} = {batch}, got {array.shape}")
    if array.size and (array.min() < 0 or array.max() > steps):
        b = int(np.argmax((array < 0) | (array > steps)))
        raise ValueError(
            f"{where}: {name} must satisfy 0 <= length <= T = {steps}, "
            f"got {array.reshape(-1)[b]} at index {b}"
        )
    return array.astype(np.int64).reshape(-1)


def time_first(array: FloatArray, batch_first: bool | None) -> FloatArray:
    """Return a (T, B, ...) view of (B, T, ...), of (T, B, ...) or, unbatched, of (T, K)."""
    if array.ndim == 2:
        return array[:, np.newaxis]
    return array.swapaxes(0, 1) if batch_first else array


def as_size(where: str, name: str, value: int, most: int | None = None) -> int:
    """Return a size: an integer of at least 1, and of at most ``most``."""
    return _as_integer(where, name, value, 1, most)


def as_count(where: str, name: str, value: int, most: int | None = None) -> int:
    """Return a count: an integer of at least 0, and of at most ``most``."""
    return _as_integer(where, name, value, 0, most)


def _as_integer(where: str, name: str, value: int, least: int, most: int | None) -> int:
    valid = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
    try:
        integer = operator.index(value)
    except TypeError:
        integer = None
    if integer is None or isinstance(value, bool):
        raise TypeError(f"{where}: {name} must be {valid}, got {value!r}")
    if integer < least or (most is not None and integer > most):
        raise ValueError(f"{where}: {name} must be {valid}, got {value}")
    return integer


def as_number(where: str, name: str, value: float, valid: str = "a number") -> float:
    """Return a real number; ``valid`` says which ones the caller goes on to accept."""
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise TypeError(f"{where}: {name} must be {valid}, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f"{where}: {name} must be {valid} and fit in a float, got an integer beyond 1.8e308"
        ) from None


def as_finite(where: str, name: str, value: float) -> float:
    """Return a real number that is neither NaN nor infinite."""
    number = as_number(where, name, value)
    if not math.isfinite(number):
        raise ValueError(f"{where}: {name} must be finite, got {value}")
    return number


def as_probability(where: str, name: str, value: float) -> float:
    """Return a probability: a real number from 0 to 1."""
    valid = "a number from 0 to 1"
    if not 0.0 <= as_number(where, name, value, valid) <= 1.0:
        raise ValueError(f"{where}: {name} must be {valid}, got {value}")
    return float(value)


def as_positive(where: str, name: str, value: float) -> float:
    """Return a real number above 0; infinity is one."""
    if not as_number(where, name, value, "a number above 0") > 0.0:
        raise ValueError(f"{where}: {name} must be above 0, got {value}")
    return float(value)


def check_generator_state(where: str, name: str, rng: np.random.Generator, state: Any) -> None:
    """Refuse what a generator of this kind cannot go on from."""
    kind = type(rng.bit_generator)
    trial = kind()
    try:
        trial.state = state
        now = trial.state
        # Where the next number comes from, which NumPy does not check.
        for at, most in ((now["state"].get("pos", 0), 624), (now.get("buffer_pos", 0), 4)):
            if not 0 <= at <= most:
                raise ValueError(f"a position must be from 0 to {most}, got {at}")
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: {name} must be the state of a {kind.__name__}, got {short(state)}"
        ) from error


def as_state(where: str, state: Mapping[str, Any], name: str = "state_dict") -> Mapping[str, Any]:
    """Return a state, what `state_dict` returned, if it maps names to values."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{where}: {name} must map names to values, got {type(state).__name__}")
    return state


def check_names(where: str, state_dict: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse a state with other entries than these."""
    wanted = set(names)
    missing = sorted(wanted - state_dict.keys())
    unknown = sorted(state_dict.keys() - wanted, key=str)
    if missing or unknown:
        raise ValueError(
            f"{where}: state_dict must hold {sorted(wanted)}, got one with missing {missing}, "
            f"unknown {listed(unknown)}"
        )


def listed(names: Sequence[str]) -> str:
    """Return names as an error prints a list of them, as many as it can."""
    more = len(names) - _MOST_LISTED
    return f"{list(names[:_MOST_LISTED])}" + f" and {more} more" * (more > 0)


def first_few(names: Sequence[str]) -> list[str]:
    """Return as many as an error can list, the last one telling how many more there are."""
    more = len(names) - _MOST_LISTED
    return [*names[:_MOST_LISTED], f"and {more} more"] if more > 0 else list(names)


def as_float_dtype(where: str, dtype: npt.DTypeLike | None) -> FloatDType:
    """Return float32 or float64, the two precisions the kernels exist in."""
    try:
        result = np.dtype(dtype)
    except (SyntaxError, TypeError, ValueError):
        raise TypeError(f"{where}: dtype must be float32 or float64, got {dtype!r}") from None
    if dtype is None or result not in (np.float32, np.float64):
        got = dtype if dtype is None else result
        raise TypeError(f"{where}: dtype must be float32 or float64, got {got}")
    # NumPy's own object, which an array's dtype is compared with at a glance.
    return _FLOAT32 if result == _FLOAT32 else _FLOAT64


def as_choice(where: str, name: str, value: object, choices: Iterable[str]) -> str:
    """Return one of a few words."""
    choices = tuple(choices)
    if not isinstance(value, str):
        raise TypeError(f"{where}: {name} must be one of {choices}, got {value!r}")
    if value not in choices:
        raise ValueError(f"{where}: {name} must be one of {choices}, got {value!r}")
    return value


def as_generator(where: str, rng: Random) -> np.random.Generator:
    """Return a generator as it is, or a new one of a seed."""
    random = np.random
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        if rng < 0:
            raise ValueError(f"{where}: rng must be an int of at least 0, got {rng}")
    elif not isinstance(
        rng, (random.Generator, random.BitGenerator, random.SeedSequence, type(None))
    ):
        raise TypeError(f"{where}: rng must be an int, a Generator or None, got {short(rng)}")
    return random.default_rng(rng)


def check_bytes(where: str, what: str, count: int, dtype: np.dtype[Any]) -> None:
    """Refuse ``count`` elements whose size in bytes no array can have."""
    if count * dtype.itemsize > LARGEST:
        raise ValueError(
            f"{where}: {what} must fit in one array of at most {LARGEST} bytes, "
            f"got {count} elements of {dtype.itemsize} bytes"
        )
