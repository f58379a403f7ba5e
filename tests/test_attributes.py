# SPDX-License-Identifier: MIT
"""What a module was made with stays, or acts at once where it may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pygru


def parts() -> Any:
    return [pygru.Sequential(pygru.OneHot(5), pygru.GRU(5, 8)) for _ in range(2)]


@pytest.mark.parametrize("make, name, value", [
    (lambda: pygru.GRU(2, 3), "reset", "before"),
    (lambda: pygru.GRU(2, 3), "batch_first", True),
    (lambda: pygru.GRU(2, 3), "hidden_size", 4),
    (lambda: pygru.GRU(2, 3), "bidirectional", True),
    (lambda: pygru.RNN(2, 3), "nonlinearity", "relu"),
    (lambda: pygru.GRUCell(2, 3), "hidden_size", 4),
    (lambda: pygru.Linear(2, 3), "out_features", 4),
    (lambda: pygru.LayerNorm(3), "eps", 1.0),
    (lambda: pygru.Sequential(pygru.GRU(2, 3), pygru.Linear(3, 1)), "batch_first", True),
    (lambda: pygru.EncoderDecoder(*parts(), start=0), "encoder", pygru.Sequential()),
])  # fmt: skip
def test_an_argument_cannot_be_changed_afterwards(make: Any, name: str, value: Any) -> None:
    module = make()
    before, told = getattr(module, name), repr(module)
    with pytest.raises(AttributeError, match=f"^{type(module).__name__}: {name} must stay "):
        setattr(module, name, value)
    setattr(module, name, before)
    assert getattr(module, name) is before and repr(module) == told


def test_a_parameter_is_set_through_params() -> None:
    linear = pygru.Linear(2, 3)
    for name in ("weight", "bias"):
        with pytest.raises(AttributeError, match=rf"{name} must be set by params\['{name}'\] = "):
            setattr(linear, name, np.zeros(3))
    with pytest.raises(KeyError, match=r"must be one of weight, bias, got 'weigth'"):
        linear.params["weigth"] = np.zeros((3, 2))


def test_dropout_between_layers_may_be_set_and_acts() -> None:
    gru, x = pygru.GRU(2, 4, num_layers=2, dropout=0.5, rng=0), np.ones((3, 1, 2))
    gru.dropout = 0.0
    assert np.array_equal(gru.forward(x)[0], gru(x)[0])
    assert gru.rng_state() == {} and gru.config()["dropout"] == 0.0
    gru.dropout = 0.5
    assert not np.array_equal(gru.forward(x)[0], gru(x)[0])
    assert list(gru.rng_state()) == [""]
    for module in (gru, pygru.Dropout(0.5)):
        name = "dropout" if module is gru else "p"
        with pytest.raises(ValueError, match=f"{name} must be a number from 0 to 1, got -1"):
            setattr(module, name, -1)
        assert getattr(module, name) == 0.5


def test_the_end_of_an_encoder_decoder_may_be_set_to_what_it_writes() -> None:
    encoder, decoder = parts()
    writes_four = pygru.Sequential(decoder, pygru.Linear(8, 4))
    model = pygru.EncoderDecoder(encoder, writes_four, start=4, end=3)
    with pytest.raises(ValueError, match=r"^EncoderDecoder: end must .*3.*, got 4"):
        model.end = 4
    assert model.end == 3
    model.end = None
    assert model.target_lengths([[3], [3]]) is None
