# SPDX-License-Identifier: MIT
"""Truncated BPTT: pieces in order, the state carried over, no gradient across the cuts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import pygru
from pygru import losses, optim
from pygru.data import fold

N, T = 3, 20


def build(**options: Any) -> Any:
    gru = pygru.GRU(2, 5, batch_first=True, dtype=np.float64, rng=0, **options)
    directions = 2 if options.get("bidirectional") else 1
    return pygru.Sequential(gru, pygru.Linear(directions * 5, 1, dtype=np.float64, rng=0))


def make_series(rows: int = N) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, T, 2)), rng.standard_normal((rows, T, 1))


def fit(model: Any, X: Any, Y: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "loss": "mse",
        "optimizer": optim.SGD(0.1),
        "epochs": 1,
        "batch_size": 8,
        "bptt": 8,
        "sampler": lambda n, _size, _rng: [slice(0, n)],
        "verbose": 0,
        "rng": 0,
    }
    return pygru.fit(model, X, Y, **(settings | changes))


def by_hand(model: Any, X: Any, Y: Any, cuts: list[int], lengths: Any = None) -> list[float]:
    """Plain gradient descent, piece after piece, with the state carried over."""
    state, values = None, []
    for start, stop in zip([0, *cuts], [*cuts, T], strict=True):
        ends = None if lengths is None else np.clip(lengths - start, 0, stop - start)
        y, tape = model.forward(X[:, start:stop], lengths=ends, state=state)
        value, dy = losses.mse(y, Y[:, start:stop], ends, batch_first=True)
        state = tape.state
        model.zero_grad()
        model.backward(tape, dy)
        model.flat_params[:] -= 0.1 * model.flat_grads
        values.append(value)
    return values


def test_pieces_are_taken_in_order_with_the_state_carried_over() -> None:
    model, expected, data = build(), build(), make_series()
    history = fit(model, *data)
    values = by_hand(expected, *data, [8, 16])
    assert_close(model.flat_params, expected.flat_params, "rounding")
    assert history.epochs[0].steps == 3
    assert history.loss == pytest.approx([np.average(values, weights=[8, 8, 4])])


def test_the_last_piece_may_be_shorter_and_lengths_are_cut_along() -> None:
    X, Y = make_series()
    lengths = np.array([20, 5, 12])
    model, expected, listed = build(), build(), build()
    history = fit(model, X, Y, lengths=lengths)
    values = by_hand(expected, X, Y, [8, 16], lengths)
    assert_close(model.flat_params, expected.flat_params, "rounding")
    weights = [8 + 5 + 8, 8 + 0 + 4, 4]
    assert history.loss == pytest.approx([np.average(values, weights=weights)])
    cut = [[row[:n] for row, n in zip(array, lengths, strict=True)] for array in (X, Y)]
    fit(listed, *cut)
    assert_close(listed.flat_params, expected.flat_params, "rounding")


def test_without_state_every_piece_starts_from_zero() -> None:
    X, Y = make_series()
    model, expected = build(), build()
    fit(model, X, Y, bptt=10, stateful=False)
    pieces = np.stack([X[:, :10], X[:, 10:]]), np.stack([Y[:, :10], Y[:, 10:]])
    for x, y in zip(*pieces, strict=True):
        fit(expected, x, y, bptt=None)
    assert_close(model.flat_params, expected.flat_params, "rounding")


def test_a_recurrent_layer_by_itself_carries_its_state() -> None:
    X, _ = make_series()
    Y = np.random.default_rng(1).standard_normal((N, T, 5))
    layer = pygru.GRU(2, 5, batch_first=True, dtype=np.float64, rng=0)
    model = pygru.Sequential(pygru.GRU(2, 5, batch_first=True, dtype=np.float64, rng=0))
    fit(layer, X, Y)
    fit(model, X, Y)
    assert np.array_equal(layer.flat_params, model.flat_params)


def test_rows_beyond_the_batch_size_start_afresh() -> None:
    X, Y = make_series(5)
    model, expected = build(), build()
    history = fit(model, X, Y, batch_size=3, sampler=lambda *_: [slice(0, 3), slice(3, 5)])
    by_hand(expected, X[:3], Y[:3], [8, 16])
    by_hand(expected, X[3:], Y[3:], [8, 16])
    assert_close(model.flat_params, expected.flat_params, "rounding")
    assert history.epochs[0].steps == 6


def test_carried_state_is_worth_something() -> None:
    # The first value of a row tells which of two constants is asked for ever after.
    rng = np.random.default_rng(0)
    first = rng.choice([-1.0, 1.0], 32)
    X = np.zeros((32, 24, 2))
    X[:, 0, 0] = first
    Y = np.repeat(first, 24).reshape(32, 24, 1)
    values = []
    for stateful in (True, False):
        model = build()
        history = fit(
            model, X, Y, bptt=6, stateful=stateful, epochs=40, optimizer=optim.Adam(0.02),
            batch_size=32,
        )  # fmt: skip
        values.append(history.loss[-1])
    assert values[0] < 0.1 < 0.6 < values[1]


def test_fold_lays_one_series_side_by_side() -> None:
    series = np.arange(22.0).reshape(11, 2)
    X = fold(series, 2)
    assert X.shape == (2, 5, 2)
    assert np.shares_memory(X, series)
    assert np.array_equal(X.reshape(10, 2), series[:10])
    assert fold(range(7), 3).tolist() == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match=r"at least n = 3 steps, got \(2,\)"):
        fold([1, 2], 3)


X_GOOD, Y_GOOD = make_series()


@pytest.mark.parametrize(
    "changes, options, error, message",
    [
        ({"bptt": 21}, {}, ValueError, "bptt must be at most T = 20, the steps of .*, got 21"),
        ({"bptt": 0}, {}, ValueError, "fit: bptt must be an integer >= 1, got 0"),
        ({"bptt": 6, "lengths": [5, 2, 1]}, {}, ValueError, "bptt must be at most T = 5"),
        ({"Y": Y_GOOD[:, 0]}, {}, ValueError, r"Y must have a target .* \(3, 20\) .* got \(3, 1\)"),
        ({"Y": Y_GOOD[:, :9]}, {}, ValueError, r"Y must have a .* \(3, 20\) .* got \(3, 9, 1\)"),
        ({}, {"bidirectional": True}, ValueError, "stateful must be False where a layer reads"),
    ],
)
def test_what_cannot_be_cut_is_named_before_the_first_step(
    changes: dict[str, Any], options: dict[str, Any], error: Any, message: str
) -> None:
    model = build(**options)
    before = model.flat_params.copy()
    with pytest.raises(error, match=message):
        fit(model, **({"X": X_GOOD, "Y": Y_GOOD} | changes))
    assert np.array_equal(model.flat_params, before)


def test_a_model_without_a_state_to_carry_says_so() -> None:
    linear = pygru.Linear(2, 1, dtype=np.float64, rng=0)
    with pytest.raises(TypeError, match=r"model must be a Sequential .* got Linear: pass stateful"):
        fit(linear, X_GOOD, Y_GOOD)
    fit(linear, X_GOOD, Y_GOOD, stateful=False)
    fit(build(bidirectional=True), X_GOOD, Y_GOOD, stateful=False)


def test_of_an_encoder_decoder_the_reason_is_told_whatever_the_shapes() -> None:
    parts = [pygru.Sequential(pygru.OneHot(3), pygru.GRU(3, 4, batch_first=True)) for _ in range(2)]
    model = pygru.EncoderDecoder(*parts, start=0)
    for steps in (4, 6):
        with pytest.raises(TypeError, match="bptt must be None for an EncoderDecoder, whose parts"):
            pygru.fit(
                model, np.ones((2, 4), int), np.ones((2, steps), int), loss="cross_entropy",
                optimizer=pygru.Adam(), epochs=1, bptt=2, verbose=0,
            )  # fmt: skip


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("lengths", [None, [20, 5, 12]])
def test_validation_goes_in_the_same_pieces_with_the_state_carried_over(
    alone: bool, lengths: Any
) -> None:
    X, Y = make_series()
    model = pygru.GRU(2, 1, batch_first=True, dtype=np.float64, rng=0) if alone else build()
    steps = []

    def loss(y: Any, target: Any, lengths: Any = None, batch_first: bool = True) -> Any:
        steps.append(y.shape[1])
        return losses.mse(y, target, lengths, batch_first=batch_first)

    held_out = (X, Y) if lengths is None else (X, Y, lengths)
    history = fit(model, X, Y, validation=held_out, loss=loss, metrics="rmse")
    assert steps == [8, 8, 4, 8, 8, 4]
    whole = pygru.evaluate(model, X, Y, loss="mse", metrics="rmse", lengths=lengths)
    epoch = history.epochs[0]
    assert epoch.validation == pytest.approx(whole["loss"], rel=1e-12)
    assert epoch.validation_metrics["rmse"] == pytest.approx(whole["rmse"], rel=1e-12)


class Backwards(pygru.Tanh):
    """What no model of pygru's own is, step by step: one that looks ahead."""

    def _apply(self, x: Any, lengths: Any, training: bool, /) -> Any:
        y, saved = super()._apply(x, lengths, training)
        return y[:, ::-1], saved


def test_validation_goes_over_whole_series_where_pieces_may_give_something_else() -> None:
    X, Y = make_series()
    for changes, *modules in [({}, Backwards()), ({"stateful": False},)]:
        model = pygru.Sequential(build(), *modules)
        history = fit(model, X, Y, validation=(X, Y), **changes)
        assert history.epochs[0].validation == pygru.evaluate(model, X, Y, loss="mse")


def test_validation_series_need_a_target_for_every_step_too() -> None:
    X, Y = make_series()
    message = r"fit: validation Y must have a target for every step of validation X, .* \(3, 20\)"
    with pytest.raises(ValueError, match=message):
        fit(build(), X, Y, validation=(X, Y[:, 0]))
