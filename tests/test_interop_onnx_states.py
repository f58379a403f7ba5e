# SPDX-License-Identifier: MIT
"""ONNX models whose states go in and out, and that hold nothing without a use."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

import pygru
from pygru.interop import from_onnx, to_onnx
from pygru.interop.onnx.wire import decode

T, B, I, H = 6, 3, 4, 5  # noqa: E741


def streaming(batch_first=False):
    layout = {"batch_first": batch_first}
    return [
        pygru.Sequential(pygru.GRU(I, H, 2, rng=0, **layout), pygru.Linear(H, 2, rng=0)),
        pygru.Sequential(
            pygru.Linear(I, I, rng=0), pygru.GRU(I, H, bias=False, rng=0, **layout), pygru.Tanh(),
            pygru.Sequential(pygru.RNN(H, 7, rng=1, **layout), pygru.LayerNorm(7)),
            pygru.Linear(7, 2, rng=2), pygru.Softmax(),
        ),
        pygru.Sequential(pygru.GRU(I, H, rng=0, **layout), pygru.LastStep(), pygru.Linear(H, 2)),
    ]  # fmt: skip


def names(content, which):
    return [value["name"] for value in decode(content)["graph"][which]]


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_states_carried_from_call_to_call_give_the_whole(batch_first, runtime, rng):
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    time = 1 if batch_first else 0
    for model in streaming(batch_first):
        content = to_onnx(model, state=True)
        states = [np.zeros((m.num_layers, B, m.hidden_size), np.float32) for m in model.recurrent]
        inputs, outputs = names(content, "input")[1:], names(content, "output")[1:]
        answers = []
        for t in range(T):
            piece = np.ascontiguousarray(np.moveaxis(x[t : t + 1], 0, time))
            y, *states = runtime(content, {"x": piece, **dict(zip(inputs, states, strict=True))})
            answers.append(y)
        expected, after = model.run(np.moveaxis(x, 0, time), [None] * len(model.recurrent))
        last = answers[-1] if y.ndim == 2 else np.concatenate(answers, time)
        assert_close(last, expected, "interop", least=1.0)
        for ours, theirs in zip(after, states, strict=True):
            assert_close(theirs, ours, "interop", least=1.0)
        assert len(outputs) == len(inputs) == len(model.recurrent)


def test_inputs_and_outputs_are_named_by_the_place_of_a_layer():
    one, several, _ = (to_onnx(model, state=True) for model in streaming())
    assert names(one, "input") == ["x", "h_0"] and names(one, "output") == ["y", "h_n"]
    assert names(several, "input") == ["x", "h_0_1", "h_0_3.0"]
    assert names(several, "output") == ["y", "h_n_1", "h_n_3.0"]
    gru = to_onnx(pygru.GRU(I, H, 3), state=True)
    assert names(gru, "input") == ["x", "h_0"] and names(gru, "output") == ["y", "h_n"]


def test_one_layer_with_its_state_comes_back(backend, rng):
    import onnx

    model, _, _ = streaming()
    content = to_onnx(model, state=True)
    assert np.array_equal(from_onnx(content).flat_params, model.flat_params)
    x, h_0 = (rng.standard_normal(s).astype(np.float32) for s in ((T, B, I), (2, B, H)))
    y, h_n = backend.prepare(onnx.load_from_string(content)).run({"x": x, "h_0": h_0})
    expected, after = model.run(x, [h_0])
    assert np.array_equal(y, expected) and np.array_equal(h_n, after[0])


def test_exports_with_states_are_valid(backend):
    import onnx

    for model in (*streaming(), *streaming(True), pygru.RNN(I, H, 2)):
        onnx.checker.check_model(onnx.load_from_string(to_onnx(model, state=True)), full_check=True)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: pygru.Linear(I, 2), "for a model without a recurrent layer, got True"),
        (lambda: pygru.GRU(I, H, bidirectional=True), "for a model that reads backwards, got True"),
        (
            lambda: pygru.Sequential(pygru.GRU(I, H), pygru.MeanOverTime()),
            "for a mean over all of time, got True",
        ),
    ],
)
def test_states_that_cannot_be_carried_are_refused(model, told):
    with pytest.raises(ValueError, match=f"^to_onnx: state must be False {told}"):
        to_onnx(model(), state=True)


def test_every_constant_is_used():
    two = pygru.GRU(I, H, 2, bidirectional=True, rng=0)
    normed = pygru.Sequential(two, pygru.LayerNorm(2 * H), pygru.BothEnds())
    ends = [
        pygru.Sequential(pygru.GRU(I, H), end()) for end in (pygru.LastStep, pygru.MeanOverTime)
    ]
    for model in (*streaming(), *ends, normed, pygru.Sequential(pygru.OneHot(3), pygru.GRU(3, H))):
        for state in (False, True)[: 1 + (model not in (normed, ends[1]))]:
            graph = decode(to_onnx(model, state=state))["graph"]
            used = {name for node in graph["node"] for name in node["input"]}
            assert {one["name"] for one in graph["initializer"]} <= used


def test_a_graph_with_several_initial_states_is_refused_by_name():
    told = (
        r"must have rows \(1, 2\) of the one initial state of all layers, got rows all of 'h_0_1'"
    )
    with pytest.raises(ValueError, match=told):
        from_onnx(to_onnx(pygru.Sequential(pygru.GRU(I, H), pygru.GRU(H, H)), state=True))


@pytest.mark.parametrize("wrong", ["no", [None], 2, np.zeros((1, 2, 4))])
def test_state_is_a_switch(wrong):
    with pytest.raises(TypeError, match=r"^to_onnx: state must be True or False, got"):
        to_onnx(pygru.GRU(I, H), state=wrong)
