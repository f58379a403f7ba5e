# SPDX-License-Identifier: MIT
"""ONNX models whose states go in and out, and that hold nothing without a use."""

from __future__ import annotations

import numpy as np
import onnx_models as made
import pytest
from onnx_models import gru_node, node, weights
from tolerances import assert_close

import pygru
from pygru.interop import from_onnx, to_onnx
from pygru.interop.onnx.wire import decode, encode

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


ARRANGED = {
    "as it is": ((2, 2, made.H), [node("Identity", ["h"], ["h0"])], {}),
    "batch first": ((2, 2, made.H), [node("Transpose", ["h"], ["h0"], perm=[1, 0, 2])], {}),
    "batch first, of a layer that is": ((2, 2, made.H), [node("Cast", ["h"], ["h0"], to=1)], {}),
    "twice": ((2, 2, made.H), [node("Transpose", ["h"], ["t"], perm=[1, 0, 2]),
                               node("Transpose", ["t"], ["h0"], perm=[1, 0, 2])], {}),
    "no rows": ((2, made.H), [node("Unsqueeze", ["h", "zero"], ["h0"])], {"zero": [0]}),
}  # fmt: skip


def stateful(nodes, h_0, constants=None, D=2, layout=0):
    """Return a model of a layer that begins with h_0, which nodes make of other inputs."""
    constants = {k: np.array(v) for k, v in (constants or {}).items()}
    direction = "bidirectional" if D == 2 else "forward"
    kinds = {"x": (None, None, made.I)} | h_0
    given = [
        {"name": name, "type": {"tensor_type": {"elem_type": 1, "shape": {
            "dim": [{"dim_value": n} if n else {} for n in shape]}}}}
        for name, shape in kinds.items()
    ]  # fmt: skip
    return made.model(
        [*nodes, gru_node("", "h0", direction=direction, layout=layout, hidden_size=made.H)],
        weights(D=D) | constants, outputs=("Y", "Y_h"), input=given,
    )  # fmt: skip


@pytest.mark.parametrize("how", ARRANGED)
def test_a_state_is_given_to_the_layer_as_the_graph_arranges_it(how, backend, rng):
    """Also where the batch has as many sequences as there are rows, which no shape tells."""
    import onnx

    shape, nodes, constants = ARRANGED[how]
    D, layout = len(shape) - 1, int(how == "batch first, of a layer that is")
    content = stateful(nodes, {"h": shape}, constants, D, layout)
    x, h = (rng.standard_normal(s).astype(np.float32) for s in ((T, 2, made.I), shape))
    h_0 = h.reshape(D, 2, made.H).swapaxes(0, 1) if "batch" in how else h.reshape(D, 2, made.H)
    gru = from_onnx(content)
    _, expected = gru(x.swapaxes(0, 1) if layout else x, h_0)
    _, h_n = backend.prepare(onnx.load_from_string(content)).run(
        {"x": x.swapaxes(0, 1) if layout else x, "h": h}
    )
    assert np.array_equal(h_n.swapaxes(0, 1) if layout else h_n, expected)


def test_check_gives_a_state_in_the_layout_of_the_graph(runtime, capsys):
    for how in ("as it is", "batch first", "no rows"):
        shape, nodes, constants = ARRANGED[how]
        D = len(shape) - 1
        given = (None, D, made.H) if how == "batch first" else (*shape[:-2], None, made.H)
        graph = decode(stateful(nodes, {"h": given}, constants, D))
        for value, rank in zip(graph["graph"]["output"], (4, 3), strict=True):
            value["type"]["tensor_type"]["shape"]["dim"] = [{}] * rank
        from_onnx(encode(graph), check=True)
        assert "largest absolute difference to onnxruntime" in capsys.readouterr().out


def test_rows_of_a_batch_first_state_are_taken_of_its_second_axis():
    two = weights(D=1) | {"W2": np.ones((1, 3 * made.H, made.H), "f4")}
    two |= {"one": np.array([1]), "0": np.array(0), "1": np.array(1), "ends": np.array([2])}
    for parts, fits in (
        ([node("Gather", ["h", "0"], ["p"], axis=1), node("Unsqueeze", ["p", "z"], ["h0"]),
          node("Gather", ["h", "1"], ["q"], axis=1), node("Unsqueeze", ["q", "z"], ["h1"])], True),
        ([node("Transpose", ["h"], ["t"], perm=[1, 0, 2]), node("Slice", ["t", "z", "one"], ["h0"]),
          node("Slice", ["t", "one", "ends"], ["h1"])], True),
        ([node("Gather", ["h", "0"], ["p"]), node("Unsqueeze", ["p", "one"], ["h0"]),
          node("Gather", ["h", "1"], ["q"]), node("Unsqueeze", ["q", "one"], ["h1"])], False),
    ):  # fmt: skip
        content = made.model(
            [*parts, gru_node("", "h0"), node("Squeeze", ["Y", "one"], ["s"]),
             node("GRU", ["s", "W2", "R", "B", "", "h1"], ["y"])],
            two | {"z": np.array([0])}, ("x", "h"),
        )  # fmt: skip
        if fits:
            assert from_onnx(content)[0].num_layers == 2
        else:
            with pytest.raises(ValueError, match=r"must have initial_h \(L\*D, B, H\) of an input"):
                from_onnx(content)


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([node("Concat", ["h", "k"], ["h0"], axis=0)], "must have final states alone to put side"),
        ([node("Concat", ["c", "h"], ["h0"], axis=0)], "must have final states alone to put side"),
        ([node("Transpose", ["h"], ["h0"], perm=[0, 2, 1])], "must have initial_h"),
        ([node("Transpose", ["h"], ["h0"])], "must have initial_h"),
        ([node("Reshape", ["h", "n"], ["h0"])], "must have data or final states to reshape"),
        ([node("Expand", ["h", "n"], ["h0"])], "must read the data, got another input"),
        ([node("Tile", ["h", "n"], ["h0"])], "must be an operator that pygru has an equal of"),
        ([node("Unsqueeze", ["h", "a"], ["h0"])], "must have initial_h"),
    ],
)
def test_a_state_that_nodes_change_is_refused(nodes, told):
    inputs = {"h": (2, 2, made.H), "k": (2, 2, made.H)}
    constants = {"n": [2, 2, made.H], "a": [0], "c": np.zeros((1, 2, made.H), "f4")}
    with pytest.raises(ValueError, match=told):
        from_onnx(stateful(nodes, inputs, constants))


def test_lengths_that_nodes_change_are_refused():
    nodes = [node("Transpose", ["l"], ["m"], perm=[0, 2, 1]), gru_node("m")]
    with pytest.raises(ValueError, match="must have sequence_lens as layers before it have"):
        from_onnx(made.model(nodes, weights(), ("x", "l"), ("Y",)))
