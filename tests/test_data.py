# SPDX-License-Identifier: MIT
"""Windows hold what they say, and samplers give the batches they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pygru
from pygru import data


@pytest.mark.parametrize("features", [None, 1, 3])
@pytest.mark.parametrize("length, horizon", [(1, 1), (5, 1), (4, 3)])
def test_every_window_is_followed_by_its_target(
    length: int, horizon: int, features: int | None
) -> None:
    F = features or 1
    series = np.arange(20.0 * F).reshape((20,) if features is None else (20, F))
    X, Y = data.windows(series, length, horizon)
    N = 20 - length - horizon + 1
    assert X.shape == (N, length, F)
    assert Y.shape == (N, horizon * F)
    steps = series.reshape(20, F)
    for i in range(N):
        assert np.array_equal(X[i], steps[i : i + length])
        assert np.array_equal(Y[i], steps[i + length : i + length + horizon].ravel())


def test_windows_are_a_read_only_view_with_a_contiguous_last_axis() -> None:
    series = np.zeros((20, 3), np.float32)
    X, _ = data.windows(series, 5)
    assert np.shares_memory(X, series)
    assert not X.flags.writeable
    assert X.strides[-1] == data.windows(series[:, ::2], 5)[0].strides[-1] == X.itemsize
    assert X.dtype == np.float32


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((np.zeros(5), 5), ValueError, r"length \+ horizon = 6 steps, got 5"),
        ((np.zeros((5, 2, 2)), 1), ValueError, r"\(S,\) or \(S, F\), got \(5, 2, 2\)"),
        ((np.zeros(5), 0), ValueError, "length must be an integer >= 1, got 0"),
        ((np.zeros(5), 2, 0), ValueError, "horizon must be an integer >= 1, got 0"),
        ((np.zeros(5), 1.5), TypeError, "length must be an integer >= 1, got 1.5"),
        ((np.zeros(5, complex), 1), TypeError, "real numbers, got dtype complex128"),
    ],
)
def test_windows_names_what_does_not_fit(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        data.windows(*arguments)


def test_sine_is_sin_on_linspace() -> None:
    expected = np.sin(np.linspace(0, 100, 10_000))
    assert np.array_equal(data.sine(0, 100, 10_000, dtype=np.float64), expected)
    assert np.array_equal(data.sine(0, 100, 10_000), expected.astype(np.float32))
    with pytest.raises(ValueError, match="samples must be an integer >= 1, got 0"):
        data.sine(0, 1, 0)
    for samples in (2**60, 2**62, 2**64):
        with pytest.raises(ValueError, match=f"sine: samples must fit in .* got {samples} elem"):
            data.sine(0, 1, samples)


@pytest.mark.parametrize("shape", [(0,), (10, 0), (0, 2)])
def test_a_series_without_values_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"windows: series must have at least .* got"):
        data.windows(np.zeros(shape), 5)
    with pytest.raises(ValueError, match=r"fold: series must have .*at least .* got"):
        data.fold(np.zeros(shape), 5)


def test_series_of_unequal_lengths_are_named() -> None:
    for name, cut in (("windows", data.windows), ("fold", data.fold)):
        with pytest.raises(ValueError, match=f"^{name}: series must be one array, got nested"):
            cut([[1.0, 2.0], [3.0]], 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("n, batch_size", [(10, 3), (9, 3), (2, 5), (0, 4)])
def test_batches_cover_every_sample_once_in_order(n: int, batch_size: int) -> None:
    covered = [i for batch in data.batches(n, batch_size) for i in range(n)[batch]]
    assert covered == list(range(n))


def test_shuffled_batches_hold_every_sample_once_in_another_order_each_epoch() -> None:
    rng = np.random.default_rng(0)
    first, second = (np.concatenate(list(data.ShuffledBatches()(10, 3, rng))) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert not np.array_equal(first, second)
    sizes = [len(batch) for batch in data.ShuffledBatches(drop_last=True)(10, 3, rng)]
    assert sizes == [3, 3, 3]


def test_contiguous_batches_are_drawn_from_the_first_choices() -> None:
    rng = np.random.default_rng(0)
    epoch = list(data.ContiguousBatches(steps=1000, choices=3)(50, 10, rng))
    assert {(batch.start, batch.stop) for batch in epoch} == {(0, 10), (10, 20), (20, 30)}
    assert len(list(data.ContiguousBatches()(59, 10, rng))) == 5
    with pytest.raises(ValueError, match="at least 6 full batches of 10, got 5"):
        list(data.ContiguousBatches(choices=6)(59, 10, rng))
    with pytest.raises(ValueError, match="at least 1 full batches of 10, got 0"):
        list(data.ContiguousBatches()(9, 10, rng))


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    "batch", [3, None, slice(5, 5), np.array([], int), np.array([4, 5]), np.array([0.0]), [[1, 2]]]
)
def test_a_batch_that_holds_no_samples_is_named_before_the_first_step(
    batch: Any, listed: bool
) -> None:
    X = [np.ones((1 + i * listed, 1)) for i in range(5)]
    model = pygru.Sequential(pygru.GRU(1, 1, batch_first=True, rng=0))
    before = model.flat_params.copy()
    with pytest.raises(ValueError, match=r"fit: sampler must give .* N = 5, got .* in epoch 1"):
        pygru.fit(
            model, X, X, loss="mse", optimizer=pygru.Adam(), epochs=1, bptt=1, verbose=0,
            sampler=lambda *_: [slice(0, 2), batch],
        )  # fmt: skip
    assert np.array_equal(model.flat_params, before)


@pytest.mark.parametrize("sampler", [data.ShuffledBatches(), data.ContiguousBatches()], ids=repr)
def test_the_same_seed_gives_the_same_batches(sampler: data.Sampler) -> None:
    first, second = (list(sampler(50, 7, np.random.default_rng(3))) for _ in range(2))
    assert [str(batch) for batch in first] == [str(batch) for batch in second]


def test_a_table_of_objects_is_told_how_it_becomes_numbers() -> None:
    told = r"^windows: series must hold real numbers, got dtype object; .* to_numpy\(dtype=float\)$"
    with pytest.raises(TypeError, match=told):
        data.windows([1.0, None, 2.0], length=2)  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"got dtype complex128$"):
        data.windows(np.ones(3, complex), length=2)


@pytest.mark.parametrize("start, error, message", [
    ("a", TypeError, "start must be a number, got 'a'"),
    (None, TypeError, "start must be a number, got None"),
    (np.nan, ValueError, "start must be finite, got nan"),
    (10**400, ValueError, "start must be a number and fit in a float, got an integer beyond"),
])  # fmt: skip
def test_a_sine_that_starts_nowhere_is_named(start: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"^sine: {message}"):
        data.sine(start, 1.0, 5)


def test_a_sine_may_start_at_an_integer_of_any_length() -> None:
    assert np.array_equal(data.sine(10**30, 10**30, 2), data.sine(1e30, 1e30, 2))


def test_batches_of_no_number_of_samples_are_named() -> None:
    for wrong, error in ((-1, ValueError), (2.5, TypeError), (None, TypeError), (True, TypeError)):
        with pytest.raises(error, match="batches: n must be an integer >= 0, got"):
            data.batches(wrong, 2)  # type: ignore[arg-type]
    assert data.batches(0, 2) == []
