# SPDX-License-Identifier: MIT
"""ONNX files that are broken, hostile or in two parts: refused by name, at no cost of memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from mutations import OVERHEAD, assert_refused_or_read
from onnx_models import DATA, I, model, node

from pygru.interop import from_onnx
from pygru.interop.onnx.wire import _number, encode


@pytest.mark.parametrize("name", ["dynamo_norm", "torchscript_classifier"])
def test_broken_files_are_refused_by_name(name, tmp_path):
    good = tmp_path / "model.onnx"
    good.write_bytes((DATA / f"{name}.onnx").read_bytes())
    data = DATA / f"{name}.onnx.data"
    if data.exists():
        (tmp_path / data.name).write_bytes(data.read_bytes())
    assert_refused_or_read(from_onnx, good, range(200), where="from_onnx")


def test_broken_bytes_are_refused_as_a_broken_file_is(tmp_path):
    broken = node("Squeeze", ["x"], ["y"])
    broken["attribute"] = [{"name": "axes", "type": 4}]  # a tensor that is not there
    path, content = tmp_path / "model.onnx", model([broken])
    path.write_bytes(content)
    for source, at in ((content, "from_onnx: "), (path, f"from_onnx: {path}: ")):
        with pytest.raises(ValueError) as error:
            from_onnx(source)
        assert str(error.value) == f"{at}corrupt or not of this format: 't'"


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


def field(number, content):
    """Return one field of bytes of a protobuf message."""
    return _number(number << 3 | 2) + _number(len(content)) + content


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
        field(7, field(1, b"\x0a\x02ab" * 500_000)),
        field(7, field(5, field(1, b"\x01" * 2_000_000))),
        field(7, field(1, field(5, field(8, b"\x01" * 2_000_000)))),
        field(7, field(1, field(5, b"\x4a\x01a" * 500_000))),
    ],
    ids=[
        "empty nodes", "unknown fields", "empty tensors", "doubling", "sharing", "long name",
        "expand", "filled", "gather", "huge dims", "negative dims", "strings",
        "names of a node", "dims of a tensor", "ints of an attribute", "strings of an attribute",
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
