# SPDX-License-Identifier: MIT
"""A training with everything in it that has a state, to be stopped and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygru
from pygru import optim, schedules

EPOCHS = 6


class Run:
    """A training with everything in it that has a state."""

    def __init__(self, *, hidden: int = 5, seed: int = 0, bit_generator: Any = np.random.PCG64):
        gru = pygru.GRU(2, hidden, num_layers=2, dropout=0.2, batch_first=True, rng=seed)
        head = pygru.Linear(hidden, 1, rng=seed)
        self.model = pygru.Sequential(gru, pygru.Dropout(0.3, rng=seed), pygru.LastStep(), head)
        self.optimizer: Any = optim.Adam(0.01)
        self.schedule: Any = schedules.WarmUp(1, schedules.ReduceOnPlateau(0.5, patience=0))
        self.rng = np.random.Generator(bit_generator(seed))
        data = np.random.default_rng(1)
        self.X = [data.standard_normal((n, 2)) for n in data.integers(1, 9, 40)]
        self.Y = data.standard_normal((40, 1))

    def fit(self, **changes: Any) -> Any:
        settings: dict[str, Any] = {
            "loss": "mse",
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "epochs": EPOCHS,
            "batch_size": 7,
            "metrics": ["mae", "rmse"],
            "validation": (self.X[:9], self.Y[:9]),
            "verbose": 0,
            "rng": self.rng,
        }
        self.history = pygru.fit(self.model, self.X, self.Y, **(settings | changes))
        return self.history

    def state(self) -> dict[str, Any]:
        """Everything that must come out the same."""
        return {
            "params": self.model.flat_params.tolist(),
            "optimizer": {
                k: np.asarray(v).tolist() for k, v in self.optimizer.state_dict().items()
            },
            "schedule": self.schedule.state_dict(),
            "rng": str(self.rng.bit_generator.state),
            "model rng": str(self.model.rng_state()),
            "history": [record._replace(seconds=0) for record in self.history.epochs],
        }


def finished(tmp_path: Path) -> Path:
    path = tmp_path / "run.safetensors"
    Run().fit(epochs=1, checkpoint=path)
    return path


def refused(run: Run, path: Path, message: str, error: Any = ValueError, **changes: Any) -> None:
    """Resuming fails with this message, before a step, and changes neither run nor file."""
    run.history = pygru.History()
    before, content = run.state(), path.read_bytes()
    with pytest.raises(error, match=message):
        run.fit(checkpoint=path, **({"resume": True} | changes))
    assert run.state() == before
    assert path.read_bytes() == content
