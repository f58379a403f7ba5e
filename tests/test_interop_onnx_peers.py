# SPDX-License-Identifier: MIT
"""What the onnx package and ONNX Runtime say of the same models: their tests, their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import (
    DATA,
    VARIANTS,
    B,
    H,
    I,
    T,
    everything,
    gru_node,
    model,
    node,
    repeating,
    weights,
)
from tolerances import TOLERANCES, assert_close

import pygru
from pygru.interop import from_onnx, to_onnx

# With onnx


NODE_TESTS = [
    *(f"test_gru_{case}" for case in (
        "defaults", "with_initial_bias", "seq_length", "batchwise", "reverse", "bidirectional")),
    *(f"test_simple_rnn_{case}" for case in (
        "defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional")),
    "test_rnn_seq_length",
]  # fmt: skip


@pytest.fixture(scope="module")
def node_tests(backend):
    """ONNX's own tests of the operators, as its test runner collects them."""
    import onnx.backend.test.case.node as case
    from onnx.backend.test.case.node import gru, rnn  # noqa: F401

    return {test.name: test for test in case._NodeTestCases}


@pytest.mark.parametrize("name", NODE_TESTS)
def test_onnx_node_tests_pass(name, backend, node_tests):
    from onnx.backend.test.runner import Runner

    if name not in node_tests:
        pytest.skip(f"this release of onnx has no {name}")
    test = node_tests[name]
    prepared = backend.prepare(test.model, "CPU")
    for inputs, expected in test.data_sets:
        outputs = prepared.run(inputs)
        Runner.assert_similar_outputs(expected, outputs, rtol=test.rtol, atol=test.atol)


def test_the_backend_is_one_of_onnxs(backend, rng):
    import onnx
    from onnx.backend.base import Backend, BackendRep

    assert issubclass(backend, Backend)
    assert backend.supports_device("CPU:0") and not backend.supports_device("CUDA")
    content = onnx.load_from_string(to_onnx(everything(True)))
    x = rng.integers(0, 9, (B, T))
    (y,) = backend.run_model(content, [x])
    assert np.array_equal(y, everything(True)(x))
    prepared = backend.prepare(content)
    assert isinstance(prepared, BackendRep)
    for inputs in (x, [x], {"x": x}):
        assert np.array_equal(prepared.run(inputs)[0], y)
    with pytest.raises(ValueError, match=r"Backend\.run: inputs must hold \['x'\], missing"):
        prepared.run([])
    gru = pygru.GRU(I, H, rng=0)
    arrays = weights(bias=False)
    given = [rng.standard_normal((T, B, I)).astype(np.float32), *arrays.values()]
    one = onnx.helper.make_node("GRU", ["X", "W", "R"], ["", "Y_h"], hidden_size=H)
    (h_n,) = backend.run_node(one, given)
    assert h_n.shape == (1, B, H)
    assert backend.is_compatible(onnx.load_from_string(to_onnx(gru)))
    lstm = onnx.load_from_string(model([node("LSTM", ["x", "W", "R"], ["y"])], arrays))
    assert not backend.is_compatible(lstm)


def test_exports_are_valid_models(backend):
    import onnx

    for exported in (everything(True), everything(False), pygru.Sequential(), pygru.GRU(I, H, 2)):
        onnx.checker.check_model(onnx.load_from_string(to_onnx(exported)), full_check=True)


def test_a_model_proto_is_a_source(backend):
    import onnx

    content = to_onnx(pygru.GRU(I, H, rng=0))
    assert to_onnx(from_onnx(onnx.load_from_string(content))) == content


def test_states_and_lengths_of_a_whole_model_go_in_and_out(backend, rng):
    """An input for h_0, one for the lengths, and h_n beside y, in the graph's own layout."""
    import onnx

    constants = weights() | {f"{k}2": w for k, w in weights(seed=1).items() if k != "W"}
    constants["W2"] = rng.uniform(-0.5, 0.5, (1, 3 * H, H)).astype(np.float32)
    constants |= {"one": np.array([1]), "two": np.array([2]), "zero": np.array([0])}
    content = model(
        [
            node("Slice", ["h", "zero", "one", "zero"], ["h1"]),
            node("Slice", ["h", "one", "two", "zero"], ["h2"]),
            gru_node("l", "h1", outputs=("Y", "a")),
            node("Squeeze", ["Y", "one"], ["s"]),
            node("GRU", ["s", "W2", "R2", "B2", "l", "h2"], ["Y2", "b"]),
            node("Squeeze", ["Y2", "one"], ["t"]),
            node("Tanh", ["t"], ["y"]),
            node("Concat", ["a", "b"], ["h_n"], axis=0),
        ],
        constants, ("x", "l", "h"), ("h_n", "y"),
    )  # fmt: skip
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    lengths, h_0 = rng.integers(0, T + 1, B), rng.standard_normal((2, B, H)).astype(np.float32)
    proto = onnx.load_from_string(content)
    h_n, y = backend.prepare(proto).run({"x": x, "l": lengths, "h": h_0})
    imported = from_onnx(content)
    y_, h_n_ = imported[0](x, h_0, lengths=lengths)
    assert np.array_equal(h_n, h_n_)
    assert np.array_equal(y, pygru.Tanh()(y_))


def test_layers_of_unequal_sizes_and_merged_axes_give_what_the_graph_gives(backend, rng):
    import onnx

    ours = pygru.Sequential(pygru.GRU(I, H, rng=0), pygru.GRU(H, 2, rng=1))
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    (y,) = backend.run_model(onnx.load_from_string(to_onnx(ours)), [x])
    assert np.array_equal(y, ours(x))
    constants = weights() | {"one": np.array([1]), "flat": np.array([-1, H])}
    constants["m"] = rng.standard_normal((H, I)).astype(np.float32)
    content = model(
        [
            gru_node(),
            node("Squeeze", ["Y", "one"], ["s"]),
            node("Reshape", ["s", "flat"], ["f"]),
            node("MatMul", ["f", "m"], ["y"]),
        ],
        constants,
    )
    (y,) = backend.run_model(onnx.load_from_string(content), [x])
    assert np.array_equal(y, from_onnx(content)(x).reshape(T * B, I))


# With ONNX Runtime


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_onnx_runtime_gives_the_same_numbers(batch_first, runtime, rng):
    ours = everything(batch_first)
    x = rng.integers(0, 9, (T, B))
    assert_close(ours(x), runtime(to_onnx(ours), {"x": x})[0], "interop")
    for ours, given in zip(repeating(batch_first), (x, rng.random((B, 1), "f4")), strict=True):
        assert_close(ours(given), runtime(to_onnx(ours), {"x": given})[0], "interop")
    x = rng.standard_normal((B, T, I) if batch_first else (T, B, I)).astype(np.float32)
    for cls, options in VARIANTS.values():
        for bidirectional in (False, True):
            layer = cls(
                I, H, 2, batch_first=batch_first, bidirectional=bidirectional, rng=0, **options
            )
            for a, b in zip(layer(x), runtime(to_onnx(layer), {"x": x}), strict=True):
                assert_close(a, b, "interop")
    for pooling in (pygru.LastStep, pygru.MeanOverTime, pygru.BothEnds):
        gru = pygru.GRU(I, H, bidirectional=True, batch_first=batch_first, rng=0)
        ours = pygru.Sequential(gru, pygru.Dropout(0.5), pygru.LayerNorm(2 * H), pooling())
        assert_close(ours(x), runtime(to_onnx(ours), {"x": x})[0], "interop")


@pytest.mark.parametrize("seed", range(60))
def test_random_nodes_give_onnx_runtimes_numbers(seed, backend, runtime):
    """Direction, variant, lengths, initial state, clip and activations, drawn together."""
    import onnx

    rng = np.random.default_rng(seed)
    op = "GRU" if seed % 3 else "RNN"
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    D, gates = 1 + (direction == "bidirectional"), 3 if op == "GRU" else 1
    attributes = {"direction": direction, "hidden_size": H}
    inputs = [name if rng.random() < 0.5 else "" for name in ("lengths", "h_0")]
    if op == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    if rng.random() < 0.5:
        attributes["clip"] = float(rng.uniform(0.1, 1.0))
    if rng.random() < 0.5:
        kinds = rng.choice(["Sigmoid", "Tanh", "Relu"], D * (2 if op == "GRU" else 1))
        attributes["activations"] = [str(kind) for kind in kinds]
    feeds = {
        "x": rng.standard_normal((T, B, I)).astype(np.float32),
        "lengths": rng.integers(1, T + 1, B).astype(np.int32),  # the runtime takes no empty ones
        "h_0": rng.uniform(-1, 1, (D, B, H)).astype(np.float32),
    }
    names = ["x", *(name for name in inputs if name)]
    content = onnx.load_from_string(model(
        [gru_node(*inputs, op=op, **attributes)], weights(gates, D, seed=seed), names, ("Y", "Y_h")
    ))  # fmt: skip
    for value in content.graph.input:  # what `model` declares is x
        shape = [None] * feeds[value.name].ndim
        kind = onnx.helper.np_dtype_to_tensor_dtype(feeds[value.name].dtype)
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shape))
    for value, rank in zip(content.graph.output, (4, 3), strict=True):
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, 1, [None] * rank))
    expected = runtime(content.SerializeToString(), feeds)
    outputs = backend.prepare(content).run(feeds)
    for name, a, b in zip(("Y", "Y_h"), outputs, expected, strict=True):
        assert_close(a, b, "interop", f"{name} of {op} {attributes}", least=1.0)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.onnx")), ids=lambda path: path.stem)
def test_check_runs_both(path, runtime, capsys):
    from_onnx(path, check=True)
    out = capsys.readouterr().out
    assert out.startswith("from_onnx: largest absolute difference to onnxruntime ")
    assert float(out.rpartition(" ")[2]) < TOLERANCES["interop"]["float32"]


@pytest.mark.parametrize("code", [6, 7], ids=["int32", "int64"])
def test_check_runs_layers_of_unequal_sizes_and_lengths_of_either_type(code, runtime, capsys):
    """PyTorch's exporter declares lengths as int64 and casts them itself."""
    import onnx

    constants = weights() | {"one": np.array([1])}
    constants |= {"W2": np.ones((1, 6, H), "f4"), "R2": np.ones((1, 6, 2), "f4")}
    content = onnx.load_from_string(model(
        [
            node("Cast", ["l"], ["lengths"], to=6),
            gru_node("lengths", hidden_size=H),
            node("Squeeze", ["Y", "one"], ["s"]),
            node("GRU", ["s", "W2", "R2", "", "lengths"], ["Y2"], hidden_size=2),
            node("Squeeze", ["Y2", "one"], ["y"]),
        ],
        constants, ("x", "l"),
    ))  # fmt: skip
    content.graph.input[1].CopyFrom(onnx.helper.make_tensor_value_info("l", code, ["B"]))
    from_onnx(content, check=True)
    assert "largest absolute difference to onnxruntime" in capsys.readouterr().out


def test_check_says_when_onnx_runtime_has_no_kernel(runtime, capsys):
    from_onnx(to_onnx(pygru.GRU(I, H, dtype=np.float64)), check=True)
    assert "not checked, ONNX Runtime cannot run it" in capsys.readouterr().out
