# SPDX-License-Identifier: MIT
"""What a sampler gives reaches the model, or is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from affine import Affine, fit, make_data

import pygru
from pygru import data


def test_slices_from_a_sampler_reach_the_model_without_a_copy() -> None:
    model, X, Y = Affine(), *make_data()
    history = fit(model, X, Y, sampler=data.ContiguousBatches(steps=7, choices=4))
    assert history.epochs[0].steps == 7
    assert all(np.shares_memory(x, X) and len(x) == 10 for x, _ in model.seen)
    assert {float(x[0, 0]) for x, _ in model.seen} <= set(X[:40:10, 0])


def test_a_sampler_that_gives_nothing_is_named() -> None:
    with pytest.raises(ValueError, match="sampler must give at least one batch, got none"):
        fit(Affine(), *make_data(), sampler=lambda _n, _size, _rng: [])


def test_a_sampler_may_give_whatever_goes_through_batches() -> None:
    class Two:
        def __getitem__(self, index: int) -> slice:
            return [slice(0, 10), slice(10, 20)][index]

    assert fit(Affine(), *make_data(), sampler=lambda *_: Two()).epochs[0].steps == 2


def test_a_sampler_that_gives_no_batches_is_named() -> None:
    with pytest.raises(TypeError, match=r"^fit: sampler must give an iterable .*, got None"):
        fit(Affine(), *make_data(), sampler=lambda _n, _size, _rng: None)
    with pytest.raises(ValueError, match=r"^fit: sampler must give slices .*got \[\[1\],"):
        fit(Affine(), *make_data(), sampler=lambda _n, _size, _rng: [[[1], [1, 2]]])


def test_batches_may_be_told_in_every_way_that_numpy_knows() -> None:
    X = [np.full((t, 2), t / 9) for t in range(1, 9)]
    lengths = np.array([len(x) for x in X])
    padded = np.stack([np.pad(x, ((0, 8 - len(x)), (0, 0)), constant_values=np.nan) for x in X])
    even = np.arange(8) % 2 == 0
    ways = [[slice(0, None, 2)], [np.arange(0, 8, 2)], [[0, -6, 4, 6]], [even], [np.nonzero(even)]]
    for bptt in (None, 3):
        results = []
        for way in ways:
            for x, ends in ((X, None), (padded, lengths)):
                model = pygru.GRU(2, 2, batch_first=True, rng=0)
                fit(model, x, x, lengths=ends, sampler=lambda *_, way=way: way, bptt=bptt)
                results.append(model.flat_params)
        assert all(np.array_equal(results[0], other) for other in results)


def test_a_sampler_may_write_all_its_batches_into_one_array() -> None:
    def sampler(n: int, batch_size: int, _rng: Any) -> Any:
        batch = np.arange(batch_size)
        for start in range(0, n, batch_size):
            batch[:] = np.arange(start, start + batch_size)
            yield batch

    model, X, Y = Affine(), *make_data()
    fit(model, X, Y, sampler=sampler, epochs=1)
    assert np.array_equal(np.concatenate([x for x, _ in model.seen]), X)
