# SPDX-License-Identifier: MIT
"""Lists of sequences of unequal lengths: padded, put into buckets, trained on, taken apart."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import pygru
from pygru.data import BucketedBatches, ContiguousBatches, ShuffledBatches
from pygru.ragged import Ragged

LENGTHS = [5, 2, 7, 1, 4, 4, 3, 6]
TEXTS = [[0, 1, 2], [3], [2, 2, 1, 0, 3]]


def make_sequences(features: int = 3) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, features)) for n in LENGTHS]


def padded(sequences: list[Any]) -> Any:
    array = np.zeros((len(sequences), max(map(len, sequences)), *sequences[0].shape[1:]))
    for row, sequence in zip(array, sequences, strict=True):
        row[: len(sequence)] = sequence
    return array


def build(per_step: bool, seed: int = 0, hidden: int = 5) -> Any:
    gru = pygru.GRU(3, hidden, batch_first=True, dtype=np.float64, rng=seed)
    head = pygru.Linear(hidden, 2, dtype=np.float64, rng=seed)
    return pygru.Sequential(gru, *([] if per_step else [pygru.LastStep()]), head)


def fit(model: Any, X: Any, Y: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "loss": "mse",
        "optimizer": pygru.Adam(0.01),
        "epochs": 2,
        "batch_size": 3,
        "verbose": 0,
        "rng": 0,
    }
    return pygru.fit(model, X, Y, **(settings | changes))


def test_a_batch_is_padded_to_its_own_longest_sequence() -> None:
    sequences = make_sequences()
    ragged = Ragged(sequences)
    assert ragged.shape == (8, 7, 3)
    assert len(ragged) == 8
    assert np.array_equal(ragged[:], padded(sequences))
    batch = np.array([1, 4, 3])
    assert np.array_equal(ragged[batch], padded([sequences[n] for n in batch]))
    assert ragged[batch].shape == (3, 4, 3)
    assert ragged[2:3].shape == (1, 7, 3)


@pytest.mark.parametrize("per_step", [False, True])
def test_a_list_trains_as_the_padded_array_with_its_lengths_does(per_step: bool) -> None:
    sequences = make_sequences()
    rng = np.random.default_rng(1)
    targets: Any = [rng.standard_normal((n, 2)) for n in LENGTHS]
    dense = padded(targets)
    if not per_step:
        targets = dense = rng.standard_normal((8, 2))
    order = ShuffledBatches()
    one, other = build(per_step), build(per_step)
    history = fit(one, sequences, targets, sampler=order, validation=(sequences, targets))
    expected = fit(
        other, padded(sequences), dense, lengths=LENGTHS, sampler=order,
        validation=(padded(sequences), dense, LENGTHS),
    )  # fmt: skip
    assert_close(one.flat_params, other.flat_params, "reference")
    assert history.loss == pytest.approx(expected.loss)
    assert history.validation == pytest.approx(expected.validation)

    outputs = pygru.predict(one, sequences, batch_size=3)
    whole = pygru.predict(one, padded(sequences), lengths=LENGTHS, batch_size=3)
    for n, (y, row) in enumerate(zip(outputs, whole, strict=True)):
        assert_close(y, row[: LENGTHS[n]] if per_step else row, "reference")
    assert pygru.evaluate(one, sequences, targets, loss="mse", batch_size=3) == pytest.approx(
        pygru.evaluate(one, padded(sequences), dense, loss="mse", lengths=LENGTHS)
    )


class OneNumber(pygru.Layer):
    """One number per step: (B, T, K) -> (B, T), so that the time axis of y is its last."""

    def config(self) -> Any:
        return {}

    def _apply(self, x: Any, _lengths: Any, _training: bool, /) -> Any:
        return x.sum(axis=-1), x.shape

    def _pull(self, shape: Any, dy: Any, _input_gradient: bool, /) -> Any:
        return np.broadcast_to(dy[..., np.newaxis], shape)


@pytest.mark.parametrize("bptt", [None, 4])
def test_one_number_per_step_is_trained_on_as_one_row_per_step_is(bptt: int | None) -> None:
    sequences = make_sequences()
    targets = [x[:, 0] for x in sequences]
    gru, head = pygru.GRU(3, 5, batch_first=True, rng=0), pygru.Linear(5, 1, rng=0)
    rows = pygru.Sequential(gru, head)
    numbers = pygru.Sequential(copy.deepcopy(rows), OneNumber())
    settings: Any = {"bptt": bptt, "metrics": "mae"}
    expected = fit(rows, sequences, [y[:, np.newaxis] for y in targets], **settings)
    listed = fit(copy.deepcopy(numbers), sequences, targets, **settings)
    dense = fit(
        numbers, padded(sequences), padded(targets), lengths=LENGTHS,
        sampler=BucketedBatches(LENGTHS), **settings,
    )  # fmt: skip
    for history in (listed, dense):
        assert history.loss == pytest.approx(expected.loss)
        assert history["mae"] == pytest.approx(expected["mae"])
    outputs = pygru.predict(numbers, sequences, batch_size=3)
    assert [len(y) for y in outputs] == LENGTHS
    with pytest.raises(ValueError, match=r"Y must (be a list|have a target for every step)"):
        fit(numbers, sequences, padded(targets), **settings)


def test_sequences_of_integers_reach_an_embedding() -> None:
    model = pygru.Sequential(
        pygru.Embedding(4, 3, rng=0), pygru.GRU(3, 5, batch_first=True, rng=0),
        pygru.Linear(5, 4, rng=0),
    )  # fmt: skip
    history = fit(model, TEXTS, TEXTS, loss="cross_entropy", epochs=200, metrics="accuracy")
    assert history["accuracy"][-1] == 1
    assert [y.shape for y in pygru.predict(model, TEXTS)] == [(3, 4), (1, 4), (5, 4)]


def test_buckets_hold_similar_lengths_and_every_sample_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1000)
    rng = np.random.default_rng(1)
    first, second = (list(BucketedBatches(lengths)(1000, 32, rng)) for _ in range(2))
    for epoch in (first, second):
        assert sorted(np.concatenate(epoch)) == list(range(1000))
        steps = sum(lengths[batch].max() * len(batch) for batch in epoch)
        assert steps < 1.25 * lengths.sum()  # plain shuffling: twice
    assert {tuple(sorted(b)) for b in first} != {tuple(sorted(b)) for b in second}
    assert [len(b) for b in first] != sorted((len(b) for b in first), reverse=True)
    with pytest.raises(ValueError, match=r"lengths must have shape \(n,\) = \(5,\), got \(1000,\)"):
        list(BucketedBatches(lengths)(5, 2, rng))
    for spread in (-1, np.nan, np.inf):  # an infinite one would leave all in one order
        with pytest.raises(ValueError, match=f"spread must be finite and >= 0, got {spread}"):
            BucketedBatches(lengths, spread=spread)
    with pytest.raises(TypeError, match="BucketedBatches: spread must be a number, got '1'"):
        BucketedBatches(lengths, spread="1")


def test_lists_come_in_buckets_by_default_and_in_any_order_on_demand() -> None:
    seen: list[Any] = []

    def watch(n: int, batch_size: int, rng: Any) -> Any:
        seen.append((n, batch_size))
        return ContiguousBatches()(n, batch_size, rng)

    sequences, targets = make_sequences(), np.zeros((8, 2))
    fit(build(False), sequences, targets, sampler=watch)
    assert seen == [(8, 3)] * 2
    one, other = build(False), build(False)
    fit(one, sequences, targets)
    fit(other, sequences, targets, sampler=BucketedBatches(LENGTHS))
    assert np.array_equal(one.flat_params, other.flat_params)


GOOD = make_sequences()
EMPTY, BROKEN, WIDE = [*GOOD], [*GOOD], [*GOOD]
EMPTY[3] = np.zeros((0, 3))
BROKEN[2] = GOOD[2].copy()
BROKEN[2][4, 1] = np.nan
WIDE[1] = np.zeros((2, 4))


@pytest.mark.parametrize(
    "X, Y, changes, error, message",
    [
        (EMPTY, np.zeros((8, 2)), {}, ValueError, r"X\[3\] must hold at least one step, got \(0, "),
        (BROKEN, np.zeros((8, 2)), {}, ValueError, r"X\[2\] .* finite, got nan at index \(4, 1\)"),
        (WIDE, np.zeros((8, 2)), {}, ValueError, r"X\[1\] .* first axis, \(5, 3\), got \(2, 4\)"),
        ([*GOOD, "x"], np.zeros((9, 2)), {}, ValueError, r"X\[8\] must hold at least one step"),
        ([*GOOD, ["x"]], np.zeros((9, 2)), {}, TypeError, r"X\[8\] .* real numbers, got dtype <U1"),
        (GOOD, np.zeros((7, 2)), {}, ValueError, "as many samples as X, 8, got shape"),
        (GOOD, [g[:2] for g in GOOD], {}, ValueError, r"Y\[0\] .* steps as X\[0\], 5, got 2"),
        (np.zeros((8, 7, 3)), GOOD, {}, ValueError, r"Y must be .* as X is, \(8, 7, 3\)"),
        (GOOD, np.zeros((8, 2)), {"lengths": LENGTHS}, ValueError, "lengths must be None for a"),
        (GOOD, np.zeros((8, 3)), {}, ValueError, r"fit: Y .* mse: .* \(1, 2\), got \(1, 3\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    X: Any, Y: Any, changes: dict[str, Any], error: Any, message: str
) -> None:
    model = build(False)
    before = model.flat_params.copy()
    with pytest.raises(error, match=message):
        fit(model, X, Y, **changes)
    assert np.array_equal(model.flat_params, before)


@pytest.mark.parametrize("per_step", [True, False])
def test_padding_may_be_anything_where_there_are_lengths(per_step: bool) -> None:
    sequences, results = make_sequences(), []
    targets = [s[:, :2] for s in sequences]
    for filling in (0.0, np.nan, np.inf):
        X, Y = padded(sequences), padded(targets) if per_step else np.ones((len(sequences), 2))
        for n, length in enumerate(LENGTHS):
            X[n, length:] = filling
            if per_step:
                Y[n, length:] = filling
        before = X.copy()
        model = pygru.Sequential(pygru.Linear(3, 3, dtype=np.float64, rng=0), build(per_step))
        fit(model, X, Y, lengths=LENGTHS, validation=(X, Y, LENGTHS))
        assert np.array_equal(X, before, equal_nan=True)
        results.append((model.flat_params, pygru.predict(model, X, lengths=LENGTHS)))
    for params, y in results[1:]:
        assert np.array_equal(params, results[0][0])
        assert np.array_equal(y, results[0][1])
    X[0, LENGTHS[0] - 1, 1] = np.nan
    with pytest.raises(ValueError, match=r"^fit: X must be finite, got nan at index \(0, 4, 1\)"):
        fit(build(per_step), X, Y, lengths=LENGTHS)


def test_an_empty_sequence_in_a_padded_array_is_named() -> None:
    with pytest.raises(ValueError, match=r"lengths must be at least 1, got an empty .* index 2"):
        fit(build(False), np.zeros((4, 5, 3)), np.zeros((4, 2)), lengths=[5, 1, 0, 2])


@pytest.mark.parametrize("bad", [-1, 4])
@pytest.mark.parametrize("where", ["Y", "validation Y"])
def test_classes_out_of_range_anywhere_are_found_before_the_first_step(
    bad: int, where: str
) -> None:
    model = pygru.Sequential(pygru.GRU(3, 5, batch_first=True), pygru.Linear(5, 4))
    targets = [np.zeros(n, int) for n in LENGTHS]
    wrong = [*targets[:-1], np.full(LENGTHS[-1], bad)]
    before = model.flat_params.copy()
    Y, Y_v = (wrong, targets) if where == "Y" else (targets, wrong)
    with pytest.raises(ValueError, match=rf"fit: {where} must .* in 0 \.\. 3 .* got {bad}"):
        fit(model, GOOD, Y, loss="cross_entropy", validation=(GOOD, Y_v))
    assert np.array_equal(model.flat_params, before)
    # Past a sequence's end, targets may be anything.
    dense = padded(targets).astype(int)
    dense[np.arange(7) >= np.array(LENGTHS)[:, None]] = bad
    fit(model, padded(GOOD), dense, loss="cross_entropy", lengths=LENGTHS)
    dense[0, 0] = bad
    with pytest.raises(ValueError, match=rf"fit: Y must .* in 0 \.\. 3 .* got {bad}"):
        fit(model, padded(GOOD), dense, loss="cross_entropy", lengths=LENGTHS)


@pytest.mark.parametrize("bad", [-1, 4])
@pytest.mark.parametrize("where", ["X", "validation X"])
@pytest.mark.parametrize("dense", [False, True])
def test_classes_out_of_range_in_the_input_are_found_before_the_first_step(
    bad: int, where: str, dense: bool
) -> None:
    model = pygru.Sequential(
        pygru.Sequential(pygru.Embedding(4, 3, rng=0)), pygru.GRU(3, 5, batch_first=True, rng=0),
        pygru.LastStep(), pygru.Linear(5, 1, rng=0),
    )  # fmt: skip
    before = model.flat_params.copy()
    good: Any = [TEXTS[0], TEXTS[2]]
    wrong: Any = [TEXTS[0], [2, 2, 1, bad, 3]]
    if dense:
        good, wrong = (np.array([[*text, 0, 0][:5] for text in texts]) for texts in (good, wrong))
    X, X_v = (wrong, good) if where == "X" else (good, wrong)
    Y = np.zeros((2, 1))
    message = rf"fit: {where} must hold integers in 0 \.\. K-1 = 3, got {bad} at index \(1, 3\)"
    with pytest.raises(ValueError, match=message):
        fit(model, X, Y, validation=(X_v, Y))
    with pytest.raises(ValueError, match=message.replace(f"fit: {where}", "predict: X")):
        pygru.predict(model, wrong)
    with pytest.raises(TypeError, match="fit: X must hold integers, got dtype float"):
        fit(model, np.zeros((2, 5)), Y)
    assert np.array_equal(model.flat_params, before)


def decoding() -> Any:
    """Read a sequence, write three steps."""
    settings = {"batch_first": True, "dtype": np.float64, "rng": 0}
    return pygru.Sequential(
        pygru.GRU(3, 4, **settings), pygru.LastStep(), pygru.RepeatVector(3),
        pygru.GRU(4, 4, **settings), pygru.Linear(4, 2, dtype=np.float64, rng=0),
    )  # fmt: skip


@pytest.mark.parametrize("pooling", [pygru.LastStep, pygru.MeanOverTime, pygru.BothEnds])
@pytest.mark.parametrize("nested", [False, True])
def test_lengths_end_where_the_time_axis_does(pooling: Any, nested: bool) -> None:
    rng = np.random.default_rng(0)
    both = pooling is pygru.BothEnds
    gru = pygru.GRU(3, 4 // (1 + both), batch_first=True, bidirectional=both, rng=rng)
    parts: Any = [gru, pooling()]
    first = [pygru.Sequential(*parts)] if nested else parts
    decoder = pygru.GRU(4, 4, batch_first=True, rng=rng)
    model = pygru.Sequential(*first, pygru.RepeatVector(3), decoder)
    assert not model.keeps_time
    x = rng.standard_normal((2, 7, 3))
    for lengths in ([2, 1], [5, 7]):
        pooled = parts[1](parts[0](x, lengths=lengths)[0], lengths=lengths)
        expected, _ = decoder(np.repeat(pooled[:, None], 3, axis=1))
        assert np.array_equal(model(x, lengths=lengths), expected)


@pytest.mark.parametrize("listed", [False, True])
def test_the_loss_of_a_sequence_with_a_time_axis_of_its_own_counts_every_step(listed: bool) -> None:
    model, Y = decoding(), np.random.default_rng(1).standard_normal((8, 3, 2))
    X, lengths = (GOOD, None) if listed else (padded(GOOD), LENGTHS)
    expected = pygru.losses.mse(model(padded(GOOD), lengths=LENGTHS), Y)[0]
    data: Any = {"loss": "mse", "lengths": lengths}
    assert pygru.evaluate(model, X, Y, **data, batch_size=3) == pytest.approx(expected)
    both = pygru.evaluate(model, X, Y, **data, metrics="rmse")
    assert both["loss"] == pytest.approx(both["rmse"] ** 2)
    assert pygru.predict(model, X, lengths=lengths).shape == (8, 3, 2)
    history = fit(model, X, Y, **data, epochs=1, batch_size=8)
    assert history.loss == pytest.approx([expected])
    with pytest.raises(ValueError, match=r"fit: Y must be a rectangular .* the time axis of X"):
        fit(model, GOOD, [g[:, :2] for g in GOOD])


@pytest.mark.parametrize("per_step", [False, True])
def test_the_number_of_threads_does_not_change_a_bit_of_training(per_step: bool) -> None:
    targets: Any = [s[:, :2] for s in GOOD] if per_step else np.ones((8, 2))
    before, weights = pygru.get_num_threads(), []
    for threads in (1, 2, 3):
        pygru.set_num_threads(threads)
        model = build(per_step, hidden=192)  # large enough for a team
        fit(model, GOOD, targets, clip_norm=1.0)
        weights.append(model.flat_params)
    pygru.set_num_threads(before)
    assert np.array_equal(weights[0], weights[1])
    assert np.array_equal(weights[0], weights[2])
