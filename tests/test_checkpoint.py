# SPDX-License-Identifier: MIT
"""Stop and go on equals never stopped, bit for bit; and a bad checkpoint never does harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resumable import EPOCHS, Run, finished, refused
from safetensors.numpy import load_file, save_file

import pygru
from pygru import optim
from pygru.checkpoint import Checkpoint, summary


@pytest.fixture(scope="module")
def never_stopped() -> dict[str, Any]:
    run = Run()
    run.fit()
    return run.state()


@pytest.mark.parametrize("stop", range(1, EPOCHS + 1))
def test_stopping_between_epochs_changes_no_bit(
    stop: int, never_stopped: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    Run().fit(epochs=stop, checkpoint=path)
    other = Run(seed=9)  # other weights, other generators: all of it comes from the file
    history = other.fit(checkpoint=path, resume=True)
    assert other.state() == never_stopped
    assert [record.epoch for record in history.epochs] == list(range(1, EPOCHS + 1))
    assert other.optimizer.lr == 0.01


@pytest.mark.parametrize("step", [1, 10, 23])
def test_dying_at_any_step_changes_no_bit(
    step: int, never_stopped: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    steps: list[int] = []

    def die(_: Any) -> None:
        steps.append(1)
        if len(steps) == step:
            raise MemoryError

    with pytest.raises(MemoryError):
        Run().fit(checkpoint=path, on_gradient=die)
    other = Run()
    other.fit(checkpoint=path, resume=True, on_gradient=die)  # from the last epoch, or from none
    assert other.state() == never_stopped


@pytest.mark.parametrize("name", ["MT19937", "PCG64DXSM", "Philox", "SFC64"])
def test_every_generator_of_numpy_goes_on(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    whole, first, second = (Run(bit_generator=getattr(np.random, name)) for _ in range(3))
    whole.fit(epochs=2)
    first.fit(epochs=1, checkpoint=path)
    second.fit(epochs=2, checkpoint=path, resume=True)
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.SGD(0.01),
        lambda: optim.SGD(0.01, momentum=0.9, nesterov=True),
        lambda: optim.AdamW(0.01),
        lambda: optim.RMSprop(0.01),
    ],
)
def test_every_optimiser_goes_on_and_no_schedule_is_fine(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    whole, first, second = Run(), Run(), Run()
    for run in (whole, first, second):
        run.optimizer = make()
    whole.fit(epochs=2, schedule=None)
    first.fit(epochs=1, schedule=None, checkpoint=path)
    second.fit(epochs=2, schedule=None, checkpoint=path, resume=True)
    assert second.state() == whole.state()


def test_what_callbacks_change_is_in_the_checkpoint(tmp_path: Path) -> None:
    def shrink(record: Any, model: Any) -> None:
        model.flat_params[:] *= 0.9

    def end(record: Any, model: Any) -> bool:
        return record.epoch == 2

    path = tmp_path / "run.safetensors"
    whole, first, second = Run(), Run(), Run()
    whole.fit(epochs=3, callbacks=[shrink])
    first.fit(epochs=3, callbacks=[shrink, end], checkpoint=path)
    assert "2 epochs so far" in summary(path)
    second.fit(epochs=3, callbacks=[shrink], checkpoint=path, resume=True)
    assert second.state() == whole.state()


def test_early_stopping_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    whole, first, second = Run(), Run(), Run()
    settings: dict[str, Any] = {"epochs": 60, "patience": 3}
    whole.fit(**settings)
    stop = len(whole.history.epochs) - 2  # in the middle of waiting
    first.fit(**settings | {"epochs": stop}, checkpoint=path)
    second.fit(**settings, checkpoint=path, resume=True)
    assert len(whole.history.epochs) < 60
    assert second.state() == whole.state()
    # Once it has ended there is nothing to go on with, and the best is still there.
    third = Run(seed=3)
    third.fit(**settings, checkpoint=path, resume=True)
    assert third.state()["history"] == whole.state()["history"]
    assert np.array_equal(third.model.flat_params, whole.model.flat_params)


def test_a_loss_that_breaks_at_once_leaves_the_parameters_of_the_checkpoint(tmp_path: Path) -> None:
    path, other = finished(tmp_path), Run(seed=9)
    other.Y = np.full((40, 1), 1e30)  # only the shapes of data are compared
    with pytest.raises(FloatingPointError, match="the loss became inf in epoch 2, step 1;"):
        other.fit(checkpoint=path, resume=True)
    assert np.array_equal(other.model.flat_params, load_file(path)["params"])


def test_truncated_bptt_goes_on(tmp_path: Path) -> None:
    path, X = tmp_path / "run.safetensors", np.random.default_rng(0).standard_normal((4, 20, 1))
    weights = []
    for stops in ([4], [2, 4]):
        for epochs in stops:
            gru = pygru.GRU(1, 5, batch_first=True, rng=0)
            model = pygru.Sequential(gru, pygru.Linear(5, 1, rng=0))
            pygru.fit(
                model, X, X, loss="mae", optimizer=pygru.Adam(0.01), epochs=epochs, batch_size=2,
                bptt=7, verbose=0, rng=0, checkpoint=path, resume=True,
            )  # fmt: skip
        weights.append(model.flat_params.copy())
        path.unlink()
    assert np.array_equal(*weights)


def test_a_checkpoint_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    path = finished(tmp_path)
    refused(Run(), path, "must not exist yet, or pass resume=True", FileExistsError, resume=False)
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        Run().fit(resume=True)
    for wrong in ("no", np.ones(2)):
        with pytest.raises(TypeError, match="fit: resume must be True or False, got"):
            Run().fit(checkpoint=path, resume=wrong)
    with pytest.raises(FileNotFoundError, match=r"in a folder that exists, got .*nowhere"):
        Run().fit(checkpoint=tmp_path / "nowhere" / "run.safetensors")


def test_a_checkpoint_that_cannot_be_written_is_named_before_the_first_step(tmp_path: Path) -> None:
    run = Run()
    before = run.model.flat_params.copy()
    path = tmp_path / ("x" * 250)  # leaves no room for what it is written as
    with pytest.raises(OSError, match=r"x{250}"):
        run.fit(checkpoint=path)
    assert np.array_equal(run.model.flat_params, before)
    assert run.optimizer.steps == 0
    assert not list(tmp_path.iterdir())


def test_only_modules_go_into_a_checkpoint(tmp_path: Path) -> None:
    run, own = Run(), type("Own", (), {"dtype": np.dtype(np.float32)})()
    with pytest.raises(TypeError, match="model must be a Module to go into a checkpoint, got Own"):
        Checkpoint(
            tmp_path, model=own, optimizer=run.optimizer, schedule=None, rng=run.rng, settings={}
        )
    with pytest.raises(TypeError, match="fit: checkpoint must be a path, got 3"):
        run.fit(checkpoint=3)


def edited(metadata: dict[str, str], *at: str, value: Any) -> dict[str, str]:
    """The metadata of a checkpoint with one entry of its state replaced."""
    state = json.loads(metadata["state"])
    inner = state
    for name in at[:-1]:
        inner = inner[name]
    inner[at[-1]] = value
    return metadata | {"state": json.dumps(state)}


def test_an_edited_checkpoint_changes_nothing(tmp_path: Path) -> None:
    path = finished(tmp_path)
    arrays, metadata = load_file(path), _metadata(path)
    module = next(iter(json.loads(metadata["state"])["model_rng"]))
    epoch = json.loads(metadata["state"])["epochs"][0]
    for at, value, message in (
        (("rng",), {"bit_generator": "PCG64"}, "state"),
        (("rng", "state", "state"), "x", ""),
        (("rng", "has_uint32"), "x", ""),
        (("model_rng",), {}, "state must be of the generators"),
        (("model_rng", module), {"bit_generator": "PCG64"}, ""),
        (("schedule", "waited"), "x", "waited must be an integer >= 0, got 'x'"),
        (("optimizer", "steps"), -3, "steps must be an integer from 0 to .*, got -3"),
        (("optimizer", "lr"), "x", "lr must be a number, got 'x'"),
        (("epochs",), [], "must hold at least one epoch"),
        (("epochs",), [[2, *epoch[1:]]], "epoch 1 must have its number, got 2"),
        (("epochs",), [[1, "x", *epoch[2:]]], "epoch 1: loss must be a number, got 'x'"),
    ):
        save_file(arrays, path, edited(metadata, *at, value=value))
        refused(Run(seed=9), path, f"run.safetensors is corrupt: .*{message}")
    for name in ("params", "best", "optimizer.m"):
        broken = arrays[name].copy()
        broken[0] = np.nan
        save_file(arrays | {name: broken}, path, metadata)
        refused(Run(seed=9), path, "is corrupt: .* finite.*, got (NaN|nan)")
        save_file(arrays | {name: arrays[name].astype(np.float64)}, path, metadata)
        refused(Run(seed=9), path, f"is corrupt: {name} must be of dtype float32, got float64")


def test_a_checkpoint_of_another_version_says_so(tmp_path: Path) -> None:
    path = finished(tmp_path)
    arrays, metadata = load_file(path), _metadata(path)
    save_file(arrays, path, metadata | {"pygru": "0.0.1"})
    refused(Run(), path, rf"this version of pygru, {pygru.__version__}, .* got one of 0\.0\.1")


def test_what_is_no_checkpoint_is_never_loaded(tmp_path: Path) -> None:
    path = finished(tmp_path)
    whole, arrays, metadata = path.read_bytes(), load_file(path), _metadata(path)
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(Run(), path, "run.safetensors is not a whole safetensors file")
    Run().model.save(path)
    refused(Run(), path, "must be a checkpoint, got a file that fit did not write")
    for broken in ({"state": "{}"}, {"state": "no JSON"}, {"of": "[]"}, {"state": "[1]"}):
        save_file(arrays, path, metadata | broken)
        refused(Run(), path, "is corrupt")
    save_file(arrays | {"best": np.zeros(3, np.float32)}, path, metadata)
    refused(Run(), path, r"is corrupt: arrays of shapes \[\(3,\), ")


def test_a_failed_write_leaves_the_good_checkpoint_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished(tmp_path)
    content = path.read_bytes()

    def full(_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        Run().fit(checkpoint=path, resume=True)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_the_parameters_in_a_checkpoint_are_the_flat_ones(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run = Run()
    run.fit(checkpoint=path)
    assert np.array_equal(load_file(path)["params"], run.model.flat_params)


def test_the_file_holds_nothing_but_numbers_and_json(tmp_path: Path) -> None:
    metadata = _metadata(finished(tmp_path))
    assert set(metadata) == {"format", "pygru", "of", "state"}
    json.loads(metadata["state"])


def _metadata(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    result: dict[str, str] = json.loads(content[8 : 8 + size])["__metadata__"]
    return result
