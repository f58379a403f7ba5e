# SPDX-License-Identifier: MIT
"""ONNX models and nodes run as they are written: states, layouts, precision, integers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import B, H, I, T, gru_node, model, node, weights
from tolerances import assert_close

import pygru
from pygru.interop import from_onnx, to_onnx


@pytest.mark.parametrize("direction, D", [("forward", 1), ("bidirectional", 2)])
def test_states_of_several_modules_go_in_and_out(direction, D, backend, rng):
    """Rows of h_0 and h_n belong to the modules in their order."""
    import onnx

    constants = weights(D=D) | {f"{k}2": w for k, w in weights(D=D, seed=1).items() if k != "W"}
    constants["W2"] = rng.uniform(-0.5, 0.5, (D, 3 * H, D * H)).astype(np.float32)
    constants |= {"zero": np.array([0]), "D": np.array([D]), "end": np.array([2 * D])}
    constants["merge"] = np.array([0, 0, -1])
    content = model(
        [
            node("Slice", ["h", "zero", "D", "zero"], ["h1"]),
            node("Slice", ["h", "D", "end", "zero"], ["h2"]),
            gru_node("", "h1", outputs=("Y", "a"), direction=direction),
            node("Transpose", ["Y"], ["t"], perm=[0, 2, 1, 3]),
            node("Reshape", ["t", "merge"], ["s"]),
            node("Tanh", ["s"], ["u"]),
            node("GRU", ["u", "W2", "R2", "B2", "", "h2"], ["Y2", "b"], direction=direction),
            node("Transpose", ["Y2"], ["t2"], perm=[0, 2, 1, 3]),
            node("Reshape", ["t2", "merge"], ["y"]),
            node("Concat", ["a", "b"], ["h_n"], axis=0),
        ],
        constants, ("x", "h"), ("y", "h_n"),
    )  # fmt: skip
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    h_0 = rng.standard_normal((2 * D, B, H)).astype(np.float32)
    prepared = backend.prepare(onnx.load_from_string(content))
    y, h_n = prepared.run({"x": x, "h": h_0})
    first, tanh, second = from_onnx(content)
    y_, a = first(x, h_0[:D])
    y_, b = second(tanh(y_), h_0[D:])
    assert np.array_equal(y, y_)
    assert np.array_equal(h_n, np.concatenate([a, b]))
    with pytest.raises(ValueError, match=f"the initial state must have {2 * D} rows, got 1"):
        prepared.run({"x": x, "h": h_0[:1]})


def test_states_of_a_batch_first_model_come_in_its_layout(backend, rng):
    import onnx

    content = model(
        [gru_node(layout=1), node("Squeeze", ["Y", "two"], ["s"]), node("Tanh", ["s"], ["y"])],
        weights() | {"two": np.array([2])}, outputs=("y", "Y_h"),
    )  # fmt: skip
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    y, h_n = backend.run_model(onnx.load_from_string(content), [x])
    assert y.shape == (B, T, H) and h_n.shape == (B, 1, H)
    assert np.array_equal(y[:, -1], pygru.Tanh()(h_n[:, 0]))


def test_a_model_of_vectors_takes_vectors_in_onnx_runtime(runtime, rng):
    linear, x = pygru.Linear(I, 2, rng=0), rng.standard_normal((B, I)).astype(np.float32)
    assert_close(linear(x), runtime(to_onnx(linear), {"x": x})[0], "interop")


def test_axes_of_size_1_are_given_back(backend, rng):
    """Directions that were never merged, in either layout, and a step that kept its axis."""
    import onnx

    x = rng.standard_normal((B, T, I)).astype(np.float32)
    for layout, shape in ((0, (T, 1, B, H)), (1, (B, T, 1, H))):
        content = model([gru_node(layout=layout), node("Identity", ["Y"], ["y"])], weights())
        (y,) = backend.run_model(
            onnx.load_from_string(content), [x if layout else x.swapaxes(0, 1)]
        )
        assert y.shape == shape
    constants = weights() | {"last": np.array([-1]), "one": np.array([1])}
    nodes = [gru_node(), node("Squeeze", ["Y", "one"], ["s"]), node("Gather", ["s", "last"], ["y"])]
    (y,) = backend.run_model(onnx.load_from_string(model(nodes, constants)), [x.swapaxes(0, 1)])
    assert y.shape == (1, B, H)


def test_constants_as_onnx_itself_stores_them(backend):
    """Numbers in the field of their type: packed by protobuf, negative ones and half precision."""
    import onnx

    kinds = onnx.TensorProto
    numbers = [-1.5, 0.0, 2.0, 0.25, -0.5, 1.0]
    for kind in (kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16):
        m = onnx.helper.make_tensor("m", kind, [I, 2], numbers)
        content = onnx.load_from_string(model([node("MatMul", ["x", "m"], ["y"])]))
        content.graph.initializer.append(m)
        (linear,) = from_onnx(content)
        assert linear.params["weight"].T.reshape(-1).tolist() == numbers
    content = onnx.load_from_string(model(
        [gru_node(), node("Squeeze", ["Y", "at"], ["s"]), node("Reshape", ["s", "to"], ["y"])],
        weights(),
    ))  # fmt: skip
    content.graph.initializer.append(onnx.helper.make_tensor("at", kinds.INT64, [1], [-3]))
    content.graph.initializer.append(onnx.helper.make_tensor("to", kinds.INT64, [2], [-1, H]))
    assert len(from_onnx(content)) == 1


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_check_gives_an_initial_state_too(direction, runtime, capsys):
    import onnx

    D = 1 + (direction == "bidirectional")
    content = onnx.load_from_string(model(
        [gru_node("", "h", direction=direction, hidden_size=H)], weights(D=D), ("x", "h"),
        ("Y", "Y_h"),
    ))  # fmt: skip
    content.graph.input[1].CopyFrom(onnx.helper.make_tensor_value_info("h", 1, [D, "B", H]))
    for value, rank in zip(content.graph.output, (4, 3), strict=True):
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, 1, [None] * rank))
    from_onnx(content, check=True)
    assert "largest absolute difference to onnxruntime" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_a_node_computes_in_its_own_precision_and_in_single_at_least(kind, backend, rng):
    import onnx

    arrays = weights(bias=False, dtype=kind)
    x = rng.standard_normal((T, B, I)).astype(kind)
    one = onnx.helper.make_node("GRU", ["X", "W", "R"], ["Y", "Y_h"], hidden_size=H)
    _, h_n = backend.run_node(one, [x, *arrays.values()])
    wide = np.float64 if kind == "f8" else np.float32
    constants = weights(bias=False, dtype=kind) | {"B": np.zeros((1, 6 * H), kind)}
    gru = from_onnx(model([gru_node()], constants, outputs=("Y", "Y_h")))
    assert gru.dtype == wide
    expected = gru(x.astype(wide))[1]
    assert h_n.dtype == kind and np.array_equal(h_n, expected.astype(kind))
    content = onnx.load_from_string(to_onnx(pygru.GRU(I, H)))
    assert not backend.is_compatible(content, "CUDA")


def test_a_node_runs_batch_first_with_a_state_and_refuses_what_does_not_fit(backend, rng):
    import onnx

    def run(x, lengths, h_0, **attributes):
        one = onnx.helper.make_node(
            "GRU", ["X", "W", "R", "", "l", "h"], ["Y", "Y_h"], hidden_size=H, **attributes
        )
        given = [x, *weights(bias=False).values(), np.asarray(lengths, np.int32), h_0]
        return backend.run_node(one, given)

    x, h_0 = rng.standard_normal((T, B, I), "f4"), rng.standard_normal((1, B, H), "f4")
    lengths = np.arange(B)  # an empty one among them
    y, h_n = run(x, lengths, h_0)
    assert np.array_equal(h_n[0, 0], h_0[0, 0]) and not y[:, :, 0].any()
    turned = run(x.swapaxes(0, 1), lengths, h_0.swapaxes(0, 1), layout=1)
    assert np.array_equal(turned[0], y.transpose(2, 0, 1, 3))
    assert np.array_equal(turned[1], h_n.swapaxes(0, 1))
    assert run(x[:, :0], lengths[:0], h_0[:, :0])[0].shape == (T, 1, 0, H)
    for wrong in (lengths + T, lengths - 1, lengths[:-1]):
        with pytest.raises(ValueError, match=r"must have sequence_lens \(B,\) from 0 to T = 7"):
            run(x, wrong, h_0)
    with pytest.raises(ValueError, match=r"must have initial_h of shape \(1, 5, 4\)"):
        run(x, lengths, h_0[:, :-1])


def test_one_hot_is_of_the_precision_of_the_layer_after_it(backend):
    import onnx

    for dtype in (np.float32, np.float64):
        ours = pygru.Sequential(pygru.OneHot(9), pygru.GRU(9, H, dtype=dtype))
        onnx.checker.check_model(onnx.load_from_string(to_onnx(ours)), full_check=True)
