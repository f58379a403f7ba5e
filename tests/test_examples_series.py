# SPDX-License-Identifier: MIT
"""Examples on series: speakers told apart, sunspots forecast, notes played that nobody taught.

They run here on series made up in place of the packages' ones; what is true of the real ones is
tested where these packages are installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tolerances import assert_close

import pygru
from pygru.examples import sunspots, vowels, waveform

SMALL = ["--epochs", "2", "--hidden", "4", "--threads", "1"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, and leave the thread count as it was."""
    threads = pygru.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield
    pygru.set_num_threads(threads)


def run(module, *argv):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    module.run(parser.parse_args(argv))


def number(text, out):
    found = re.search(rf"{re.escape(text)}.*: (\d\.\d+)", out)
    assert found is not None, out
    return float(found[1])


def made_up_utterances(split):
    """Return 12 utterances (12, T_n) and speakers "1" to "9", in the layout of aeon."""
    rng = np.random.default_rng(len(split))
    lengths = rng.integers(7, 30, size=12)
    return [rng.normal(3, 2, (12, n)) for n in lengths], np.array([*"123456789123"])


@pytest.fixture
def made_up(monkeypatch):
    """Stand-ins for aeon and statsmodels."""
    aeon, statsmodels = ModuleType("aeon.datasets"), ModuleType("statsmodels.datasets")
    aeon.load_japanese_vowels = made_up_utterances
    activity = 80 - 75 * np.cos(2 * np.pi * np.arange(309) / 11)
    statsmodels.sunspots = SimpleNamespace(
        load_pandas=lambda: SimpleNamespace(data={"SUNACTIVITY": activity})
    )
    for module in (aeon, statsmodels):
        monkeypatch.setitem(sys.modules, module.__name__.partition(".")[0], ModuleType("package"))
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("module", [vowels, sunspots])
@pytest.mark.usefixtures("made_up")
def test_an_example_draws_any_series_and_writes_where_it_was_told(module, tmp_path):
    pytest.importorskip("matplotlib")
    run(module, *SMALL, "--output", "new/results")
    name = module.__name__.rpartition(".")[2]
    files = sorted(path.name for path in (tmp_path / "new" / "results").iterdir())
    assert files == [f"{name}.png", f"{name}.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    "module, function, package",
    [(vowels, "recordings", "aeon"), (sunspots, "counts", "statsmodels")],
)
def test_without_the_data_an_example_says_what_to_install(module, function, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.datasets", None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        getattr(module, function)()


# --- vowels ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("made_up")
def test_utterances_are_scaled_by_the_training_set_alone():
    (X, Y), (X_test, Y_test) = vowels.recordings()
    frames = np.concatenate(X)
    assert_close(frames.mean(0), np.zeros(12), "reference", least=1)
    assert_close(frames.std(0), np.ones(12), "reference")
    assert Y.tolist() == Y_test.tolist() == [*range(9), 0, 1, 2]
    raw, raw_test = (np.concatenate(made_up_utterances(s)[0], 1) for s in ("train", "test"))
    scaled = (raw_test - raw.mean(1, keepdims=True)) / raw.std(1, keepdims=True)
    np.testing.assert_allclose(np.concatenate(X_test), scaled.T)


def test_the_real_utterances_are_those_that_the_published_results_are_on():
    pytest.importorskip("aeon")
    (X, Y), (X_test, Y_test) = vowels.recordings()
    assert np.bincount(Y).tolist() == [30] * 9
    assert np.bincount(Y_test).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = {x.shape for x in X + X_test}
    assert min(lengths) == (7, 12) and max(lengths) == (vowels.FRAMES, 12)


# --- sunspots -------------------------------------------------------------------------------------


def test_autoregression_finds_the_law_of_a_linear_series():
    series = np.sin(np.arange(40.0)) + 3  # two values and a constant give the next
    forecast = sunspots.autoregression(series, 2, 20)
    np.testing.assert_allclose(forecast, series[20:])


def test_autoregression_does_not_look_ahead():
    series = np.random.default_rng(0).random(40)
    changed = series.copy()
    changed[30:] = 7
    before, after = (sunspots.autoregression(s, 3, 20) for s in (series, changed))
    np.testing.assert_array_equal(before[:11], after[:11])
    assert (before[11:] != after[11:]).all()


@pytest.mark.usefixtures("made_up")
def test_a_regular_cycle_is_forecast_almost_without_error(capsys):
    run(sunspots, "--threads", "1", "--no-plot")
    out = capsys.readouterr().out
    assert number("normalised squared error, one year ahead", out) < 0.02
    assert number("linear autoregression", out) == 0
    assert number("Weigend", out) == 0.086


def test_the_real_sunspots_are_forecast_better_than_by_a_linear_autoregression(capsys):
    pytest.importorskip("statsmodels")
    run(sunspots, "--threads", "1", "--no-plot")
    out = capsys.readouterr().out
    assert number("linear autoregression", out) == 0.123  # what AR(9) is known for
    assert number("normalised squared error, one year ahead", out) < 0.123


# --- waveform -------------------------------------------------------------------------------------


def test_an_octave_swings_twice_as_fast():
    low, high = waveform.wave([0, 12], samples=200)
    assert_close(low[::2], high[:100], "rounding")
    assert low.shape == (200, 1) and low.dtype == np.float32


def test_a_note_can_be_held_for_longer_than_in_training():
    run(waveform, *SMALL, "--no-plot")
    model = pygru.load("waveform.safetensors")
    short, long = (waveform.play(model, [3, 5], n) for n in (waveform.SAMPLES, 250))
    assert long.shape == (2, 250, 1)
    np.testing.assert_array_equal(short, long[:, : waveform.SAMPLES])
    np.testing.assert_array_equal(short, model([[3 / 12 - 1], [5 / 12 - 1]]))


def test_it_plays_notes_it_was_not_taught(capsys):
    run(waveform, "--epochs", "250", "--hidden", "24", "--threads", "1", "--no-plot")
    out = capsys.readouterr().out
    assert number("error on the notes between", out) < number("nearest note taught", out)
