# SPDX-License-Identifier: MIT
"""What a sampler gives reaches the model, or is named."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine, fit, make_data

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
