# SPDX-License-Identifier: MIT
"""What the examples about sequences rest on: their data, their measures, and what they say."""

from __future__ import annotations

import argparse
import re

import numpy as np
import pytest
from tolerances import assert_close, finite_difference

import pygru
from pygru.examples import addition, memory


@pytest.fixture(autouse=True)
def _threads():
    """Leave the thread count as it was."""
    threads = pygru.get_num_threads()
    yield
    pygru.set_num_threads(threads)


def run(example, tmp_path, *argv):
    parser = argparse.ArgumentParser()
    example.add_arguments(parser)
    options = [*argv, "--threads", "1", "--no-plot", "--output", str(tmp_path)]
    example.run(parser.parse_args(options))


def test_no_sum_is_drawn_twice_not_even_the_other_way_round():
    sums = addition.draw_sums(20_000, np.random.default_rng(0))
    assert sums.shape == (20_000, 2)
    assert len(np.unique(np.sort(sums, axis=1), axis=0)) == 20_000
    assert (sums.min(), sums.max()) == (0, 999)
    assert 0.4 < np.mean(sums[:, 0] < sums[:, 1]) < 0.6


def test_a_sum_is_read_backwards_and_an_answer_has_an_end():
    x = addition.encode(["16+535"], addition.READ)
    assert x.tolist() == [[1, 6, addition.START, 5, 3, 5, addition.END]]
    y = addition.encode(["596", "1998", ""], addition.WRITTEN)
    assert y[0].tolist() == [5, 9, 6, addition.END, addition.END]
    assert y[1].tolist() == [1, 9, 9, 8, addition.END]
    assert addition.decode(y) == ["596", "1998", ""]


@pytest.mark.parametrize("text", ["5x+1", "12345+67"])
def test_what_cannot_be_encoded_is_named(text):
    with pytest.raises(ValueError) as error:
        addition.encode(["1+1", text], addition.READ)
    assert str(error.value) == (
        f"encode: texts must have at most 7 characters of '0123456789 +', got {text!r}"
    )


def test_the_smallest_settings_run(tmp_path):
    tiny = ["--epochs", "1", "--hidden", "2"]
    run(addition, tmp_path, "--sums", "2", *tiny)
    run(memory, tmp_path, "--length", "2", "--sequences", "32", *tiny)


def test_every_sum_there_is_can_be_drawn():
    assert len(addition.draw_sums(addition.MOST, np.random.default_rng(0))) == addition.MOST


def test_the_metric_of_a_taught_model_is_what_it_gets_right_alone():
    rng = np.random.default_rng(0)
    parts = [[pygru.OneHot(12), pygru.GRU(12, 8, batch_first=True, rng=rng)] for _ in range(2)]
    model = pygru.EncoderDecoder(
        pygru.Sequential(*parts[0]),
        pygru.Sequential(*parts[1], pygru.Linear(8, 11, rng=rng)),
        start=addition.START,
        end=addition.END,
    )
    model.flat_params[:] *= 5  # so that different sums get different answers
    x = rng.integers(10, size=(40, addition.READ))
    target = model.generate(x, addition.WRITTEN)  # (40, 5)
    target[:15, 0] = (target[:15, 0] + 1) % 10
    ends = model.target_lengths(target)
    assert len(np.unique(ends)) > 1
    y = model(x, target)
    assert addition.exact(y, target, ends, batch_first=True) == 25 / 40


def test_addition_says_what_it_did(tmp_path, capsys):
    run(addition, tmp_path, "--sums", "400", "--epochs", "2", "--hidden", "8")
    out = capsys.readouterr().out
    assert "train: X (360, 7), Y (360, 5)   test: X (40, 7)" in out
    assert re.search(r"epoch 2/2 .*exact \d", out)
    assert re.search(r"new sums exactly right: \d\.\d{4} of 40", out)
    assert "published: 0.99 of the characters" in out
    model = pygru.load(tmp_path / "addition.safetensors")
    assert model.generate(addition.encode(["16+535"], 6)[0], 5).shape == (5,)


def test_the_marked_numbers_lie_in_either_half_and_add_up():
    X, Y = memory.adding_problem(500, 9, np.random.default_rng(0))
    values, markers = X[..., 0], X[..., 1]
    assert X.shape == (500, 9, 2)
    assert X.dtype == Y.dtype == np.float32
    assert (markers[:, :4].sum(1) == 1).all()
    assert (markers[:, 4:].sum(1) == 1).all()
    assert (markers.sum(0) > 0).all()
    assert Y.shape == (500, 1)
    assert_close(Y[:, 0], values[markers == 1].reshape(500, 2).sum(1), "rounding")


@pytest.mark.parametrize("cell", [pygru.RNN, pygru.GRU])
def test_the_gradient_of_every_state_is_that_of_finite_differences(cell):
    T, B, H = 5, 3, 4
    rng = np.random.default_rng(0)
    layer = cell(2, H, batch_first=True, dtype=np.float64, rng=rng)
    linear = pygru.Linear(H, 1, dtype=np.float64, rng=rng)
    x, target = memory.adding_problem(B, T, rng)
    norms = memory.state_gradients(layer, linear, x, target)
    assert norms.shape == (T + 1,)
    states, _ = layer(x)  # (B, T, H)
    for t in range(T + 1):
        h = np.zeros((1, B, H)) if t == 0 else states[:, t - 1][np.newaxis].copy()

        def loss(t=t, h=h):
            last = layer(x[:, t:], h)[1] if t < T else h
            return pygru.losses.mse(linear(last[0]), target)[0]

        expected = np.linalg.norm(finite_difference(loss, h)[0], axis=-1).mean()
        assert_close(norms[t], expected, "finite differences", f"|dh_{t}|")


def test_a_gru_learns_the_adding_problem_when_it_is_short(tmp_path, capsys):
    argv = ["--length", "10", "--sequences", "3200", "--epochs", "6", "--hidden", "32"]
    run(memory, tmp_path, *argv, "--lr", "0.01")
    out = capsys.readouterr().out
    errors = re.search(r"sequences: (\d\.\d+) always.*\n  RNN (\d\.\d+).*\n  GRU (\d\.\d+)", out)
    assert errors is not None, out
    assert float(errors[1]) == pytest.approx(1 / 6, rel=0.1)  # the variance of the target
    assert float(errors[3]) < 0.01
    assert pygru.load(tmp_path / "memory.safetensors")[0].hidden_size == 32
