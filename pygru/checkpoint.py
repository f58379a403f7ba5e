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
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.files import PathLike, read_safetensors, write_beside
from pygru.history import EpochRecord
from pygru.module import Module
from pygru.optim import Optimizer
from pygru.schedules import Schedule

__all__ = ["Checkpoint", "Snapshot"]

Array: TypeAlias = npt.NDArray[Any]

FORMAT = "pygru checkpoint"


class Snapshot(NamedTuple):
    """How far a training had come; everything else goes straight to where it belongs."""

    epochs: list[EpochRecord]
    best: Array  # (P,)  parameters after the best epoch
    base_lr: float  # what the schedule is a factor on


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

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    TypeError
        The model is not a Module, whose state is known.
    """

    def __init__(
        self,
        path: PathLike,
        *,
        model: Module,
        optimizer: Optimizer,
        schedule: Schedule | None,
        rng: np.random.Generator,
    ) -> None:
        from pathlib import Path

        if not isinstance(model, Module):
            raise TypeError(
                f"fit: model must be a Module to go into a checkpoint, got {type(model).__name__}"
            )
        self.path = Path(path)
        self._model, self._optimizer, self._schedule = model, optimizer, schedule
        self._rng = rng
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"fit: checkpoint must be in a folder that exists, got {self.path}"
            )

    def save(self, snapshot: Snapshot) -> None:
        """Write everything, or leave the file as it was."""
        import json

        from safetensors.numpy import save

        arrays = {"params": self._model.flat_params, "best": snapshot.best}
        optimizer = self._optimizer.state_dict()
        for name in self._optimizer.slots:
            if name in optimizer:
                arrays[f"optimizer.{name}"] = optimizer.pop(name)
        state = {
            "optimizer": optimizer,
            "base_lr": snapshot.base_lr,
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "rng": self._rng.bit_generator.state,
            "model_rng": self._model.rng_state(),
            "epochs": [_plain(record) for record in snapshot.epochs],
        }
        metadata = {
            "format": FORMAT,
            "pygru": _core.__version__,
            "of": json.dumps(self._facts()),
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
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"fit: {self.path} must be a checkpoint, got a file that fit did not write"
            )
        if metadata.get("pygru") != _core.__version__:
            raise ValueError(
                f"fit: checkpoint {self.path} must be of this version of pygru, "
                f"{_core.__version__}, to go on exactly, got one of {metadata.get('pygru')}"
            )
        try:
            differences = _differences(json.loads(metadata["of"]), self._facts())
            state = json.loads(metadata["state"])
            epochs = [EpochRecord(*record) for record in state["epochs"]]
            optimizer = state["optimizer"]
            params, best = arrays.pop("params"), arrays.pop("best")
            optimizer |= {k.removeprefix("optimizer."): array for k, array in arrays.items()}
            result = Snapshot(epochs, best, float(state["base_lr"]))
            sizes = {array.shape for array in (*arrays.values(), params, best)}
            if not differences and sizes != {self._model.flat_params.shape}:
                raise ValueError(f"arrays of shapes {sorted(sizes)}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"fit: checkpoint {self.path} is corrupt: {error}") from error
        if differences:
            raise ValueError(
                f"fit: checkpoint {self.path} must be of this training, but "
                + "; ".join(differences)
            )
        self._optimizer.load_state_dict(optimizer)
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"])
        self._rng.bit_generator.state = state["rng"]
        self._model.load_rng_state(state["model_rng"])
        np.copyto(self._model.flat_params, params)
        return result

    def _facts(self) -> dict[str, Any]:
        """Return what must be equal on both sides, for the state of one to fit the other."""
        generators = {"": self._rng.bit_generator.state, **self._model.rng_state()}
        return {
            "model": repr(self._model).splitlines(),
            "parameters": [f"{self._model.flat_params.size} {self._model.dtype}"],
            "optimizer": [type(self._optimizer).__name__],
            "schedule": [
                type(self._schedule).__name__,
                *sorted({} if self._schedule is None else self._schedule.state_dict()),
            ],
            "generators": [f"{at} {s['bit_generator']}".strip() for at, s in generators.items()],
        }


def _differences(saved: dict[str, list[str]], here: dict[str, list[str]]) -> list[str]:
    """Return one sentence for every line that is not the same."""
    return [
        f"its {name} has {_quoted(theirs)}, not {_quoted(ours)}"
        for name, lines in here.items()
        for theirs, ours in zip_longest(saved[name], lines)
        if theirs != ours
    ]


def _quoted(line: str | None) -> str:
    return "nothing more" if line is None else line.strip().removesuffix(",")


def _plain(record: EpochRecord) -> list[Any]:
    """Return a record as JSON can hold it."""
    return [dict(value) if isinstance(value, Mapping) else value for value in record]


def _as_list(value: Any) -> Any:
    """Make JSON of NumPy's arrays and numbers, which some generators have in their state."""
    return value.tolist()
