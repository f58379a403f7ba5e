# SPDX-License-Identifier: MIT
"""Models compose modules over one buffer."""

from __future__ import annotations

import copy
import json
import pickle
import re
from dataclasses import dataclass

import numpy as np
import pytest
from model_problems import LENGTHS, B, H, I, T, make_model, through_shared_memory
from tolerances import assert_close, finite_difference

import pygru


@pytest.mark.parametrize("lengths", [None, [3, 0]], ids=["full", "lengths"])
def test_every_gradient_of_a_model_is_the_finite_difference(lengths, rng):
    model = make_model(H=3)
    x = rng.standard_normal((2, 3, I))
    state = model.rng_state()

    def run():
        model.load_rng_state(state)
        return model.forward(x, lengths=lengths)

    y, tape = run()
    dy = rng.standard_normal(y.shape)
    dx = model.backward(tape, dy)

    def loss():
        return float(np.sum(dy * run()[0]))

    assert_close(dx, finite_difference(loss, x), "finite differences", "dx")
    expected = finite_difference(loss, model.flat_params)
    assert_close(model.flat_grads, expected, "finite differences", "flat_grads")


def test_a_model_is_its_modules_in_a_row(dtype, rng):
    model = make_model(dtype)
    x = rng.standard_normal((B, T, I)).astype(dtype)
    y = x
    for module in model:
        y = module(y, lengths=LENGTHS) if module.batch_first is not None else module(y)
        y = y[0] if isinstance(y, tuple) else y
    assert y.shape == (B, 2)
    assert np.array_equal(model(x, lengths=LENGTHS), y)


def test_all_parameters_live_in_one_buffer_which_the_modules_share():
    model = make_model()
    assert len(model) == 7
    assert model.flat_params.size == sum(module.flat_params.size for module in model)
    for i, module in enumerate(model):
        for name in module.params:
            assert np.shares_memory(module.params[name], model.flat_params)
            assert np.shares_memory(module.grads[name], model.flat_grads)
            assert np.array_equal(module.params[name], model.params[f"{i}.{name}"])
    assert [*model.params][:3] == ["0.weight", "0.bias", "1.weight_ih_l0"]
    model.flat_params[:] = 0.0
    assert not model[1](np.ones((B, T, 4)))[0].any()


def test_joining_a_model_keeps_weights_and_gradients():
    gru = pygru.GRU(I, H, rng=0)
    gru.flat_grads[:] = 1.0
    before = gru.flat_params.copy()
    pygru.Sequential(gru, pygru.Linear(H, 1))
    assert np.array_equal(gru.flat_params, before)
    assert gru.flat_grads.all()


def test_what_nobody_reads_is_not_computed(rng):
    model = pygru.Sequential(pygru.Dropout(0.1, rng=0), pygru.GRU(I, H, rng=0), pygru.LastStep())
    y, tape = model.forward(rng.standard_normal((T, B, I)))
    assert model.backward(tape, y, input_gradient=False) is None
    y, tape = model.forward(rng.standard_normal((T, B, I)))
    with_input = model.flat_grads.copy()
    assert with_input.any()
    assert model.backward(tape, y).shape == (T, B, I)


@pytest.mark.parametrize(
    "below",
    [
        lambda: [pygru.GRU(I, H, 2, batch_first=True)],
        lambda: [pygru.Dropout(0.1, rng=0), pygru.RNN(I, H, batch_first=True)],
        lambda: [
            pygru.Sequential(pygru.Linear(I, I), pygru.Tanh()),
            pygru.GRU(I, H, batch_first=True),
        ],
        lambda: [pygru.Sequential(pygru.GRU(I, H, batch_first=True), pygru.LayerNorm(H))],
    ],
)
def test_fit_lets_nobody_compute_a_gradient_of_the_inputs(below, rng, monkeypatch):
    asked = []  # the dx of every kernel that gives one, the lowest layer's last

    def backward(cell, x, lengths, runs, most=pygru._core.MOST_THREADS):
        asked.append((x.shape[-1], [run[-6] for run in runs]))
        recurrent(cell, x, lengths, runs, most)

    def linear_backward(x, W, dy, dx, dW, db):
        asked.append((x.shape[-1], [dx]))
        linear(x, W, dy, dx, dW, db)

    recurrent, linear = pygru._core.backward, pygru._core.linear_backward
    monkeypatch.setattr(pygru._core, "backward", backward)
    monkeypatch.setattr(pygru._core, "linear_backward", linear_backward)
    model = pygru.Sequential(*below(), pygru.Linear(H, 1))
    X, Y = rng.standard_normal((4, T, I)), rng.standard_normal((4, T, 1))
    options = {"loss": "mse", "optimizer": pygru.Adam(), "verbose": 0}
    pygru.fit(model, X, Y, epochs=1, batch_size=4, **options)
    assert len(asked) >= 2
    assert asked[-1] == (I, [None] * len(asked[-1][1]))
    assert all(dx is not None for _, dxs in asked[:-1] for dx in dxs)


def test_a_result_and_the_state_after_it_are_two_arrays(rng):
    model = pygru.Sequential(pygru.GRU(I, H, rng=0), pygru.LastStep())
    y, (h_n,) = model.run(rng.standard_normal((T, B, I)))
    assert np.array_equal(y, h_n[0])
    assert not np.shares_memory(y, h_n)


def test_integers_come_in_through_an_embedding(rng):
    model = pygru.Sequential(
        pygru.Embedding(11, I, rng=0), pygru.GRU(I, H, rng=0), pygru.Linear(H, 11, rng=0)
    )
    y, tape = model.forward(rng.integers(0, 11, (T, B)))
    assert y.shape == (T, B, 11)
    assert model.backward(tape, y) is None
    assert model.grads["0.weight"].any()


@pytest.mark.parametrize("batch_first", [False, True])
def test_time_is_where_the_recurrent_layer_has_it(batch_first, rng):
    gru = pygru.GRU(I, H, batch_first=batch_first, rng=0)
    inner = pygru.Sequential(pygru.MeanOverTime())
    model = pygru.Sequential(pygru.Sequential(gru), inner)
    assert model.batch_first == inner.batch_first == inner[0].batch_first == batch_first
    x = rng.standard_normal((B, T, I) if batch_first else (T, B, I))
    assert model(x).shape == (B, H)


def test_an_unbatched_sequence_goes_through_a_model(rng):
    x = rng.standard_normal((B, T, I))
    model = make_model()
    assert_close(model(x[2]), model(x)[2], "reference")


def test_copies_of_a_model_stand_on_their_own(rng):
    model = make_model()
    x = rng.standard_normal((B, T, I))
    y = model(x)
    for clone in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(clone(x), y)
        clone.flat_params[:] = 0.0
        assert not clone(x).any()
        assert not clone[1].flat_params.any()
        for part in (copy.copy(clone[1]), copy.deepcopy(clone[1])):
            pygru.Sequential(part)  # a copy belongs to nobody
        pygru.Sequential(clone)
        assert np.array_equal(model(x), y)
    for clone in (copy.copy(model[1]), copy.deepcopy(model[1])):
        clone.flat_grads[:] = 1.0
        assert not model.flat_grads.any()
    for one in model:
        assert np.shares_memory(one.flat_params, model.flat_params) or not one.flat_params.size


def test_a_layer_may_compare_by_value(rng):
    @dataclass
    class Scale(pygru.Layer):  # a dataclass with this comparison has no hash
        factor: float

        def __post_init__(self):
            super().__init__()

        def config(self):
            return {"factor": self.factor}

        def _apply(self, x, _lengths, _training, /):
            return x * self.factor, None

        def _pull(self, _saved, dy, _input_gradient, /):
            return dy * self.factor

    linear = pygru.Linear(I, 2, dtype=np.float64, rng=0)
    model = pygru.Sequential(linear, Scale(2.0), Scale(2.0))
    x = rng.standard_normal((B, I))
    assert np.array_equal(copy.deepcopy(model)(x), 4 * linear(x))


@pytest.mark.parametrize("name", ["flat_params", "flat_grads"])
def test_assigning_to_a_flat_buffer_writes_into_it(name):
    model = pygru.Sequential(pygru.GRU(I, H, rng=0), pygru.Linear(H, 1, rng=0))
    buffer, part = getattr(model, name), getattr(model[1], name)
    buffer[:] = np.arange(buffer.size)
    setattr(model, name, getattr(model, name) * 2.0)
    assert getattr(model, name) is buffer
    assert np.array_equal(part, 2.0 * np.arange(buffer.size)[-part.size :])
    with pytest.raises(ValueError, match=rf"^Sequential: {name} must have shape .*, got \(3,\)$"):
        setattr(model, name, np.ones(3))


def test_gradients_are_scaled_in_place():
    linear = pygru.Linear(2, 1, rng=0)
    linear.grads["bias"] = [4.0]
    linear.flat_grads *= 0.5
    assert linear.grads["bias"] == 2.0


def test_a_pickle_holds_the_weights_of_a_model_once():
    one, another = (pygru.GRU(50, 50, rng=seed) for seed in (0, 1))
    alone = len(pickle.dumps(one)) + len(pickle.dumps(another))
    assert alone < 1.05 * 4 * one.flat_params.nbytes  # parameters and gradients of both
    model = pygru.Sequential(pygru.Sequential(one), pygru.Sequential(another))
    model.flat_grads[:] = 1.0
    content = pickle.dumps(model)
    assert len(content) < 1.05 * alone
    other = pickle.loads(content)
    assert np.array_equal(other.flat_params, model.flat_params)
    assert np.array_equal(other.flat_grads, model.flat_grads)
    assert len(pickle.loads(pickle.dumps(pygru.Sequential())).flat_params) == 0


@pytest.mark.parametrize("memory", [{"odd": False}, {"frozen": False}, {}])
@pytest.mark.parametrize("model", [make_model(), pygru.Linear(I, 4, rng=0)])
def test_a_model_from_memory_that_processes_share_can_be_trained(model, memory, rng):
    x = rng.standard_normal((B, T, I))
    other = through_shared_memory(model, **memory)
    assert other.flat_params.flags.aligned and other.flat_params.flags.writeable
    assert np.array_equal(other(x), model(x))
    other.zero_grad()
    y, tape = other.forward(x)
    other.backward(tape, y)
    other.flat_params[:] = 0.0
    assert not other(x).any()


def test_what_does_not_fit_together_is_refused_and_nothing_moves():
    gru = pygru.GRU(I, H, batch_first=True)
    buffer = gru.flat_params
    with pytest.raises(TypeError, match=r"module 1 must be a layer with .* one output, got 3"):
        pygru.Sequential(gru, 3)
    with pytest.raises(ValueError, match=r"module 1 \(GRU\) must be in one place only"):
        pygru.Sequential(gru, gru)
    with pytest.raises(ValueError, match=r"module 1 \(Linear\) must have the dtype of module 0"):
        pygru.Sequential(gru, pygru.Linear(H, 1, dtype=np.float64))
    with pytest.raises(ValueError, match=r"module 1 \(GRU\) must have the batch_first of module 0"):
        pygru.Sequential(gru, pygru.GRU(H, H))
    with pytest.raises(ValueError, match=r"module 1 \(Linear\) must read what module 0 \(GRU\)"):
        pygru.Sequential(gru, pygru.Linear(H + 1, 1))
    assert gru.flat_params is buffer
    model = pygru.Sequential(gru)
    with pytest.raises(ValueError, match=r"module 0 \(GRU\) must be in one place only"):
        pygru.Sequential(gru)
    del model
    assert pygru.Sequential(gru).flat_params.size == gru.flat_params.size  # of no model any more


class Unknown(pygru.Layer):
    """A layer of the user's, which does not tell its widths."""

    def config(self):
        return {}

    def _apply(self, x, _lengths, _training, /):
        return np.asarray(x)[..., :2], None

    def _pull(self, _saved, _dy, _input_gradient, /):
        return None


class TwiceAsWide(pygru.MeanOverTime):
    """A layer derived from pygru's that gives another width than it."""

    def _apply(self, x, lengths, training, /):
        y, saved = super()._apply(x, lengths, training)
        return np.concatenate((y, y), axis=-1), saved


BIDIRECTIONAL = {"bidirectional": True, "batch_first": True}
CHAINS = [  # modules, and of those that do not fit which they are and the two widths
    ([pygru.GRU(3, 8), pygru.Linear(4, 1)], ("1 (Linear)", "0 (GRU)", 8, 4)),
    ([pygru.GRU(3, 8, **BIDIRECTIONAL), pygru.Linear(8, 1)], ("1 (Linear)", "0 (GRU)", 16, 8)),
    ([pygru.GRU(3, 8, **BIDIRECTIONAL), pygru.BothEnds(), pygru.Linear(16, 1)], None),
    ([pygru.RNN(3, 8), pygru.LastStep(), pygru.Tanh(), pygru.Dropout(), pygru.Linear(3, 1)],
     ("4 (Linear)", "0 (RNN)", 8, 3)),
    ([pygru.Embedding(9, 3), pygru.GRU(9, 8)], ("1 (GRU)", "0 (Embedding)", 3, 9)),
    ([pygru.OneHot(9), pygru.GRU(3, 8)], ("1 (GRU)", "0 (OneHot)", 9, 3)),
    ([pygru.Linear(1, 4), pygru.RepeatVector(5), pygru.GRU(5, 8)],
     ("2 (GRU)", "0 (Linear)", 4, 5)),
    ([pygru.Linear(1, 4), pygru.LayerNorm(5)], ("1 (LayerNorm)", "0 (Linear)", 4, 5)),
    ([pygru.LayerNorm(5), pygru.MeanOverTime(), pygru.Linear(4, 5)],
     ("2 (Linear)", "0 (LayerNorm)", 5, 4)),
    ([pygru.Sequential(pygru.Tanh(), pygru.Linear(2, 4)), pygru.Linear(2, 2)],
     ("1 (Linear)", "0 (Sequential)", 4, 2)),
    ([pygru.Linear(2, 4), pygru.Sequential(pygru.Tanh(), pygru.Linear(2, 4))],
     ("1 (Sequential)", "0 (Linear)", 4, 2)),
    ([pygru.Linear(2, 4), pygru.Sequential(), pygru.Linear(4, 4)], None),
    ([pygru.Linear(2, 4), Unknown(), pygru.Linear(2, 4)], None),
    ([pygru.GRU(1, 4), TwiceAsWide(), pygru.Linear(8, 1)], None),
    ([pygru.GRU(1, 4), pygru.Sequential(TwiceAsWide()), pygru.Linear(8, 1)], None),
    ([pygru.Linear(2, 4), pygru.Sequential(Unknown(), pygru.Linear(2, 4))], None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("modules", "wrong"), CHAINS, ids=["-".join(type(m).__name__ for m in c) for c, _ in CHAINS]
)
def test_modules_whose_widths_do_not_fit_are_named(modules, wrong):
    modules = copy.deepcopy(modules)
    if wrong is None:
        pygru.Sequential(*modules)
        return
    reader, giver, gives, reads = wrong
    told = f"module {reader} must read what module {giver} gives, K = {gives}, got one that reads "
    with pytest.raises(ValueError, match=f"^{re.escape(f'Sequential: {told}{reads}')}$"):
        pygru.Sequential(*modules)


def test_errors_inside_a_model_name_the_layer_and_a_wrong_dy_changes_nothing(rng):
    model = make_model()
    with pytest.raises(ValueError, match=r"Linear.forward: x must have shape \(..., K\)"):
        model(np.zeros((B, T, I + 1)))
    y, tape = model.forward(rng.standard_normal((B, T, I)))
    with pytest.raises(
        ValueError,
        match=r"Sequential.backward: dy must have the shape of y, \(5, 2\), got \(5, 1\)",
    ):
        model.backward(tape, y[:, :1])
    assert not model.flat_grads.any()
    model.backward(tape, y)
    with pytest.raises(RuntimeError, match="tape was already used"):
        model.backward(tape, y)


def test_going_on_from_a_random_state_draws_the_same_masks(rng):
    model = make_model()
    x = rng.standard_normal((B, T, I))
    state = model.rng_state()
    y, _ = model.forward(x)
    assert not np.array_equal(model.forward(x)[0], y)
    other = make_model(rng=1)
    other.load_state_dict(model.state_dict())
    other.load_rng_state(json.loads(json.dumps(state)))
    assert np.array_equal(other.forward(x)[0], y)
    with pytest.raises(ValueError, match=r"load_rng_state: state must be of the generators"):
        model.load_rng_state({})
    with pytest.raises(TypeError, match=r"load_rng_state: state must map names to values, got No"):
        model.load_rng_state(None)


def test_a_random_state_with_a_wrong_entry_changes_nothing():
    def dropout(seed):
        return pygru.Dropout(0.5, rng=seed)

    model, other = (
        pygru.Sequential(dropout(0), dropout(1)),
        pygru.Sequential(dropout(2), dropout(3)),
    )
    before, good = model.rng_state(), other.rng_state()
    for wrong in (None, {}, {"bit_generator": "PCG64"}, good["1."] | {"has_uint32": "x"}):
        with pytest.raises(ValueError, match=r"state\['1.'\] must be the state of a PCG64, got "):
            model.load_rng_state(good | {"1.": wrong})
        assert model.rng_state() == before
    with pytest.raises(ValueError, match=r"state must be of the generators .*, got \['0.', 3\]"):
        model.load_rng_state({"0.": good["0."], 3: None})


def test_a_model_without_modules_gives_its_input_as_an_array():
    model = pygru.Sequential()
    for y in (model([1.0, 2.0]), model.forward([1.0, 2.0])[0], model.run([1.0, 2.0])[0]):
        assert np.array_equal(y, np.array([1.0, 2.0]))
        assert isinstance(y, np.ndarray)
    indices = [[0, 2], [1, 1]]
    embedding = pygru.Embedding(3, 2, rng=0)
    y = embedding(indices)
    model = pygru.Sequential(pygru.Sequential(), embedding)
    assert model.input_classes == 3
    assert np.array_equal(model(indices), y)


def test_repr_shows_how_to_make_the_model_again():
    model = pygru.Sequential(pygru.Linear(3, 2), pygru.LastStep())
    assert repr(model) == (
        "Sequential(\n"
        "    Linear(in_features=3, out_features=2, bias=True, dtype='float32'),\n"
        "    LastStep(batch_first=None),\n"
        ")"
    )
