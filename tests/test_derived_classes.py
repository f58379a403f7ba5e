# SPDX-License-Identifier: MIT
"""A class derived from one of pygru's computes as it says, or is refused by whoever would not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import pygru
from pygru.interop import (
    to_keras_weights,
    to_onnx,
    to_rtneural,
    to_tf1,
    to_torch,
    write_keras_weights,
)


class Twice(pygru.Linear):
    def _apply(self, x, lengths, training, /):
        y, saved = super()._apply(x, lengths, training)
        return 2 * y, saved


class Backwards(pygru.Sequential):
    def _carry_forward(self, x, *rest):
        return super()._carry_forward(np.asarray(x)[::-1], *rest)


@pytest.mark.parametrize("model, message", [
    (Twice(3, 3), r"got a Twice with its own _apply"),
    (pygru.Sequential(pygru.GRU(3, 3), Twice(3, 3)), r"got a Twice with its own _apply"),
    (Backwards(pygru.GRU(3, 3)), r"got a Backwards with its own _carry_forward"),
    (pygru.Sequential(Backwards(pygru.GRU(3, 3))), r"got a Backwards with its own _carry_forward"),
])  # fmt: skip
def test_what_computes_its_own_way_is_refused(model, message):
    with pytest.raises(TypeError, match=f"^Stream: model must compute .*, {message}$"):
        pygru.Stream(model)


def test_a_derived_class_that_computes_the_same_is_streamed(rng):
    @dataclass
    class Named(pygru.GRU):  # compares by value, so it has no hash
        name: str

        def __post_init__(self):
            super().__init__(3, 4, rng=0)

    class Net(pygru.Sequential):
        def __init__(self):
            super().__init__(Named("lower"), pygru.Sequential(pygru.Linear(4, 2, rng=0)))

    model, x = Net(), rng.standard_normal((6, 3)).astype(np.float32)
    np.testing.assert_array_equal(pygru.Stream(model).process(x), model(x))


@pytest.mark.parametrize("export", [to_onnx, to_torch, to_rtneural])
def test_what_computes_its_own_way_is_not_exported(export):
    message = rf"^{export.__name__}: model must compute .*, got a Twice with its own _apply$"
    with pytest.raises(TypeError, match=message):
        export(pygru.Sequential(Twice(3, 2)))


def test_a_derived_class_is_read_as_it_computes(rng):
    class Shifted(pygru.GRU):
        def _forward(self, *arguments):
            y, h_n, saved = super()._forward(*arguments)
            return y + 1, h_n, saved

    gru, x = Shifted(3, 4, rng=0), rng.standard_normal((5, 2, 3))
    assert np.array_equal(pygru.Sequential(gru, pygru.LastStep())(x), gru(x)[0][-1])


def test_weights_of_what_computes_its_own_way_are_not_given_to_others(tmp_path):
    class Double(pygru.GRU):
        def _forward(self, *given):
            y, h_n, saved = super()._forward(*given)
            return 2 * y, h_n, saved

    model = Double(2, 3, reset="before")
    for give in (to_keras_weights, to_tf1, lambda m: write_keras_weights(m, tmp_path / "w")):
        with pytest.raises(TypeError, match=r"got a Double with its own _forward$"):
            give(model)


@pytest.mark.parametrize(
    "give", [to_keras_weights, to_onnx, to_rtneural, to_tf1, to_torch, write_keras_weights]
)
def test_what_is_no_model_is_given_to_nobody(give, tmp_path):
    rest = (tmp_path / "w",) if give is write_keras_weights else ()
    for wrong, got in ((None, "NoneType"), (pygru.GRU, "the class GRU")):
        with pytest.raises(TypeError, match=f"{give.__name__}: model must be a Module, got {got}"):
            give(wrong, *rest)


class Doubled(pygru.Layer):
    """A layer of one's own, of what its two methods return."""

    def __init__(self, apply, pull):
        super().__init__()
        self.apply, self.pull = apply, pull

    def config(self):
        return {}

    def _apply(self, x, _lengths, _training, /):
        return self.apply(2 * x)

    def _pull(self, _saved, dy, _input_gradient, /):
        return self.pull(2 * dy)


@pytest.mark.parametrize("below", [pygru.Linear, pygru.GRU])
def test_a_layer_that_keeps_the_gradient_to_itself_is_told_so(below):
    def train(pull):
        model = pygru.Sequential(below(3, 4), Doubled(lambda y: (y, None), pull))
        y, tape = model.forward(np.ones((2, 3), np.float32))
        model.backward(tape, y, input_gradient=False)
        return model.flat_grads.any()

    assert train(lambda dx: dx)
    with pytest.raises(TypeError, match=r"^Doubled\._pull: must return dx, .*, got None$"):
        train(lambda _: None)


def test_a_layer_that_nothing_learns_below_need_not_return_a_gradient():
    model = pygru.Sequential(Doubled(lambda y: (y, None), lambda _: None), pygru.Linear(3, 2))
    y, tape = model.forward(np.ones((2, 3), np.float32))
    assert model.backward(tape, y) is None


@pytest.mark.parametrize("apply, got", [
    (lambda y: y, "ndarray"),
    (lambda _: None, "NoneType"),
    (lambda y: (y, y, y), "3 items"),
])  # fmt: skip
def test_a_layer_that_returns_no_pair_is_told_so(apply, got):
    layer, x = Doubled(apply, None), np.ones((2, 3), np.float32)  # two rows unpack as a pair would
    model = pygru.Sequential(layer)
    for call in (layer, layer.forward, model, model.forward):
        with pytest.raises(TypeError, match=rf"^Doubled\._apply: must return \(y, .*, got {got}$"):
            call(x)
