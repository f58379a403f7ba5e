# SPDX-License-Identifier: MIT
"""The state of a model goes in and comes out, and what reads only the final state costs no dy."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
from tolerances import assert_close, finite_difference

import pygru

T, B, I, H = 6, 3, 2, 4  # noqa: E741
CUTS = [0, 1, 4, 6]


def make_model(batch_first=False, dtype=np.float64):
    """Recurrent modules at two levels of nesting."""
    rng = np.random.default_rng(0)
    options = {"batch_first": batch_first, "dtype": dtype, "rng": rng}
    return pygru.Sequential(
        pygru.GRU(I, H, 2, **options),
        pygru.Sequential(pygru.Linear(H, 3, dtype=dtype, rng=rng), pygru.RNN(3, 5, **options)),
        pygru.GRU(5, 2, reset="before", **options),
    )


# State


@pytest.mark.parametrize("batch_first", [False, True])
def test_pieces_with_carried_state_are_the_whole(batch_first, dtype, rng):
    model = make_model(batch_first, dtype)
    axis = 1 if batch_first else 0
    x = rng.standard_normal((B, T, I) if batch_first else (T, B, I)).astype(dtype)
    expected, tape = model.forward(x)
    pieces = np.split(x, CUTS[1:-1], axis)
    state, outputs = None, []
    for piece in pieces:
        y, piece_tape = model.forward(piece, state=state)
        again, after = model.run(piece, state)
        assert np.array_equal(again, y)
        state = piece_tape.state
        assert all(map(np.array_equal, after, state))
        outputs.append(y)
    assert np.array_equal(np.concatenate(outputs, axis), expected)
    assert [h_n.shape for h_n in state] == [(2, B, H), (1, B, 5), (1, B, 2)]
    assert all(map(np.array_equal, state, tape.state))
    assert [type(module) for module in model.recurrent] == [pygru.GRU, pygru.RNN, pygru.GRU]


def test_no_gradient_flows_into_the_state(rng):
    model = make_model()
    x = rng.standard_normal((T, B, I))
    _, tape = model.forward(x[:3])
    state = tape.state
    y, tape = model.forward(x[3:], state=state)
    dy = rng.standard_normal(y.shape)
    dx = model.backward(tape, dy)

    def loss():
        return float(np.sum(dy * model.run(x[3:], state)[0]))

    expected = finite_difference(loss, model.flat_params)
    assert_close(model.flat_grads, expected, "finite differences", "flat_grads")
    assert_close(dx, finite_difference(loss, x)[3:], "finite differences", "dx")


def test_a_state_is_each_sequences_own(rng):
    model = make_model()
    x = rng.standard_normal((T, B, I))
    lengths = [6, 0, 2]
    _, state = model.run(x, lengths=lengths)
    y, state = model.run(x, state, lengths=[1, 5, 0])
    for b, (first, second) in enumerate(zip(lengths, [1, 5, 0], strict=True)):
        joined = np.concatenate([x[:first, b], x[:second, b]])
        y_b, state_b = model.run(joined)
        assert_close(y[:second, b], y_b[first:], "reference", "y")
        for one, all_of_them in zip(state_b, state, strict=True):
            assert_close(all_of_them[:, b], one, "reference", "h_n")


def test_an_entry_of_a_state_may_be_absent_and_a_sequence_unbatched(rng):
    model = make_model()
    x = rng.standard_normal((T, I))
    y, state = model.run(x)
    assert [h_n.shape for h_n in state] == [(2, H), (1, 5), (1, 2)]
    zeros = [np.zeros_like(h_n) for h_n in state]
    assert np.array_equal(model.run(x, [None, None, None])[0], y)
    assert np.array_equal(model.run(x, (zeros[0], None, zeros[2]))[0], y)


def test_a_state_that_does_not_fit_is_refused(rng):
    model = make_model()
    x = rng.standard_normal((T, B, I))
    _, tape = model.forward(x)
    with pytest.raises(ValueError) as error:
        model.forward(x, state=tape.state[:2])
    assert str(error.value) == (
        "Sequential.forward: state must hold one h_0 per recurrent module, 3, got 2"
    )
    with pytest.raises(TypeError) as error:
        model.run(x, tape.state[0])
    assert str(error.value) == (
        "Sequential.run: state must be a list of one h_0 per recurrent module, got ndarray"
    )
    with pytest.raises(ValueError, match=r"h_0 must have shape \(L\*D, B, H\) = \(2, 2, 4\)"):
        model.forward(x[:, 1:], state=tape.state)
    both = pygru.Sequential(pygru.RNN(I, H, bidirectional=True))
    _, tape = both.forward(x)
    with pytest.raises(ValueError) as error:
        both.forward(x, state=tape.state)
    assert str(error.value) == (
        "Sequential.forward: state must be None where a layer reads sequences backwards, got one "
        "for a RNN with bidirectional=True"
    )


# Modules that read the final state only

POOLINGS = {
    "last step": (pygru.LastStep, False),
    "both ends": (pygru.BothEnds, True),
    "last step of two directions": (pygru.LastStep, True),
    "mean": (pygru.MeanOverTime, False),
}


@pytest.mark.parametrize("lengths", [None, [6, 0, 2]], ids=["full", "lengths"])
@pytest.mark.parametrize("form", ["time first", "batch first", "unbatched", "no steps"])
@pytest.mark.parametrize("kind", POOLINGS)
def test_what_a_model_skips_changes_no_bit(kind, form, lengths, rng):
    pooling, bidirectional = POOLINGS[kind]
    first = form == "batch first"
    gru = pygru.GRU(I, H, 2, bidirectional=bidirectional, batch_first=first, rng=0)
    x = rng.standard_normal((0 if form == "no steps" else T, B, I)).astype(np.float32)
    if form == "unbatched":
        x, lengths = x[:, 2], None if lengths is None else lengths[2]
    elif form == "no steps":
        lengths = None if lengths is None else [0, 0, 0]
    elif first:
        x = x.swapaxes(0, 1)

    alone = pooling(batch_first=first)
    states, _, tape = gru.forward(x, lengths=lengths)
    expected, alone_tape = alone.forward(states, lengths=lengths)
    dy = rng.standard_normal(expected.shape).astype(np.float32)
    expected_dx, _ = gru.backward(tape, alone.backward(alone_tape, dy))
    expected_grads = gru.flat_grads.copy()

    model = pygru.Sequential(gru, pooling())
    model.zero_grad()
    y, tape = model.forward(x, lengths=lengths)
    assert np.array_equal(y, expected)
    assert np.array_equal(model.backward(tape, dy), expected_dx)
    assert np.array_equal(model.flat_grads, expected_grads)


def test_an_empty_sequence_has_a_state_but_no_last_step(rng):
    model = pygru.Sequential(pygru.GRU(I, H, rng=0, dtype=np.float64), pygru.LastStep())
    x, h_0 = rng.standard_normal((T, B, I)), rng.standard_normal((1, B, H))
    y, (h_n,) = model.run(x, [h_0], lengths=[6, 0, 2])
    assert not y[1].any()
    assert np.array_equal(h_n[0, 1], h_0[0, 1])
    assert np.array_equal(y[2], h_n[0, 2])
    y, tape = model.forward(x[:0], state=[h_0])
    assert not y.any()
    assert not model.backward(tape, np.ones_like(y)).any()
    assert not model.flat_grads.any()


@pytest.mark.parametrize(
    "kind, at, most", [("MT19937", ("state", "pos"), 624), ("Philox", ("buffer_pos",), 4)]
)
def test_a_position_outside_a_generators_numbers_is_refused(kind, at, most):
    dropout = pygru.Dropout(rng=np.random.Generator(getattr(np.random, kind)(0)))
    for position in (10**8, most + 1, -1, -(10**8)):
        state = dropout.rng_state()
        inner = state[""]["state"] if len(at) > 1 else state[""]
        inner[at[-1]] = position
        with pytest.raises(ValueError, match=rf"state\[''\] must be the state of a {kind}"):
            dropout.load_rng_state(state)
    inner[at[-1]] = most
    dropout.load_rng_state(state)


def make_dropping(kind):
    """Return a model that draws in its first module and may refuse the call in a later one."""
    rng = np.random.default_rng(0)
    drop, shared = {"dropout": 0.5, "rng": rng}, np.random.default_rng(1)
    inner = pygru.Sequential(pygru.GRU(I, H, 2, **drop), pygru.Dropout(0.5, rng=shared))
    if kind == "sequential":
        top = pygru.GRU(H, H, 2, **drop)
        return pygru.Sequential(pygru.Dropout(0.5, rng=shared), inner, pygru.Linear(H, H), top)
    return pygru.EncoderDecoder(
        pygru.Sequential(pygru.Dropout(0.5, rng=shared), inner, pygru.GRU(H, H, 2, **drop)),
        pygru.Sequential(pygru.Dropout(0.5), pygru.GRU(I, H, 2, **drop), pygru.Linear(H, I)),
        start=[0.0] * I,
    )


@pytest.mark.parametrize(
    "kind, wrong",
    [
        ("sequential", {"x": np.ones((T, B, I + 1))}),
        ("sequential", {"lengths": [T] * (B + 1)}),
        ("sequential", {"lengths": [T + 1] * B}),
        ("sequential", {"state": [np.ones((2, B, H)), np.ones((2, B, H + 1))]}),
        ("encoder_decoder", {"x": np.ones((T, B, I + 1))}),
        ("encoder_decoder", {"lengths": [T + 1] * B}),
        ("encoder_decoder", {"target": np.ones((T, B, I + 1))}),
        ("encoder_decoder", {"target_lengths": [T + 1] * B}),
    ],
)
def test_a_refused_call_draws_nothing(kind, wrong):
    right = {"x": np.ones((T, B, I))}
    if kind == "encoder_decoder":
        right["target"] = np.ones((T, B, I))
    model = make_dropping(kind)
    before = model.rng_state()
    with pytest.raises(ValueError, match="must"):
        model.forward(**(right | wrong))
    assert model.rng_state() == before
    model.forward(**right)
    assert model.rng_state() != before


def test_a_state_dict_is_any_mapping_of_these_names_and_of_numbers_there_is_room_for():
    linear = pygru.Linear(2, 1, rng=np.random.SeedSequence(0))
    state = {name: value.astype(np.float64) for name, value in linear.state_dict().items()}
    adam = pygru.Adam()
    with pytest.raises(ValueError, match=r"missing \[\], unknown \[1, 'more'\]"):
        adam.load_state_dict(adam.state_dict() | {"more": 0, 1: 0})
    state["weight"][0, 0] = np.inf
    linear.load_state_dict(MappingProxyType(state))
    assert np.isinf(linear.params["weight"][0, 0])
    state["weight"][0, 1] = 1e300
    with pytest.raises(ValueError, match=r"finite in float32, got 1e\+300 at index \(0, 1\)"):
        linear.load_state_dict(state)


def test_a_size_in_bytes_is_what_has_to_fit():
    with pytest.raises(ValueError, match="must fit in one array of at most"):
        pygru.Linear(2**30, 2**31)
