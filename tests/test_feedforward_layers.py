# SPDX-License-Identifier: MIT
"""The layers without a state: Linear, Embedding, Dropout, LayerNorm and the poolings."""

from __future__ import annotations

import numpy as np
import pytest
from layer_problems import LENGTHS, RECURRENT, B, H, I, T, check_gradients
from tolerances import assert_close

import pygru


@pytest.fixture(params=RECURRENT)
def cell(request):
    """Every cell."""
    return request.param


@pytest.mark.parametrize("shape", [(I,), (B, I), (T, B, I), (0, I)], ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
def test_linear_works_along_the_last_axis_of_anything(shape, bias, isa, dtype, rng):
    linear = pygru.Linear(I, H, bias, dtype=dtype, rng=rng)
    assert [*linear.params] == ["weight", "bias"][: 1 + bias]
    x = rng.standard_normal(shape).astype(dtype)
    y, tape = linear.forward(x)
    W, b = linear.params["weight"], linear.params["bias"] if bias else 0.0
    assert_close(y, x @ W.T + b, "reference", "y")
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = linear.backward(tape, dy)
    rows, d_rows = x.reshape(-1, I), dy.reshape(-1, H)
    assert_close(dx, dy @ W, "reference", "dx")
    assert_close(linear.grads["weight"], d_rows.T @ rows, "reference", "dW")
    if bias:
        assert_close(linear.grads["bias"], d_rows.sum(axis=0), "reference", "db")
    _, tape = linear.forward(x)
    assert linear.backward(tape, dy, input_gradient=False) is None


def test_gradients_of_the_other_layers_are_the_finite_differences(rng):
    x = rng.standard_normal((4, 3, 5))
    f64 = {"dtype": np.float64}
    for layer in (
        pygru.Linear(5, 2, rng=rng, **f64),
        pygru.LayerNorm(5, **f64),
        pygru.Dropout(0.4, rng=0),
        pygru.LastStep(),
        pygru.LastStep(batch_first=True),
        pygru.MeanOverTime(),
        pygru.MeanOverTime(batch_first=True),
        pygru.ReLU(),
        pygru.Sigmoid(),
        pygru.Softmax(),
        pygru.Tanh(),
    ):
        layer.flat_params[:] = rng.standard_normal(layer.flat_params.size)
        check_gradients(layer, x, rng)
        if layer.batch_first is not None:
            check_gradients(layer, x[:, 0].copy(), rng)
            lengths = [4, 0, 2] if not layer.batch_first else [3, 0, 2, 1]
            check_gradients(layer, x, rng, lengths)
    for layer in (pygru.BothEnds(), pygru.BothEnds(batch_first=True)):
        lengths = [4, 0, 2] if not layer.batch_first else [3, 0, 2, 1]
        check_gradients(layer, x[..., :4].copy(), rng)
        check_gradients(layer, x[..., :4].copy(), rng, lengths)
    for layer in (pygru.RepeatVector(3), pygru.RepeatVector(3, batch_first=True)):
        check_gradients(layer, x[0], rng)
        check_gradients(layer, x[0, 0], rng)
    table = pygru.Embedding(6, 4, rng=rng, **f64)
    check_gradients(table, np.array([[0, 3, 3], [5, 0, 3]]), rng)


def test_embedding_looks_up_rows_and_its_gradient_touches_no_other():
    table = pygru.Embedding(6, 4, rng=0)
    x = np.array([[1, 4], [4, 4]], np.uint8)
    y, tape = table.forward(x)
    assert np.array_equal(y, table.params["weight"][x.astype(int)])
    x[:] = 0  # the tape has its own copy
    assert table.backward(tape, np.ones_like(y)) is None
    assert table.grads["weight"][:, 0].tolist() == [0.0, 1.0, 0.0, 0.0, 3.0, 0.0]
    for wrong, error in (([6], ValueError), ([-1], ValueError), ([0.0], TypeError)):
        with pytest.raises(error, match=r"Embedding.forward: x must hold integers"):
            table(wrong)
    assert table(np.zeros((0, 3), int)).shape == (0, 3, 4)


@pytest.mark.parametrize("rows", [1, 3, 300, 70_000])
def test_the_gradient_of_an_embedding_adds_up_however_often_a_row_occurs(rows, rng):
    table = pygru.Embedding(rows, 2, dtype=np.float64, init="zeros")
    x = rng.integers(0, rows, (50, 4))
    y, tape = table.forward(x)
    dy = rng.standard_normal(y.shape)
    table.backward(tape, dy)
    expected = np.zeros((rows, 2))
    np.add.at(expected, x, dy)
    assert_close(table.grads["weight"], expected, "reference", "dW")


def test_dropout_keeps_the_mean_and_draws_from_its_own_generator():
    x = np.ones(100_000, np.float32)
    y, _ = pygru.Dropout(0.3, rng=0).forward(x)
    assert y.mean() == pytest.approx(1.0, abs=0.01)
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert np.array_equal(pygru.Dropout(0.3, rng=0).forward(x)[0], y)
    assert y.dtype == np.float32


def test_last_step_and_mean_over_time_end_where_each_sequence_ends(rng):
    x = rng.standard_normal((T, B, I))
    x[np.arange(T)[:, None] >= np.array(LENGTHS)] = np.nan
    last, mean = pygru.LastStep()(x, lengths=LENGTHS), pygru.MeanOverTime()(x, lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        own = x[:length, b]
        assert_close(last[b], own[-1] if length else np.zeros(I), "rounding")
        assert_close(mean[b], own.mean(axis=0) if length else np.zeros(I), "rounding")
    for pool in (pygru.LastStep, pygru.MeanOverTime):
        swapped = pool(batch_first=True)(x.swapaxes(0, 1), lengths=LENGTHS)
        assert_close(swapped, pool()(x, lengths=LENGTHS), "rounding")
        assert pool()(x[:, 0]).shape == (I,)
        assert not pool()(np.zeros((0, B, I))).any()
        with pytest.raises(ValueError, match=rf"{pool.__name__}.forward: x must have shape"):
            pool()(np.zeros(3))


def test_last_step_is_the_final_state_of_one_direction(cell, rng):
    layer = RECURRENT[cell](I, H, rng=0)
    y, h_n = layer(rng.standard_normal((T, B, I)), lengths=LENGTHS)
    assert np.array_equal(pygru.LastStep()(y, lengths=LENGTHS), h_n[0])


def test_layer_norm_gives_zero_mean_and_unit_variance(rng):
    norm = pygru.LayerNorm(64, dtype=np.float64)
    x = 5.0 + 3.0 * rng.standard_normal((T, B, 64))
    y, variance = norm(x), x.var(axis=-1)
    assert_close(y.mean(axis=-1), np.zeros((T, B)), "reference")
    assert_close(y.var(axis=-1), variance / (variance + norm.eps), "reference")


@pytest.mark.parametrize("activation", [pygru.ReLU, pygru.Sigmoid, pygru.Softmax, pygru.Tanh])
def test_an_activation_has_no_arguments(activation):
    for call in (lambda: activation(-1), lambda: activation(axis=1)):
        with pytest.raises(TypeError, match=rf"{activation.__name__}|Activation"):
            call()
