# SPDX-License-Identifier: MIT
"""A training goes on from a checkpoint only with the settings it had, and an error names others."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resumable import EPOCHS, Run, finished, refused
from safetensors.numpy import save_file

import pygru
from pygru import data, losses, optim, schedules
from pygru.files import read_safetensors


def test_a_checkpoint_of_another_training_says_what_differs(tmp_path: Path) -> None:
    path = finished(tmp_path)
    refused(Run(hidden=6), path, r"its model has GRU.*hidden_size=5.*, not GRU.*hidden_size=6")
    refused(Run(hidden=6), path, r"parameters has \d+ float32, not \d+ float32")
    other = Run()
    other.optimizer = optim.RMSprop(0.01)
    refused(other, path, "its optimizer has Adam, not RMSprop")
    other = Run()
    other.schedule = schedules.CosineDecay(5)
    refused(other, path, "its schedule has WarmUp, epochs=.*, not CosineDecay, epochs=5")
    refused(Run(bit_generator=np.random.SFC64), path, "its generators has fit PCG64, not fit SFC64")
    longer = Run()
    model = longer.model
    longer.model = pygru.Sequential(model, pygru.Linear(1, 1))
    refused(longer, path, "must be of this training, but its model ")


def test_a_module_more_or_less_is_all_that_is_told(tmp_path: Path) -> None:
    plain, with_tanh = (
        pygru.Sequential(pygru.RNN(1, 2, batch_first=True), *between, pygru.Linear(2, 1))
        for between in ((), (pygru.Tanh(),))
    )
    for first, second, told in (
        (plain, with_tanh, "its model lacks Tanh()"),
        (with_tanh, plain, "its model has Tanh() besides"),
    ):
        path, X = tmp_path / f"{len(first)}", np.zeros((2, 3, 1))
        settings = {"loss": "mse", "epochs": 1, "verbose": 0, "checkpoint": path}
        pygru.fit(first, X, X, optimizer=pygru.Adam(), **settings)
        with pytest.raises(ValueError) as error:
            pygru.fit(second, X, X, optimizer=pygru.Adam(), resume=True, **settings)
        assert str(error.value).endswith(f"must be of this training, but {told}")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"optimizer": optim.Adam(0.5)}, r"its optimizer has lr=0\.01, not lr=0\.5$"),
        ({"optimizer": optim.Adam(0.01, (0.8, 0.9))}, r"betas=\(0\.9, 0\.999\), not .*\(0\.8, 0"),
        (
            {"schedule": schedules.WarmUp(1, schedules.ReduceOnPlateau(0.1, patience=0))},
            r"its schedule has then\.factor=0\.5, not then\.factor=0\.1$",
        ),
        (
            {"loss": "mae", "batch_size": 9},
            "loss has mse, not mae; its batch_size has 7, not 9$",
        ),
        ({"loss": partial(losses.huber, delta=0.1)}, r"its loss has mse, not huber, delta=0\.1$"),
        ({"metrics": "mae"}, r"its metrics has \('mae', 'rmse'\), not \('mae',\)$"),
        ({"sampler": data.ShuffledBatches()}, "its sampler has BucketedBatches, .*, not Shuffled"),
        ({"stateful": False}, "its stateful has True, not False$"),
        ({"clip_norm": 1.0}, r"its clip_norm has None, not 1\.0$"),
        ({"on_gradient": print}, "its on_gradient has False, not True$"),
        ({"validation": None}, r"its validation X has \(9, 8, 2\), not None; .* lengths has"),
    ],
)
def test_a_training_with_other_settings_says_which(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    refused(Run(), finished(tmp_path), r"run\.safetensors must be of this .*" + message, **changes)


def test_lengths_are_one_of_the_settings(tmp_path: Path) -> None:
    path, first, second = tmp_path / "run.safetensors", Run(), Run()
    first.X = second.X = np.ones((40, 8, 2))
    held_out = first.X, first.Y, [8] * 40
    first.fit(epochs=1, checkpoint=path, lengths=[8] * 40, validation=held_out)
    message = r"its lengths has \(40,\), not None; its validation lengths has \(40,\), not None$"
    refused(second, path, message, validation=held_out[:2])


def test_the_momentum_of_sgd_is_one_of_the_settings(tmp_path: Path) -> None:
    path, first, second = tmp_path / "run.safetensors", Run(), Run()
    first.optimizer, second.optimizer = optim.SGD(0.01, momentum=0.9), optim.SGD(0.01)
    first.fit(epochs=1, checkpoint=path)
    refused(second, path, r"run\.safetensors .* its optimizer has momentum=0\.9, not momentum=0\.0")


def test_settings_are_compared_as_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    whole, parts = Run(), Run()
    whole.fit(loss=lambda *a, **k: losses.mse(*a, **k))
    for epochs in (2, EPOCHS):  # the same objects twice, and a function without a name
        parts.fit(
            loss=lambda *a, **k: losses.mse(*a, **k), epochs=epochs, checkpoint=path, resume=True
        )
    assert parts.state() == whole.state()


class Weighted:
    """A loss with a setting of any kind."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights

    def __call__(self, *args: Any, **options: Any) -> Any:
        return losses.mse(*args, **options)


@pytest.mark.parametrize(
    "theirs, ours, message",
    [
        ([1.0, 2.0], [1.0, 3.0], r"weights=\(1\.0, 2\.0\), not weights=\(1\.0, 3\.0\)$"),
        ({0: 1.0}, {0: 2.0}, r"weights=\(\(0, 1\.0\),\), not weights=\(\(0, 2\.0\),\)$"),
        (np.ones(3), np.zeros(3), r"float64 \(3,\) of checksum \w{8}, not .* of checksum \w{8}$"),
        ((losses.mse, print), (losses.mae, print), r"=\(mse, print\), not .*\(mae, print\)$"),
        (
            partial(losses.huber, delta=2),
            losses.huber,
            r"weights\.huber, weights\.delta=2, not weights=huber$",
        ),
        (np.random.default_rng(0), None, "weights=Generator, not weights=None$"),
    ],
)
def test_settings_of_every_kind_are_compared(
    theirs: Any, ours: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    Run().fit(epochs=1, loss=Weighted(theirs), checkpoint=path)
    refused(Run(), path, f"its loss has .*{message}", loss=Weighted(ours))


def test_a_setting_that_holds_objects_does_not_stand_in_the_way(tmp_path: Path) -> None:
    path, run, objects = tmp_path / "run.safetensors", Run(), (object(), object())  # two addresses
    run.fit(epochs=1, loss=Weighted((objects[0],)), checkpoint=path)
    run.fit(epochs=2, loss=Weighted((objects[1],)), checkpoint=path, resume=True)
    assert len(run.history.epochs) == 2


def test_generators_that_were_one_must_be_one(tmp_path: Path) -> None:
    def train(shared: bool, **resume: Any) -> None:
        rng = np.random.default_rng(0)
        of_dropout = rng if shared else np.random.default_rng(0)
        model = pygru.Sequential(pygru.Linear(1, 4, rng=1), pygru.Dropout(0.5, rng=of_dropout))
        pygru.fit(
            model, np.ones((4, 1)), np.ones((4, 4)), loss="mse", optimizer=optim.Adam(), epochs=2,
            verbose=0, rng=rng, checkpoint=tmp_path / f"{shared}", **resume,
        )  # fmt: skip

    for shared in (True, False):
        train(shared)
        train(shared, resume=True)
    (tmp_path / "True").rename(tmp_path / "False")
    with pytest.raises(
        ValueError, match=r"its generators has 1\. PCG64 shared with fit, not 1\. PCG"
    ):
        train(False, resume=True)


@pytest.mark.parametrize("place", ["fit", "model"])
def test_a_position_outside_a_generators_numbers_is_corrupt(tmp_path: Path, place: str) -> None:
    path = tmp_path / "c"

    def train(**resume: Any) -> None:
        generators = [np.random.Generator(np.random.MT19937(seed)) for seed in range(2)]
        model = pygru.Sequential(pygru.Linear(1, 4, rng=1), pygru.Dropout(0.5, rng=generators[0]))
        pygru.fit(
            model, np.ones((4, 1)), np.ones((4, 4)), loss="mse", optimizer=optim.Adam(), epochs=2,
            verbose=0, rng=generators[1], checkpoint=path, **resume,
        )  # fmt: skip

    train()
    arrays, metadata = read_safetensors(path)
    state = json.loads(metadata["state"])
    (state["rng"] if place == "fit" else state["model_rng"]["1."])["state"]["pos"] = 10**8
    save_file(arrays, path, metadata | {"state": json.dumps(state)})
    with pytest.raises(ValueError, match=r"is corrupt: .* must be the state of a MT19937"):
        train(resume=True)


def test_data_nested_without_end_is_corrupt(tmp_path: Path) -> None:
    path = finished(tmp_path)
    arrays, metadata = read_safetensors(path)
    save_file(arrays, path, metadata | {"state": "[" * 100_000})
    refused(Run(), path, "is corrupt: maximum recursion depth")
