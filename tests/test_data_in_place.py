# SPDX-License-Identifier: MIT
"""Data of another dtype than the model's: brought to it batch by batch, never as a whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pygru
from pygru import rows
from pygru.rows import Rows

N, T = 2000, 250
FLOAT32 = np.dtype(np.float32)


def peak(call: Callable[[], object]) -> int:
    """Return the most memory that a call took besides what was there before, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def build(*, steps: bool) -> Any:
    gru = pygru.GRU(4, 2, batch_first=True, rng=0)
    return pygru.Sequential(gru, *[pygru.LastStep()] * (not steps), pygru.Linear(2, 4, rng=1))


def train(model: Any, X: Any, Y: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {"batch_size": 20, "epochs": 1, "verbose": 0, "rng": 0}
    return pygru.fit(model, X, Y, loss="mse", optimizer=pygru.Adam(1e-3), **(settings | options))


@pytest.fixture(scope="module")
def series() -> Any:
    return np.random.default_rng(0).standard_normal((N, T, 4))  # 16 MB


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, ">f4"])
def test_data_of_any_dtype_take_no_second_place_in_memory(
    series: Any, dtype: Any, padded: bool
) -> None:
    X = series.astype(dtype)
    lengths = None
    if padded:
        lengths = np.full(N, T - 50)
        X[:, T - 50 :] = np.nan
    room, model = X.nbytes // 4, build(steps=True)
    last = build(steps=False)
    assert peak(lambda: pygru.predict(last, X, lengths=lengths, batch_size=20)) < room
    calls: list[Callable[[], object]] = [
        lambda: pygru.evaluate(model, X, X, loss="mse", lengths=lengths, batch_size=20),
        lambda: train(model, X, X, lengths=lengths, validation=(X, X, lengths)),
    ]
    for call in calls:
        assert peak(call) < room


def test_sequences_take_no_second_place_either(series: Any) -> None:
    X = [x[: T - n % 2] for n, x in enumerate(series)]
    model, last = build(steps=True), build(steps=False)
    calls: list[Callable[[], object]] = [
        lambda: pygru.predict(last, X, batch_size=20),
        lambda: pygru.evaluate(model, X, X, loss="mse", batch_size=20),
        lambda: train(model, X, X, validation=(X, X)),
        lambda: train(model, X, X, validation=(X, X), bptt=100),
    ]
    for call in calls:
        assert peak(call) < series.nbytes // 4


def test_few_long_series_are_cut_before_they_are_copied(series: Any) -> None:
    X = pygru.fold(series.reshape(-1, 4), 4)
    model = build(steps=True)
    assert peak(lambda: train(model, X, X, bptt=100, validation=(X, X))) < X.nbytes // 4


@pytest.mark.parametrize("steps", [True, False])
def test_the_results_are_those_of_data_in_the_models_dtype(series: Any, steps: bool) -> None:
    X = series[:100]
    Y = X if steps else X[:, -1]
    results = []
    for cast in (np.float64, np.float32):
        model, x, y = build(steps=steps), X.astype(cast), Y.astype(cast)
        seen = []

        def loss(y: Any, target: Any, seen: Any = seen) -> Any:
            seen.append(target.dtype)
            return pygru.losses.mse(y, target)

        train(model, x, y)
        value = pygru.evaluate(model, x, y, loss=loss)
        assert set(seen) == {FLOAT32}
        results.append((model.flat_params, pygru.predict(model, x), value))
    for a, b in zip(*results, strict=True):
        assert np.array_equal(a, b)


def test_sequences_become_batches_in_the_models_dtype() -> None:
    X, seen = [np.zeros((n, 4)) for n in (2, 3)], []

    def loss(y: Any, target: Any, **lengths: Any) -> Any:
        seen.append(target.dtype)
        return pygru.losses.mse(y, target, **lengths)

    pygru.evaluate(build(steps=True), X, X, loss=loss)
    assert seen == [FLOAT32]


@pytest.mark.parametrize(
    "shape", [(7,), (7, 5), (5, 40), (3, 4, 5), (2, 30, 3), (4, 0, 2), (1, 9, 2, 2)]
)
def test_pieces_are_all_of_it_in_order(shape: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(rows, "_PIECE", 12)
    array = np.arange(np.prod(shape), dtype=float).reshape(shape)
    seen: list[float] = []
    for place, piece in Rows(array, FLOAT32).pieces():
        assert piece.dtype == FLOAT32 and piece.size <= 12 + np.prod(shape[1:])
        assert piece.flat[0] == array[place[: array.ndim]].flat[0]
        seen += piece.ravel().tolist()
    assert seen == array.ravel().tolist()


def test_a_wrong_value_is_named_wherever_it_is(monkeypatch: Any) -> None:
    monkeypatch.setattr(rows, "_PIECE", 12)
    model = build(steps=True)
    for at in [(0, 0, 0), (2, 6, 3), (4, 9, 1)]:
        X = np.zeros((5, 10, 4))
        X[at] = np.inf
        X[4, 9, 3] = 1e300
        message = rf"predict: X must be finite, got inf at index \({at[0]}, {at[1]}, {at[2]}\) \(2"
        with pytest.raises(ValueError, match=message):
            pygru.predict(model, X)
    classes = np.zeros((5, 40), int)
    classes[3, 33] = 9
    table = pygru.Sequential(pygru.Embedding(9, 2), pygru.GRU(2, 2, batch_first=True))
    with pytest.raises(ValueError, match=r"got 9 at index \(3, 33\)"):
        pygru.predict(table, classes)
    with pytest.raises(ValueError, match=r"target must hold class .* 0 .. 1 .* got 9"):
        pygru.evaluate(table, classes % 9, classes, loss="cross_entropy")


def test_padding_may_be_a_number_that_the_model_has_no_room_for() -> None:
    X = np.zeros((2, 5, 4))
    X[1, 3:] = np.finfo(np.float64).max
    assert np.isfinite(pygru.predict(build(steps=False), X, lengths=[5, 3])).all()
    with pytest.raises(ValueError, match=r"X must be finite in float32, got 1.79.* \(1, 3, 0\)"):
        pygru.predict(build(steps=False), X, lengths=[5, 4])


def test_padding_is_left_out_of_every_piece(monkeypatch: Any) -> None:
    monkeypatch.setattr(rows, "_PIECE", 12)
    X, model = np.zeros((2, 10, 4)), build(steps=False)
    X[0, 9:] = X[1, 3:] = np.nan
    assert np.isfinite(pygru.predict(model, X, lengths=[9, 3])).all()
    with pytest.raises(ValueError, match=r"X must be finite, got nan at index \(0, 9, 0\) \(4"):
        pygru.predict(model, X, lengths=[10, 3])
