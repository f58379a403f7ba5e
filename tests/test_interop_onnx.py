# SPDX-License-Identifier: MIT
"""ONNX models come and go: what exporters write, every attribute of the operator, hostile files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from mutations import OVERHEAD, assert_refused_or_read
from tolerances import assert_close

import pygru
from pygru.interop import from_onnx, to_onnx
from pygru.interop.onnx.exporting import _attribute
from pygru.interop.onnx.tensors import tensor
from pygru.interop.onnx.wire import decode, encode

DATA = Path(__file__).resolve().parent / "data" / "onnx"
I, H, T, B = 3, 4, 7, 5  # noqa: E741
VARIANTS = {
    "after": (pygru.GRU, {"reset": "after"}),
    "before": (pygru.GRU, {"reset": "before"}),
    "tanh": (pygru.RNN, {"nonlinearity": "tanh"}),
    "relu": (pygru.RNN, {"nonlinearity": "relu"}),
}


def node(op, inputs, outputs, **attributes):
    described = [_attribute(key, value) for key, value in attributes.items()]
    return {"op_type": op, "input": inputs, "output": outputs, "attribute": described}


def model(nodes, constants=None, inputs=("x",), outputs=("y",), opset=17, **fields):
    """Return the bytes of a model; x is float32 of three axes."""
    kind = {"elem_type": 1, "shape": {"dim": [{}, {}, {"dim_value": I}]}}
    graph = {
        "name": "test",
        "node": nodes,
        "initializer": [tensor(k, np.asarray(v)) for k, v in (constants or {}).items()],
        "input": [{"name": name, "type": {"tensor_type": kind}} for name in inputs],
        "output": [{"name": name, "type": {"tensor_type": kind}} for name in outputs],
    } | fields  # fmt: skip
    return encode({"ir_version": 8, "graph": graph, "opset_import": [{"version": opset}]})


def weights(gates=3, D=1, bias=True, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = {"W": (D, gates * H, I), "R": (D, gates * H, H), "B": (D, 2 * gates * H)}
    made = {k: rng.uniform(-0.5, 0.5, shape).astype(dtype) for k, shape in shapes.items()}
    return made if bias else {k: w for k, w in made.items() if k != "B"}


def gru_node(*inputs, outputs=("Y", "Y_h"), op="GRU", **attributes):
    return node(op, ["x", "W", "R", "B", *inputs], list(outputs), **attributes)


def bare(*inputs, op="GRU", D=1, **attributes):
    """Return a model of one node."""
    constants = weights(3 if op == "GRU" else 1, D)
    names = ("x", *(name for name in inputs if name))
    return model([gru_node(*inputs, op=op, **attributes)], constants, names, ("Y", "Y_h"))


# Without onnx


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_come_and_go_bit_for_bit(variant, num_layers, bidirectional, bias, dtype):
    cls, options = VARIANTS[variant]
    layer = cls(
        I, H, num_layers, bias, bidirectional, bidirectional=bidirectional, dtype=dtype, rng=0,
        **options,
    )  # fmt: skip
    content = to_onnx(layer)
    again = from_onnx(content)
    assert repr(again) == repr(layer)
    assert np.array_equal(again.flat_params, layer.flat_params)
    assert to_onnx(again) == content


def everything(batch_first):
    """Return a model with one of each module that ONNX has an equal of."""
    layout = {"batch_first": batch_first}
    return pygru.Sequential(
        pygru.Embedding(9, I, rng=0), pygru.Linear(I, I, rng=1),
        pygru.GRU(I, H, 2, bidirectional=True, rng=2, **layout), pygru.LayerNorm(2 * H),
        pygru.Tanh(), pygru.RNN(2 * H, H, nonlinearity="relu", rng=3, **layout), pygru.ReLU(),
        pygru.GRU(H, H, reset="before", bidirectional=True, rng=4, **layout),
        pygru.BothEnds(), pygru.Sigmoid(), pygru.Linear(2 * H, 2, bias=False, rng=5),
        pygru.Softmax(),
    )  # fmt: skip


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_a_whole_model_comes_and_goes(batch_first, tmp_path):
    ours = everything(batch_first)
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(ours))
    for source in (path, str(path), path.read_bytes()):
        again = from_onnx(source)
        assert repr(again) == repr(ours).replace("1e-05", "9.999999747378752e-06")  # float32 there
        assert np.array_equal(again.flat_params, ours.flat_params)
        assert to_onnx(again) == to_onnx(ours)


def repeating(batch_first):
    """Return models that make a sequence of one vector, of which one begins with a sequence."""
    layout = {"batch_first": batch_first}
    return [
        pygru.Sequential(
            pygru.OneHot(9), pygru.GRU(9, H, rng=0, **layout), pygru.LastStep(),
            pygru.RepeatVector(6), pygru.GRU(H, H, rng=1, **layout), pygru.Linear(H, 2, rng=2),
        ),
        pygru.Sequential(
            pygru.Linear(1, H, rng=0), pygru.RepeatVector(6), pygru.GRU(H, H, rng=1, **layout),
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_sequences_of_one_vector_come_and_go(batch_first):
    for ours in repeating(batch_first):
        again = from_onnx(to_onnx(ours))
        assert repr(again) == repr(ours)
        assert np.array_equal(again.flat_params, ours.flat_params)


@pytest.mark.parametrize("pooling", [pygru.LastStep, pygru.MeanOverTime, pygru.BothEnds])
def test_poolings_come_and_go(pooling):
    for batch_first in (False, True):
        gru = pygru.GRU(I, H, bidirectional=True, batch_first=batch_first)
        ours = pygru.Sequential(gru, pooling())
        assert repr(from_onnx(to_onnx(ours))) == repr(ours)
    assert len(from_onnx(to_onnx(pygru.Linear(3, 2)))) == 1  # no layout to know
    with pytest.raises(ValueError, match="to_onnx: model must have steps where a module takes"):
        to_onnx(pygru.Sequential(pygru.LastStep(), pygru.LastStep()))


@pytest.mark.parametrize(
    "name, kinds, options",
    [
        ("torchscript_stack", ["GRU"], {"num_layers": 2, "bidirectional": True}),
        (
            "torchscript_classifier",
            ["Embedding", "GRU", "LastStep", "Linear", "Softmax"],
            {"batch_first": True},
        ),
        ("dynamo_stack", ["GRU"], {"num_layers": 2, "bidirectional": True}),
        ("dynamo_both_ends", ["GRU", "BothEnds", "Linear"], {"bidirectional": True}),
        ("dynamo_norm", ["GRU", "LayerNorm", "LastStep", "Linear", "Tanh"], {"num_layers": 2}),
        ("dynamo_state", ["GRU", "Linear"], {"batch_first": False}),
        ("tf2onnx_bidirectional", ["GRU", "BothEnds", "Linear"], {"num_layers": 2}),
    ],
)
def test_what_exporters_write_is_understood(name, kinds, options):
    imported = from_onnx(DATA / f"{name}.onnx")
    row = list(imported) if isinstance(imported, pygru.Sequential) else [imported]
    assert [type(module).__name__ for module in row] == kinds
    gru = next(module for module in row if isinstance(module, pygru.GRU))
    assert gru.reset == "after"
    for option, value in options.items():
        assert getattr(gru, option) == value


def test_both_reset_variants_are_told_apart():
    for before, reset in ((1, "after"), (0, "before")):
        gru = from_onnx(bare(linear_before_reset=before))
        assert (type(gru), gru.reset) == (pygru.GRU, reset)
    assert from_onnx(bare()).reset == "before"  # the operator's default
    z, r, n = np.split(weights()["B"][0][: 3 * H], 3)
    assert np.array_equal(gru.params["bias_ih_l0"], np.concatenate([r, z, n]))


def test_layout_1_is_batch_first():
    assert from_onnx(bare(layout=1)).batch_first
    assert not from_onnx(bare()).batch_first


def squeezed(*nodes, **constants):
    """Return a model of a GRU and more nodes, whose last output is y."""
    first = [gru_node(), node("Squeeze", ["Y", "one"], ["s"])]
    return model([*first, *nodes], weights() | {"one": np.array([1])} | constants)


@pytest.mark.parametrize(
    "content, message",
    [
        (bare(clip=0.5), "node 0 (GRU) must have no clip, got 0.5"),
        (bare(direction="reverse"), "must have direction 'forward' or 'bidirectional'"),
        (bare(direction="sideways"), "must have a direction of ('forward', 'reverse'"),
        (bare(activations=["Relu", "Tanh"]), "must have activations Sigmoid and Tanh, got ['Relu'"),
        (bare(activations=["Sigmoid", "Softsign"]), "must have 2 activations of Relu, Sigmoid"),
        (bare(activations=["Sigmoid"]), "must have 2 activations"),
        (bare(op="RNN", activations=["Sigmoid"]), "must have activation Tanh or Relu"),
        (bare(hidden_size=5), "must have hidden_size 4, as R has, got 5"),
        (bare(layout=2), "must have linear_before_reset and layout of 0 or 1"),
        (bare(D=2), "must have W of shape (1, 12, 3), got (2, 12, 3)"),
        (
            bare(D=2, direction="bidirectional", activations=["Sigmoid", "Tanh", "Relu", "Tanh"]),
            "must have the same activations in both directions",
        ),
        (model([node("LSTM", ["x"], ["y"])]), "node 0 (LSTM) must be an operator that pygru has"),
        (model([node("GRU", ["x", "x", "R"], ["y"])], weights()), "W that is a constant of real"),
        (model([node("Loop", ["x"], ["y"])]), "how tf2onnx writes those it does not know"),
        (model([node("GRU", ["x", "a"], ["y"])]), "must have inputs that are there, got 'a'"),
        (model([node("Relu", ["x"], ["z"])]), "output 'y' must be y of the last layer"),
        (model([], inputs=()), "must have an input, got none"),
        (model([node("Relu", ["x"], ["y"]) | {"domain": "mine"}]), "ONNX's own operators"),
        (model([node("Relu", ["x"], ["y"])], sparse=[{}]), "must have dense weights"),
        (squeezed(node("Tanh", ["x"], ["y"])), "must read all that the layer before it gives"),
        (squeezed(node("Softmax", ["s"], ["y"], axis=0)), "must have axis=-1, the features"),
        (squeezed(node("Transpose", ["s"], ["y"], perm=[1, 0, 2])), "the order of the input's"),
        (squeezed(node("Add", ["s", "b"], ["y"]), b=np.ones(H, "f4")), "a matrix product before"),
        (squeezed(node("ReduceMean", ["s"], ["y"], axes=[2])), "must have time as its axis"),
        (squeezed(node("Gather", ["s", "i"], ["y"]), i=np.array(3)), "the last step of time"),
        (
            squeezed(node("Gemm", ["s", "m"], ["y"], alpha=2.0), m=np.ones((H, 2), "f4")),
            "must have alpha=1, beta=1, transA=0",
        ),
        (
            squeezed(node("MatMul", ["s", "m"], ["y"]), m=np.ones((9, 2), "f4")),
            "must take the 4 features that node 0 (GRU) gives, got 9",
        ),
        (squeezed(node("Reshape", ["s", "to"], ["y"]), to=np.array([2, -1])), "keeps the axes"),
        (
            model([gru_node("", "h")], weights() | {"h": np.ones((1, B, H), "f4")}, (), ("Y",)),
            "must have an input, got none",
        ),
        (
            model([gru_node("", "h")], weights() | {"h": np.ones((1, B, H), "f4")}, ("x",), ("Y",)),
            "must have initial_h from an input, or 0",
        ),
        (
            model([gru_node("l")], weights() | {"l": np.full(B, 3)}, ("x",), ("Y",)),
            "must have sequence_lens from an input, got a constant",
        ),
        (
            model([gru_node("l"), node("Squeeze", ["Y", "o"], ["s"]),
                   node("ReduceMean", ["s"], ["y"], axes=[0])],
                  weights() | {"o": np.array([1])}, ("x", "l")),
            "must have time as its axis, of sequences of one length",
        ),
        (
            model([gru_node("l"), node("Squeeze", ["Y", "o"], ["s"]),
                   node("Gather", ["s", "i"], ["y"])],
                  weights() | {"o": np.array([1]), "i": np.array(-1)}, ("x", "l")),
            "must have Y_h to read, as sequences have lengths of their own",
        ),
        (
            model([node("Slice", ["h", "o", "p", "z"], ["h1"]), gru_node("", "h1")],
                  weights() | {"z": np.array([0]), "o": np.array([1]), "p": np.array([2])},
                  ("x", "h"), ("Y",)),
            "must have rows (0, 1) of one initial state",
        ),
        (
            model([node("Gather", ["h", "x"], ["h1"]), gru_node("", "h1")], weights(),
                  ("x", "h"), ("Y",)),
            "must have known rows of the initial state to take",
        ),
        (b"", "must be an ONNX model, got one without graph"),
        (b"\x3a\x05ab", "must be whole, got 2 bytes where 5 are due"),
        (b"\x0b", "must be a protobuf message, got wire type 3"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_refused_by_name(content, message, tmp_path):
    with pytest.raises(ValueError) as error:
        from_onnx(content)
    assert str(error.value).startswith("from_onnx: ")
    assert message in str(error.value)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        from_onnx(path)
    assert str(error.value).startswith(f"from_onnx: {path}: ")


def test_nodes_that_arrange_axes_change_nothing():
    plain = squeezed(node("Identity", ["s"], ["y"]))
    for nodes, constants in (
        ([node("Transpose", ["s"], ["t"]), node("Transpose", ["t"], ["y"])], {}),
        ([node("Unsqueeze", ["s", "at"], ["u"]), node("Squeeze", ["u", "at"], ["y"])],
         {"at": np.array([2])}),
        ([node("Shape", ["s"], ["n"]), node("Reshape", ["s", "flat"], ["f"]),
          node("Reshape", ["f", "n"], ["y"])], {"flat": np.array([-1, H])}),
        ([node("Slice", ["s", "zero", "end", "zero"], ["y"])],
         {"zero": np.array([0]), "end": np.array([2**63 - 1])}),
        ([node("Dropout", ["s"], ["d"]), node("Cast", ["d"], ["y"], to=1)], {}),
    ):  # fmt: skip
        again = from_onnx(squeezed(*nodes, **constants))
        assert to_onnx(again) == to_onnx(from_onnx(plain))


def test_wrong_kinds_are_type_errors():
    with pytest.raises(TypeError, match="source must be a path, bytes or an onnx"):
        from_onnx(3)


def test_all_kinds_of_number_fields_are_read():
    floats = np.arange(6, dtype="<f4")
    for packed in (
        {"float_data": list(floats)}, {"raw_data": floats.tobytes()},
    ):  # fmt: skip
        given = {"name": "m", "dims": [3, 2], "data_type": 1} | packed
        content = model([node("MatMul", ["x", "m"], ["y"])], initializer=[given])
        assert np.array_equal(from_onnx(content).params["0.weight"], floats.reshape(3, 2).T)
    # As protobuf writes a repeated field of numbers: side by side.
    raw = b"\x08\x03\x08\x02\x10\x01\x22\x18" + floats.tobytes() + b"\x42\x01m"
    graph = bytearray(model([node("MatMul", ["x", "m"], ["y"])]))
    decoded = decode(bytes(graph))
    assert decoded["graph"]["initializer"] == []
    spliced = encode({"opset_import": [{"version": 17}]}) + b"\x3a"
    inner = encode(decoded)[4:]
    start = inner.index(b"\x0a")  # the graph's first node
    inner = inner[start : inner.index(b"\x42", len(inner) - 8)] + b"\x2a" + bytes([len(raw)]) + raw
    spliced += bytes([len(inner) & 0x7F | 0x80, len(inner) >> 7]) + inner
    assert np.array_equal(from_onnx(spliced).params["0.weight"], floats.reshape(3, 2).T)


# Bad files


@pytest.mark.parametrize("name", ["dynamo_norm", "torchscript_classifier"])
def test_broken_files_are_refused_by_name(name, tmp_path):
    good = tmp_path / "model.onnx"
    good.write_bytes((DATA / f"{name}.onnx").read_bytes())
    data = DATA / f"{name}.onnx.data"
    if data.exists():
        (tmp_path / data.name).write_bytes(data.read_bytes())
    assert_refused_or_read(from_onnx, good, range(200), where="from_onnx")


def outside(location, **where):
    entries = [{"key": k, "value": str(v)} for k, v in {"location": location, **where}.items()]
    given = {"name": "m", "dims": [3, 2], "data_type": 1, "data_location": 1}
    given["external_data"] = entries
    return given


def test_weights_in_a_second_file_are_read_from_beside_and_from_nowhere_else(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    secret, beside, path = tmp_path / "secret", folder / "beside", folder / "model.onnx"
    for file in (secret, beside):
        file.write_bytes(np.arange(8, dtype="<f4").tobytes())
    (folder / "link").symlink_to(secret)
    product = [node("MatMul", ["x", "m"], ["y"])]
    path.write_bytes(model(product, initializer=[outside("beside", offset=8, length=24)]))
    assert from_onnx(path).params["0.weight"][0, 0] == 2.0
    with pytest.raises(ValueError, match="is in the file 'beside': give the model's path"):
        from_onnx(path.read_bytes())
    for location in ("../secret", str(secret), "link", "nowhere", "", ".", "a\0b"):
        path.write_bytes(model(product, initializer=[outside(location)]))
        with pytest.raises(ValueError, match=f"from_onnx: {path}: "):
            from_onnx(path)
    for where in ({"offset": 12}, {"offset": -4}, {"length": 4}, {"offset": "x"}):
        path.write_bytes(model(product, initializer=[outside("beside", **where)]))
        with pytest.raises(ValueError, match=f"from_onnx: {path}: "):
            from_onnx(path)
    twice = [outside("beside"), outside("beside") | {"name": "n"}]
    path.write_bytes(model(product, initializer=twice))
    with pytest.raises(ValueError, match="tensors must not share what 'beside' holds"):
        from_onnx(path)


def doubling():
    """Return a model that makes 2^40 numbers of one."""
    steps = [node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(40)]
    return model(steps, {"c0": np.ones(64, np.float32)})


def sharing():
    """Return a model of many layers of the same large weights."""
    big = {"W": np.zeros((1, 300, I), "f4"), "R": np.zeros((1, 300, 100), "f4")}
    nodes = [node("GRU", ["x", "W", "R"], [f"y{i}"]) for i in range(100)]
    return model(nodes, big)


HUGE = np.array([2**40])


@pytest.mark.parametrize(
    "content",
    [
        encode({"graph": {}, "opset_import": [{}]}) + b"\x3a\x80\x80\x10" + b"\x0a\x00" * 131_072,
        b"\x42\x00" * 200_000, b"\x3a\x03\x2a\x01" * 50_000,
        doubling(), sharing(), b"\x3a\x84\x80\x10\x12\x80\x80\x10" + b"x" * 262_144,
        model([node("Expand", ["a", "n"], ["b"]), node("Add", ["x", "b"], ["y"])],
              {"a": np.ones(1, "f4"), "n": HUGE}),
        model([node("ConstantOfShape", ["n"], ["y"])], {"n": HUGE}),
        model([node("Gather", ["a", "i"], ["y"])],
              {"a": np.zeros((2, 50_000), "f4"), "i": np.zeros(50_000, np.int64)}),
        model([node("Relu", ["x"], ["y"])], initializer=[
            {"name": "a", "dims": [2**40, 2**40], "data_type": 1, "raw_data": b""}]),
        model([node("Relu", ["x"], ["y"])], initializer=[
            {"name": "a", "dims": [-1], "data_type": 1, "raw_data": b"abcd"}]),
        model([node("Relu", ["x"], ["y"])], initializer=[
            {"name": "a", "dims": [1], "data_type": 8, "raw_data": b"abcd"}]),
    ],
    ids=[
        "empty nodes", "unknown fields", "empty tensors", "doubling", "sharing", "long name",
        "expand", "filled", "gather", "huge dims", "negative dims", "strings",
    ],
)  # fmt: skip
def test_hostile_files_take_no_more_memory_than_twice_their_size(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"from_onnx: {path}: "):
        from_onnx(path)
    assert tracemalloc.get_traced_memory()[1] <= 2 * len(content) + OVERHEAD
    tracemalloc.stop()


# With onnx


@pytest.fixture(scope="module")
def backend():
    pytest.importorskip("onnx")
    from pygru.interop.onnx import Backend

    return Backend


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
    assert np.array_equal(y, np.tanh(y_))


# With ONNX Runtime


@pytest.fixture(scope="module")
def runtime():
    """A function that runs the bytes of a model."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1

    def run(content, feeds):
        session = onnxruntime.InferenceSession(content, options)
        given = {one.name for one in session.get_inputs()}
        return session.run(None, {k: v for k, v in feeds.items() if k in given})

    return run


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
    assert float(out.rpartition(" ")[2]) < 1e-6


def test_check_says_when_onnx_runtime_has_no_kernel(runtime, capsys):
    from_onnx(to_onnx(pygru.GRU(I, H, dtype=np.float64)), check=True)
    assert "not checked, ONNX Runtime cannot run it" in capsys.readouterr().out
