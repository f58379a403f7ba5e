# SPDX-License-Identifier: MIT
"""`fit` with a model that reads its targets: delayed many to many, with teacher forcing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import pygru
from pygru.encoder_decoder import EncoderDecoder

END, START = 4, 5
RNG = np.random.default_rng(0)
X = [RNG.integers(0, 4, n) for n in RNG.integers(1, 6, 40)]
Y = [np.append(x[::-1], END) for x in X]  # what was read, backwards


def padded(sequences: list[Any], filler: int) -> Any:
    array = np.full((len(sequences), max(map(len, sequences))), filler)
    for row, sequence in zip(array, sequences, strict=True):
        row[: len(sequence)] = sequence
    return array


def build(seed: int = 0, kind: Any = EncoderDecoder, end: int | None = END) -> Any:
    options: dict[str, Any] = {"dtype": np.float64, "rng": seed}
    parts = [
        (pygru.Embedding(n, 4, **options), pygru.GRU(4, 12, batch_first=True, **options))
        for n in (4, 6)
    ]
    encoder = pygru.Sequential(*parts[0])
    decoder = pygru.Sequential(*parts[1], pygru.Linear(12, 5, **options))
    return kind(encoder, decoder, start=START, end=end)


def fit(model: Any, X: Any = X, Y: Any = Y, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "loss": "cross_entropy",
        "optimizer": pygru.Adam(0.02),
        "epochs": 2,
        "batch_size": 8,
        "verbose": 0,
        "rng": 0,
    }
    return pygru.fit(model, X, Y, **(settings | changes))


def test_it_learns_to_write_backwards_what_it_read() -> None:
    model = build()
    history = fit(model, epochs=150, metrics="accuracy", validation=(X[:9], Y[:9]))
    assert history["accuracy"][-1] == history["validation_accuracy"][-1] == 1
    found = pygru.evaluate(model, X, Y, loss="cross_entropy", metrics="accuracy", batch_size=7)
    assert found["accuracy"] == 1
    written = model.generate(padded(X, 0), 6, lengths=[len(x) for x in X])
    assert np.array_equal(written, padded(Y, END))


def test_a_step_is_the_one_taken_by_hand() -> None:
    model, expected = build(), build()
    fit(model, optimizer=pygru.optim.SGD(0.1), epochs=1, batch_size=40)
    lengths, target_lengths = [len(x) for x in X], [len(y) for y in Y]
    y, tape = expected.forward(padded(X, 0), padded(Y, END), lengths=lengths)
    _, dy = pygru.losses.cross_entropy(y, padded(Y, END), target_lengths, batch_first=True)
    expected.backward(tape, dy)
    expected.flat_params[:] -= 0.1 * expected.flat_grads
    assert_close(model.flat_params, expected.flat_params, "reference")


def test_padded_arrays_end_where_the_end_is() -> None:
    lengths = [len(x) for x in X]
    order = pygru.data.ShuffledBatches()
    one, other = build(), build()
    history = fit(one, sampler=order)
    expected = fit(other, padded(X, 0), padded(Y, 99), lengths=lengths, sampler=order)
    assert_close(one.flat_params, other.flat_params, "reference")
    assert history.loss == pytest.approx(expected.loss)


def test_it_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    whole, first, second = build(), build(), build(1)
    fit(whole, epochs=3)
    fit(first, epochs=1, checkpoint=tmp_path / "run")
    fit(second, epochs=3, checkpoint=tmp_path / "run", resume=True)
    assert np.array_equal(whole.flat_params, second.flat_params)


def test_what_does_not_fit_is_named() -> None:
    model = build()
    before = model.flat_params.copy()
    wrong = [*Y[:-1], np.append(Y[-1], START)]
    with pytest.raises(ValueError, match=r"fit: Y must fit the loss: .* in 0 \.\. 4 .* got 5"):
        fit(model, Y=wrong)
    unread = [*Y[:-1], np.append(9, Y[-1])]
    with pytest.raises(ValueError, match=r"fit: Y must .* K-1 = 5, got 9 at index \(39, 0\)"):
        fit(model, Y=unread)
    with pytest.raises(ValueError, match=r"fit: Y must .* \(N, T\) .* got \(40,\) for X of shape"):
        fit(model, padded(X, 0), np.zeros(40, int))
    with pytest.raises(ValueError, match=r"fit: X and Y .* 0, got .* \(40, 5\) and \(40, 0\)"):
        fit(model, padded(X, 0), np.zeros((40, 0), int))
    unread = [*X[:-1], np.append(X[-1], 4)]
    with pytest.raises(ValueError, match=r"fit: X must .* K-1 = 3, got 4 at index \(39, "):
        fit(model, X=unread)
    with pytest.raises(ValueError, match="Y must have as many samples as X, 40, got shape"):
        fit(model, Y=Y[:-1])
    with pytest.raises(TypeError, match="bptt must be None for an EncoderDecoder"):
        fit(model, padded(X, 0), padded(X, 0), bptt=2)
    with pytest.raises(TypeError, match=r"predict: model must answer from X .* its generate"):
        pygru.predict(model, X)
    assert np.array_equal(model.flat_params, before)


def test_a_list_counts_as_an_array_does_up_to_the_first_end() -> None:
    model = build()
    after_end = [np.append(y, [2, 1]) for y in Y]
    for fitted in (fit, lambda model, X, Y: pygru.evaluate(model, X, Y, loss="cross_entropy")):
        results = [fitted(build(), X, targets) for targets in (Y, after_end)]
        values = [getattr(result, "loss", [result])[-1] for result in results]
        assert_close(values[0], values[1], "rounding")
    assert pygru.evaluate(model, X, after_end, loss="cross_entropy") == pygru.evaluate(
        model, X, padded(after_end, 3), loss="cross_entropy"
    )


def test_targets_without_an_end_are_warned_of() -> None:
    endless = [y[:-1] if len(y) > 1 else np.array([0]) for y in Y]
    with pytest.warns(UserWarning, match=r"^fit: Y should end in end = 4, got it in no sequence"):
        fit(build(), X, endless)


def test_the_warning_names_the_line_that_calls_fit_for_validation_data_too() -> None:
    endless = [y[:-1] if len(y) > 1 else np.array([0]) for y in Y]
    for data in ({"X": X, "Y": endless}, {"X": X, "Y": Y, "validation": (X, endless)}):
        with pytest.warns(UserWarning, match="should end in end = 4") as caught:
            pygru.fit(
                build(), **data, loss="cross_entropy", optimizer=pygru.Adam(), epochs=1, verbose=0
            )
        assert [warning.filename for warning in caught] == [__file__]


def test_a_derived_model_may_say_itself_where_targets_end() -> None:
    class Short(EncoderDecoder):
        def target_lengths(self, target: Any) -> Any:
            return np.minimum(np.shape(target)[1], 2) * np.ones(len(target), np.int64)

    parts = build()
    model = Short(copy.copy(parts.encoder), copy.copy(parts.decoder), start=START)
    assert model.end is None
    cut = [y[:2] for y in Y]
    loss = pygru.evaluate(model, X, Y, loss="cross_entropy")  # without a warning of an end
    assert_close(loss, pygru.evaluate(model, X, cut, loss="cross_entropy"), "rounding")


def test_an_end_may_be_missing_in_some_targets() -> None:
    fit(build(), X, [Y[0][:-1], *Y[1:]], epochs=1)


def test_a_class_of_the_users_says_which_targets_count() -> None:
    class First(EncoderDecoder):
        def target_lengths(self, target: Any) -> Any:
            return np.ones(len(target), np.int64)

    model, targets = build(kind=First, end=None), padded(Y, 0)
    changed = targets.copy()
    changed[:, 1:] = (changed[:, 1:] + 1) % 5
    first, other = (pygru.evaluate(model, X, y, loss="cross_entropy") for y in (targets, changed))
    assert first == other
