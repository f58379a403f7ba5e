# SPDX-License-Identifier: MIT
"""Every example runs in a small setting, says what it found and writes only where it was told."""

from __future__ import annotations

import re
import signal
import sys

import numpy as np
import pytest

import pygru
from pygru import cli
from pygru.examples import EXAMPLES, sine

SMALL = {
    "addition": ["--sums", "2000", "--epochs", "2", "--hidden", "16", "--threads", "1"],
    "chars": ["--epochs", "1", "--hidden", "8", "--characters", "5000", "--threads", "1"],
    "memory": [
        "--length",
        "12",
        "--sequences",
        "3200",
        "--epochs",
        "1",
        "--hidden",
        "8",
        "--threads",
        "1",
    ],
    "sine": ["--epochs", "2", "--hidden", "8", "--threads", "1"],
    "sunspots": ["--epochs", "2", "--hidden", "4", "--threads", "1"],
    "vowels": ["--epochs", "2", "--hidden", "4", "--threads", "1"],
    "waveform": ["--epochs", "2", "--hidden", "4", "--threads", "1"],
}
ALSO_WRITES = {"chars": ["chars.txt"]}
DATA = {"sunspots": "statsmodels", "vowels": "aeon"}  # the packages that hold it


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, and leave the thread count as it was."""
    threads = pygru.get_num_threads()
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    pygru.set_num_threads(threads)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=EXAMPLES)
def name(request):
    """An example whose data is here."""
    if request.param in DATA:
        pytest.importorskip(DATA[request.param])
    return request.param


def test_an_example_writes_into_the_current_folder_by_default(name, tmp_path):
    pytest.importorskip("matplotlib")
    assert cli.main(["example", name, *SMALL[name]]) == 0
    written = [f"{name}.png", f"{name}.safetensors", *ALSO_WRITES.get(name, [])]
    assert files(tmp_path / "current") == written
    assert (tmp_path / "current" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_an_example_writes_nowhere_else_than_told(name, tmp_path):
    folder = tmp_path / "new" / "results"
    argv = ["example", name, *SMALL[name], "--no-plot", "--output", str(folder)]
    assert cli.main(argv) == 0
    assert files(tmp_path / "current") == []
    assert files(folder) == [f"{name}.safetensors", *ALSO_WRITES.get(name, [])]


def test_sine_says_what_it_did(capsys):
    assert cli.main(["example", "sine", *SMALL["sine"], "--no-plot"]) == 0
    out = capsys.readouterr().out
    assert "X (9995, 5, 1), Y (9995, 1)" in out
    assert "X (995, 5, 1), Y (995, 1)" in out
    assert re.search(r"epoch +2/2 .*loss \d\.\d+", out)
    assert re.search(r"mean absolute error on the test wave: \d\.\d+", out)
    assert re.search(r"training took \d+\.\d s with 1 thread", out)
    assert "sine.safetensors" in out
    model = pygru.load("sine.safetensors")
    assert model[0].reset == "before"


def test_sine_learns_in_a_few_epochs(capsys):
    argv = ["example", "sine", "--epochs", "12", "--no-plot"]
    assert cli.main(argv) == 0
    loss = re.search(r"epoch +12/12 .*loss (\d\.\d+)", capsys.readouterr().out)
    assert loss is not None
    # Six independent runs gave 0.0206 to 0.0262; a third more on each side.
    assert 0.0206 * 2 / 3 <= float(loss[1]) <= 0.0262 * 4 / 3


def test_sine_repeats_itself_exactly(tmp_path):
    weights = []
    for run in ("a", "b"):
        argv = ["example", "sine", *SMALL["sine"], "--no-plot", "--seed", "3"]
        assert cli.main([*argv, "--output", str(tmp_path / run)]) == 0
        weights.append(pygru.load(tmp_path / run / "sine.safetensors").flat_params)
    assert np.array_equal(*weights)


def test_without_matplotlib_sine_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["example", "sine", *SMALL["sine"]]) == 1
    err = capsys.readouterr().err
    assert "pip install matplotlib" in err
    assert "--no-plot" in err
    assert files(tmp_path / "current") == []


def test_forecast_feeds_the_model_its_own_predictions():
    class Sum:
        def __call__(self, x):
            return x.sum(1)  # (1, length, 1) -> (1, 1)

    window = np.array([[0.0], [1.0]])
    assert sine.forecast(Sum(), window, 5).tolist() == [1.0, 2.0, 3.0, 5.0, 8.0]
    assert window.tolist() == [[0.0], [1.0]]


@pytest.fixture
def ctrl_c_in_the_first_epoch(monkeypatch):
    """Ctrl-C comes during the first step of every training; how many there were."""
    whole, trainings = pygru.fit, []

    def fit(*args, **settings):
        trainings.append(settings)
        hook = settings.get("on_gradient") or (lambda _: None)

        def interrupt(grads):
            hook(grads)
            if len(sent) == 0:
                sent.append(signal.raise_signal(signal.SIGINT))

        sent = []
        return whole(*args, **settings | {"on_gradient": interrupt})

    monkeypatch.setattr(pygru, "fit", fit)
    return trainings


def test_after_ctrl_c_an_example_saves_its_model_and_trains_no_other(
    name, tmp_path, ctrl_c_in_the_first_epoch
):
    assert cli.main(["example", name, *SMALL[name]]) == 0
    assert len(ctrl_c_in_the_first_epoch) == 1
    assert f"{name}.safetensors" in files(tmp_path / "current")


def test_a_folder_that_cannot_be_written_to_is_found_before_the_training(name, tmp_path, capsys):
    (tmp_path / "file").touch()
    argv = ["example", name, *SMALL[name], "--no-plot", "--output", str(tmp_path / "file")]
    assert cli.main(argv) == 1
    out, err = capsys.readouterr()
    assert "cannot write into" in err
    assert "--output" in err
    assert "epoch" not in out
