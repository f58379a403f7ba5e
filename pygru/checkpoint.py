# SPDX-License-Identifier: MIT
"""One file with all that a training needs to go on as if it had never stopped, bit for bit.

A checkpoint is safetensors: the parameters, those of the best epoch and the optimiser's state as
flat arrays, everything else (settings, schedule, generators, history) as JSON in the metadata,
whose numbers are exact. It is written beside its place and then renamed, so that a half-written one
never replaces a good one. Nothing in it is ever executed.

Depends on files, modules, optimisers and schedules; safetensors is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

from pygru import _core, checks
from pygru.files import (
    CHECKPOINT,
    PathLike,
    as_path,
    check_writable,
    read_safetensors,
    write_beside,
)
from pygru.history import EpochRecord, History
from pygru.module import Module
from pygru.optim import Optimizer
from pygru.schedules import Schedule

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Checkpoint", "Snapshot", "summary"]

Array: TypeAlias = npt.NDArray[Any]

_PLAIN = (bool, int, float, str, type(None))  # what reads the same in every process


class Snapshot(NamedTuple):
    """How far a training had come; everything else goes straight to where it belongs."""

    epochs: list[EpochRecord]
    best: Array  # (P,)  parameters after the best epoch


class Checkpoint:
    """The file of one training, and the objects whose state it holds.

    Parameters
    ----------
    path : path-like
    model : Module
    optimizer : Optimizer
    schedule : Schedule or None
    rng : Generator
        What `fit` draws batches from.
    settings : mapping of str to object
        What else decides the bits of the training: functions and numbers by name.

    Raises
    ------
    OSError
        There is no such folder, or the file cannot be written there.
    TypeError
        The model is not a Module, whose state is known, or `path` is no path.
    """

    def __init__(
        self,
        path: PathLike,
        *,
        model: Module,
        optimizer: Optimizer,
        schedule: Schedule | None,
        rng: np.random.Generator,
        settings: Mapping[str, object],
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(
                f"fit: model must be a Module to go into a checkpoint, got {type(model).__name__}"
            )
        self.path = as_path("fit", "checkpoint", path)
        self._model, self._optimizer, self._schedule = model, optimizer, schedule
        self._rng = rng
        self._facts = self._list_facts(settings)  # now, because a training changes learning rates
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"fit: checkpoint must be in a folder that exists, got {self.path}"
            )
        if not self.path.exists():
            check_writable(self.path)  # now, and not after an epoch

    def save(self, snapshot: Snapshot) -> None:
        """Write everything, or leave the file as it was."""
        import json

        from safetensors.numpy import save

        arrays = {"params": self._model.flat_params, "best": snapshot.best}
        state = self._state()
        for name in self._optimizer.slots:
            if name in state["optimizer"]:
                arrays[f"optimizer.{name}"] = state["optimizer"].pop(name)
        state["epochs"] = [_plain(record) for record in snapshot.epochs]
        metadata = {
            "format": CHECKPOINT,
            "pygru": _core.__version__,
            "of": json.dumps(self._facts),
            "state": json.dumps(state, default=_as_list),
        }
        write_beside(self.path, save(arrays, metadata))

    def load(self) -> Snapshot:
        """Put everything back into its place; on any error nothing.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is not a checkpoint or not a whole one, or is of another version of pygru or of
            another training; the message says what differs.
        """
        import json

        problem = f"fit: checkpoint {self.path} is not a whole safetensors file"
        arrays, metadata = read_safetensors(self.path, problem)
        if metadata.get("format") != CHECKPOINT:
            raise ValueError(
                f"fit: {self.path} must be a checkpoint, got a file that fit did not write"
            )
        if metadata.get("pygru") != _core.__version__:
            raise ValueError(
                f"fit: checkpoint {self.path} must be of this version of pygru, "
                f"{_core.__version__}, to go on exactly, got one of {metadata.get('pygru')}"
            )
        try:
            differences = _differences(json.loads(metadata["of"]), self._facts)
            state = json.loads(metadata["state"])
            if not differences:
                return self._take_over(arrays, state)
        except _CORRUPT as error:
            raise ValueError(f"fit: checkpoint {self.path} is corrupt: {error}") from error
        raise ValueError(
            f"fit: checkpoint {self.path} must be of this training, but "
            + "; ".join(checks.first_few(differences))
        )

    def _take_over(self, arrays: dict[str, Array], state: dict[str, Any]) -> Snapshot:
        """Check what a file holds and put it into its place; on any error everything stays."""
        self._check_arrays(arrays)
        params, best = arrays.pop("params"), arrays.pop("best")
        state["optimizer"] |= {k.removeprefix("optimizer."): a for k, a in arrays.items()}
        epochs = [_record(at, *values) for at, values in enumerate(state["epochs"], start=1)]
        if not epochs:
            raise ValueError("it must hold at least one epoch")
        # Only NumPy's generators and the schedule know what they can take, and they may find out
        # half-way.
        before = self._state()
        try:
            self._set_state(state)
        except BaseException:
            self._set_state(before)
            raise
        np.copyto(self._model.flat_params, params)
        return Snapshot(epochs, best)

    def _check_arrays(self, arrays: dict[str, Array]) -> None:
        """Refuse arrays that are not as the parameters are, and parameters that are not finite."""
        like = self._model.flat_params
        shapes = {array.shape for array in arrays.values()}
        if shapes != {like.shape}:
            raise ValueError(f"arrays of shapes {sorted(shapes)}")
        for name, array in arrays.items():
            if array.dtype != like.dtype:
                raise ValueError(f"{name} must be of dtype {like.dtype}, got {array.dtype}")
            if name in ("params", "best") and not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite, got NaN or infinity")

    def _state(self) -> dict[str, Any]:
        """Return the state of everything that has one, but for the parameters."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "rng": self._rng.bit_generator.state,
            "model_rng": self._model.rng_state(),
        }

    def _set_state(self, state: dict[str, Any]) -> None:
        checks.check_generator_state("fit", "rng", self._rng, state["rng"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"])
        self._rng.bit_generator.state = state["rng"]
        self._model.load_rng_state(state["model_rng"])

    def _list_facts(self, settings: Mapping[str, object]) -> dict[str, list[str]]:
        """Return what must be equal on both sides, for one training to go on with the other's."""
        schedule = {} if self._schedule is None else self._schedule.state_dict()
        return {
            "model": repr(self._model).splitlines(),
            "parameters": [f"{self._model.flat_params.size} {self._model.dtype}"],
            "optimizer": _described(self._optimizer),
            "schedule": [*_described(self._schedule), *sorted(schedule)],
            "generators": _listed({"fit": self._rng, **self._model._generators()}),
            **{name: _described(value) for name, value in settings.items()},
        }


# What data that somebody has changed may lead to.
_CORRUPT = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _listed(generators: Mapping[str, np.random.Generator]) -> list[str]:
    """Return of what kind each generator is, and which of those before it is the same one."""
    first: dict[int, str] = {}
    result = []
    for at, generator in generators.items():
        bits = generator.bit_generator
        shared = first.setdefault(id(bits), at)
        kind = type(bits).__name__
        result.append(f"{at} {kind}" if shared == at else f"{at} {kind} shared with {shared}")
    return result


def summary(path: Path) -> str:
    """Return in lines what a checkpoint is of: the model, how far it came, how to go on.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no checkpoint, or not a whole one.
    """
    import json

    _, metadata = read_safetensors(path, f"checkpoint {path} is not a whole safetensors file")
    try:
        facts, epochs = json.loads(metadata["of"]), json.loads(metadata["state"])["epochs"]
        history = History([_record(at, *values) for at, values in enumerate(epochs, start=1)])
        model, (size, dtype) = "\n".join(facts["model"]), facts["parameters"][0].split()
        best = history.best
        if best is None:
            raise ValueError("it must hold at least one epoch")
        which = "loss" if best.validation is None else "validation loss"
        done = f"{len(history.epochs)} epoch" + "s" * (len(history.epochs) > 1)
        return (
            f"{model}\n{int(size):,} parameters of {dtype}\n"
            f"a training by fit, {done} so far; best {which} {best.monitored:.4g} "
            f"in epoch {best.epoch}\n"
            "fit(..., checkpoint=..., resume=True) goes on with it"
        )
    except KeyError as error:
        raise ValueError(f"checkpoint {path} is corrupt: it has no {error}") from error
    except _CORRUPT as error:
        raise ValueError(f"checkpoint {path} is corrupt: {error}") from error


def _described(thing: object, at: str = "") -> list[str]:
    """Return the name of a function or class, and its settings."""
    if isinstance(thing, (*_PLAIN, tuple)):
        return [_told(thing)]
    named, settings = thing, {}
    if isinstance(thing, partial):
        named, settings = thing.func, thing.keywords
    elif isinstance(thing, Optimizer):
        settings = {name: getattr(thing, name) for name in thing.settings}
    elif not hasattr(thing, "__name__"):
        remembered = thing.state_dict() if isinstance(thing, Schedule) else {}
        public = {k: v for k, v in getattr(thing, "__dict__", {}).items() if not k.startswith("_")}
        settings = {name: value for name, value in public.items() if name not in remembered}
    lines = [f"{at}{getattr(named, '__name__', type(named).__name__)}"]
    for name, value in settings.items():
        if isinstance(value, (Schedule, partial)):
            lines += _described(value, f"{at}{name}.")
        else:
            lines.append(f"{at}{name}={_told(value)}")
    return lines


def _told(value: object) -> str:
    """Return a setting as every process tells it: of an array a checksum, of an object a name."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype} {value.shape} of checksum {crc32(value.tobytes()):08x}"
    if isinstance(value, Mapping):
        value = tuple(value.items())
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_told, value))}{',' * (len(value) == 1)})"
    return getattr(value, "__name__", type(value).__name__)


def _differences(saved: dict[str, list[str]], here: dict[str, list[str]]) -> list[str]:
    """Return one sentence for every run of lines that is not the same."""
    from difflib import SequenceMatcher

    sentences = []
    for name, ours in here.items():
        theirs = saved[name]
        for tag, i, i_end, j, j_end in SequenceMatcher(None, theirs, ours, False).get_opcodes():
            there, now = _quoted(theirs[i:i_end]), _quoted(ours[j:j_end])
            if tag == "replace":
                sentences.append(f"its {name} has {there}, not {now}")
            elif tag == "delete":
                sentences.append(f"its {name} has {there} besides")
            elif tag == "insert":
                sentences.append(f"its {name} lacks {now}")
    return sentences


def _quoted(lines: list[str]) -> str:
    """Return lines of a model or of settings as one."""
    return ", ".join(checks.first_few([line.strip().removesuffix(",") for line in lines]))


def _record(at: int, *values: Any) -> EpochRecord:
    """Return the record of an epoch if it can be one."""
    where, record = f"epoch {at}", EpochRecord(*values)
    if record.epoch != at:
        raise ValueError(f"{where} must have its number, got {record.epoch!r}")
    checks.as_size(where, "steps", record.steps)
    numbers = record.row()
    if record.validation is None:
        del numbers["validation"]
    for name, value in numbers.items():
        checks.as_number(where, name, value)  # type: ignore[arg-type]
    return record


def _plain(record: EpochRecord) -> list[Any]:
    """Return a record as JSON can hold it."""
    return [dict(value) if isinstance(value, Mapping) else value for value in record]


def _as_list(value: Any) -> Any:
    """Make JSON of NumPy's arrays and numbers, which some generators have in their state."""
    return value.tolist()
