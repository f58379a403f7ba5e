# SPDX-License-Identifier: MIT
"""Which layers a stream takes, and that those without a state give in it what they give outside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import pygru


def tall(dtype: npt.DTypeLike) -> pygru.Sequential:
    """A model of every other layer that a stream takes."""
    return pygru.Sequential(
        pygru.Tanh(),
        pygru.LayerNorm(3, eps=1e-3, dtype=dtype),
        pygru.GRU(3, 17, dtype=dtype, rng=0),
        pygru.ReLU(),
        pygru.LayerNorm(17, dtype=dtype),
        pygru.Linear(17, 9, bias=False, dtype=dtype, rng=2),
        pygru.Sigmoid(),
        pygru.Sequential(pygru.RNN(9, 8, dtype=dtype, rng=3), pygru.Softmax()),
    )


@pytest.mark.parametrize("B", [1, 5])
def test_layers_without_a_state_run_in_a_stream(rng, isa, dtype, B):
    model = tall(dtype)
    for values in model.params.values():
        if values.ndim == 1:  # of LayerNorm, too: 1 and 0 would hide which is which
            values[...] = rng.standard_normal(values.shape)
    x = rng.standard_normal((150, B, 3)).astype(dtype)
    y = model(x)
    stream = pygru.Stream(model, batch=B)
    np.testing.assert_array_equal(np.stack([stream.step(x_t) for x_t in x[:7]]), y[:7])
    np.testing.assert_array_equal(stream.process(x[7:]), y[7:])
    assert len(stream.state) == 2
    assert stream.state[1].shape == (1, B, 8)


def test_streams_of_models_that_differ_in_what_is_no_parameter_share_nothing(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    models = [
        pygru.Sequential(pygru.LayerNorm(3, eps=eps), pygru.RNN(3, 3, rng=0), function())
        for eps in (1e-5, 0.5)
        for function in (pygru.Tanh, pygru.Sigmoid)
    ]
    streams = [pygru.Stream(model) for model in models]
    for model, stream in zip(models, streams, strict=True):
        np.testing.assert_array_equal(stream.process(x), model(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: pygru.GRU(3, 4, bidirectional=True), "a bidirectional GRU needs the future"),
        (lambda: pygru.Sequential(pygru.GRU(3, 4), pygru.MeanOverTime()), "got MeanOverTime"),
        (lambda: pygru.Sequential(pygru.Embedding(3, 4), pygru.GRU(4, 4)), "got Embedding"),
        (lambda: pygru.Sequential(pygru.LastStep(batch_first=True)), "must hold a GRU"),
        (lambda: pygru.Sequential(pygru.Tanh()), "must hold a GRU, an RNN, a Linear or a LayerNo"),
        (lambda: pygru.Tanh(), "must hold a GRU"),
        (lambda: None, "^Stream: model must be a Sequential, GRU or RNN, got NoneType$"),
        (lambda: [pygru.GRU(3, 4)], "model must be a Sequential, GRU or RNN, got list$"),
    ],
)
def test_what_can_not_be_streamed_is_refused_by_name(model, message):
    with pytest.raises(TypeError, match=message):
        pygru.Stream(model())
