# SPDX-License-Identifier: MIT
"""RTNeural's JSON comes and goes, in both flavours, and is read in proportion to its size."""

from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest
from mutations import OVERHEAD, assert_refused_or_read
from tolerances import TOLERANCES

import pygru
from pygru.interop import formats, from_rtneural, to_rtneural

FLAVOURS = ["keras", "torch"]
MANY = 100_000


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def network(num_layers=1, bias=True, dtype=np.float32, seed=0):
    return pygru.Sequential(
        pygru.Linear(2, 5, dtype=dtype, rng=seed),
        pygru.GRU(5, 4, num_layers, bias, dtype=dtype, rng=seed),
        pygru.Linear(4, 3, dtype=dtype, rng=seed),
    )


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_files_come_and_go_bit_for_bit(flavour, num_layers, bias, dtype, tmp_path):
    content = to_rtneural(network(num_layers, bias, dtype), flavour=flavour)
    path = write(tmp_path / "model.json", content)
    for source in (path, str(path), content):
        model = from_rtneural(source, dtype=dtype)
        assert model.dtype == dtype
        assert to_rtneural(model, flavour=flavour) == content
    pretty = tmp_path / "pretty.json"
    pretty.write_text(json.dumps(content, indent=4))
    assert to_rtneural(from_rtneural(pretty, dtype=dtype), flavour=flavour) == content


def test_what_the_file_says_is_what_the_model_does(rng):
    model = network(2)
    x = rng.standard_normal((7, 3, 2)).astype(np.float32)
    for flavour in FLAVOURS:
        again = from_rtneural(to_rtneural(model, flavour=flavour))
        assert np.array_equal(again(x), model(x))


def test_activations_belong_to_their_dense_layer_or_stand_alone():
    model = pygru.Sequential(
        pygru.Tanh(), pygru.Linear(2, 3), pygru.ReLU(), pygru.Softmax(), pygru.Dropout(0.5),
        pygru.GRU(3, 4), pygru.Sigmoid(),
    )  # fmt: skip
    layers = to_rtneural(model)["layers"]
    assert [(layer["type"], layer["activation"]) for layer in layers] == [
        ("activation", "tanh"), ("dense", "relu"), ("activation", "softmax"), ("gru", "tanh"),
        ("activation", "sigmoid"),
    ]  # fmt: skip
    kinds = [type(module).__name__ for module in from_rtneural(to_rtneural(model))]
    assert kinds == ["Tanh", "Linear", "ReLU", "Softmax", "GRU", "Sigmoid"]


def test_one_layer_of_a_state_dict_is_that_layer():
    gru = pygru.GRU(2, 4, rng=0)
    again = from_rtneural(to_rtneural(gru, flavour="torch"))
    assert isinstance(again, pygru.GRU)
    into = pygru.GRU(2, 4, batch_first=True)
    assert from_rtneural(to_rtneural(gru, flavour="torch"), into) is into
    assert np.array_equal(into.flat_params, gru.flat_params)


def keras_layer(**changes):
    content = to_rtneural(pygru.GRU(2, 4))
    content["layers"][0] |= changes
    return content


@pytest.mark.parametrize(
    "content, message",
    [
        (keras_layer(type="lstm"), "layer 0 (lstm) must be one of gru, dense"),
        (keras_layer(type="conv1d"), "layer 0 (conv1d) must be one of gru, dense"),
        (keras_layer(type="dense"), "must have a kernel (inputs, outputs) and maybe a bias"),
        (keras_layer(activation="relu"), "must have activation 'tanh', got 'relu'"),
        (keras_layer(shape=[None, None, 5]), "must give the 5 features of its shape, got 4"),
        (keras_layer(weights=[[[1.0]], [[1.0]]]), "must have kernel, recurrent kernel and bias"),
        (keras_layer(weights=[[[1, 2], [3]], [], []]), "must be a list of equal lists of numbers"),
        (
            keras_layer(weights=[np.ones((2, 12)).tolist(), np.ones((4, 12)).tolist(), [1.0] * 12]),
            "got (12,), the bias of reset='before'",
        ),
        (keras_layer() | {"in_shape": [None, 3]}, "must take the 3 of in_shape, got 2"),
        ({"layers": 3}, "layers must be a list"),
        ({"layers": []}, "there must be a layer that pygru knows, got none"),
        (
            {"layers": [{"type": "activation", "activation": "elu"}]},
            "layer 0 (activation) must have one of the activations",
        ),
        ({"weight_ih_l0": [[0.0]] * 16, "weight_hh_l0": [[0.0] * 4] * 16}, "got LSTM"),
        ({"a": {}}, "a must be a list of equal lists of numbers"),
    ],
)
def test_what_has_no_equal_is_refused_by_name(content, message, tmp_path):
    with pytest.raises(ValueError) as error:
        from_rtneural(content)
    assert message in str(error.value)
    path = write(tmp_path / "model.json", content)
    with pytest.raises(ValueError) as error:
        from_rtneural(path)
    assert str(error.value).startswith(f"from_rtneural: {path}: ")


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="source must be a path or a dict, got int"):
        from_rtneural(3)
    with pytest.raises(TypeError, match="dtype must be float32 or float64"):
        from_rtneural({}, dtype=int)
    with pytest.raises(ValueError, match="into must be None where the file tells the layers"):
        from_rtneural(keras_layer(), pygru.GRU(2, 4))
    with pytest.raises(ValueError, match="flavour must be one of"):
        to_rtneural(pygru.GRU(2, 4), flavour="onnx")
    for model in (
        pygru.GRU(2, 4, reset="before"), pygru.GRU(2, 4, bidirectional=True), pygru.RNN(2, 4),
        pygru.LastStep(), pygru.LayerNorm(3),
    ):  # fmt: skip
        for flavour in FLAVOURS:
            with pytest.raises(ValueError, match="to_rtneural: model must be of GRU with reset="):
                to_rtneural(model, flavour=flavour)
    with pytest.raises(ValueError, match="to_rtneural: model must hold a GRU or a Linear"):
        to_rtneural(pygru.Tanh())


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_broken_files_are_refused_by_name(flavour, tmp_path):
    path = write(tmp_path / "model.json", to_rtneural(network(), flavour=flavour))
    assert_refused_or_read(from_rtneural, path, range(200), where="from_rtneural")


@pytest.mark.parametrize(
    "text",
    [
        b"[" * MANY, b'{"layers":' + b"[" * MANY, b'{"layers":[' + b"{}," * MANY,
        b'{"a":[' + b"[0]," * MANY, b'{"a":[' + b"[0],[0,0]," * MANY, b'{"a":[' + b"0," * MANY,
        b'{"a":' * MANY, b'{"a":[' + b"null," * MANY, b'{"a":' + b"9" * MANY,
        b'{"a":"' + b"x" * MANY, b'{"a":[' + b"[]," * MANY, b'{"a":[1e999]}', b'{"a":[NaN]}',
        b'{"a":[1],"a":[1]}', b"{} {}", b"[1,,2]", b'{"a":[1_0]}', b"", b"\xff\xfe", b'{"a":[1.]}',
    ],
    ids=lambda text: repr(bytes(text[:20])),
)  # fmt: skip
def test_hostile_json_takes_no_more_memory_than_twice_its_size(text, tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(text)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"from_rtneural: {path}: must"):
        from_rtneural(path)
    assert tracemalloc.get_traced_memory()[1] <= 2 * len(text) + OVERHEAD
    tracemalloc.stop()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_check_runs_both(flavour, capsys, tmp_path):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    pytest.importorskip(flavour)
    path = write(tmp_path / "model.json", to_rtneural(network(2), flavour=flavour))
    from_rtneural(path, check=True)
    out = capsys.readouterr().out
    assert out.startswith(f"from_rtneural: largest absolute difference to {flavour} ")
    assert float(out.rpartition(" ")[2]) < TOLERANCES["interop"]["float32"]


def test_wrong_arguments_are_named_too():
    with pytest.raises(TypeError, match="from_rtneural: into must be a module of pygru, got str"):
        from_rtneural(to_rtneural(pygru.GRU(2, 4), flavour="torch"), "gru")
    with pytest.raises(ValueError, match="must hold layers or a state_dict, got an empty object"):
        from_rtneural({})


def test_a_file_that_holds_no_object_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold an object, got"):
        from_rtneural(write(tmp_path / "model.json", [1.0, 2.0]))


def test_numbers_in_every_notation_are_read(dtype, tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(
        b'{"layers": [{"type": "dense", "weights": [[[1E1, 1e+2,-25e-1]\r\n,\t[1234567890123, '
        b"0.30000000000000004441,  -0.0]],[1, 2, 3]]}]}"
    )
    (linear,) = from_rtneural(path, dtype=dtype)
    expected = np.array([[10, 100, -2.5], [1234567890123, 0.30000000000000004441, -0.0]], dtype)
    assert np.array_equal(linear.params["weight"], expected.T)
    assert np.array_equal(linear.params["bias"], [1, 2, 3])


def test_one_layer_of_the_keras_flavour_is_a_row_of_one():
    model = from_rtneural(to_rtneural(pygru.GRU(2, 4)))
    assert isinstance(model, pygru.Sequential) and len(model) == 1


def test_equal_layers_go_into_a_model_in_order():
    ours, into = (
        pygru.Sequential(pygru.Linear(3, 3, rng=i), pygru.Linear(3, 3, rng=i + 1)) for i in (0, 5)
    )
    from_rtneural(to_rtneural(ours, flavour="torch"), into)
    assert np.array_equal(into.flat_params, ours.flat_params)


def test_what_a_file_may_leave_out_or_add():
    content = keras_layer()
    del content["layers"][0]["activation"], content["layers"][0]["shape"], content["in_shape"]
    same = from_rtneural(content | {"training": {"a": {"b": {"c": {"d": [True, {"e": 1}]}}}}})
    assert len(same) == 1


def test_deep_networks_come_and_go_and_nothing_comes_after_the_end(tmp_path):
    content = to_rtneural(network(40))
    content["meta"] = {"a": {"b": {"c": {"d": {"e": [True, None, "x"]}}}}}
    path = write(tmp_path / "model.json", content)
    again = from_rtneural(path)
    assert to_rtneural(again)["layers"] == content["layers"]
    path.write_text(json.dumps(content) + "{}")
    with pytest.raises(ValueError, match="must be JSON with the end at byte"):
        from_rtneural(path)


@pytest.mark.parametrize("flavour", ["keras", "torch"])
def test_check_runs_both_of_a_dict(flavour, capsys):
    pytest.importorskip(flavour)
    from_rtneural(to_rtneural(network(), flavour=flavour), check=True)
    out = capsys.readouterr().out
    assert out.startswith(f"from_rtneural: largest absolute difference to {flavour} ")


def test_a_file_is_json_whatever_its_ninth_byte_is(tmp_path):
    """A brace there, with lower zeros before it, is how safetensors begins."""
    from pygru.interop import formats

    path = write(tmp_path / "model.json", {"meta": {}} | keras_layer())
    path.write_text(path.read_text().replace(": ", ":"))
    assert path.read_bytes()[8:9] == b"{"
    assert formats.kind_of(path) == "RTNeural model"
    assert len(formats.read(path)) == 1


def test_time_distributed_dense_is_dense():
    content = to_rtneural(pygru.Linear(2, 3, rng=0))
    content["layers"][0] |= {"type": "time-distributed-dense", "activation": "relu"}
    assert [type(module).__name__ for module in from_rtneural(content)] == ["Linear", "ReLU"]


def test_the_shape_of_a_dense_layer_is_held_to():
    content = to_rtneural(pygru.Linear(2, 3))
    content["layers"][0]["shape"] = [None, None, 5]
    with pytest.raises(ValueError, match=r"layer 0 \(dense\) must give the 5 features .* got 3"):
        from_rtneural(content)


def test_widths_in_shapes_are_held_to_wherever_they_are(tmp_path):
    content = to_rtneural(pygru.Sequential(pygru.Tanh(), pygru.Linear(2, 3)))
    for in_shape in ([None, None, 5], [1, 5]):  # the second one is an array in a file
        path = write(tmp_path / "model.json", content | {"in_shape": in_shape})
        with pytest.raises(ValueError, match="the first layer must take the 5 of in_shape, got 2"):
            from_rtneural(path)


def test_a_shape_may_tell_nothing(tmp_path):
    content = keras_layer(shape=[]) | {"in_shape": []}
    for source in (content, write(tmp_path / "model.json", content)):
        assert len(from_rtneural(source)) == 1


def test_lists_of_numbers_and_more_are_read(tmp_path):
    path = write(tmp_path / "model.json", keras_layer(shape=[None, 3, 4]))
    assert len(from_rtneural(path)) == 1
    ragged = keras_layer(weights=[[[1, 2], [3]], [], []])
    with pytest.raises(ValueError, match="must be a list of equal lists of numbers"):
        from_rtneural(write(path, ragged))
    ragged = {"weight_ih_l0": [[1, 2], [3], [4, 5, 6]], "weight_hh_l0": [[1.0]] * 3}
    with pytest.raises(ValueError, match="weight_ih_l0 must be a list of equal lists of numbers"):
        from_rtneural(write(path, ragged))


def test_modules_of_a_state_dict_are_in_its_order(tmp_path):
    """Of whatever names: RTNeural's own examples call them gru and dense."""
    gru, linear = pygru.GRU(2, 4, rng=0), pygru.Linear(4, 4, rng=1)
    content = {
        f"{name}.{key}": value
        for name, module in (("gru", gru), ("dense", linear), ("again", linear))
        for key, value in to_rtneural(module, flavour="torch").items()
    }
    into = pygru.Sequential(pygru.GRU(2, 4), pygru.Linear(4, 4), pygru.Linear(4, 4))
    for source in (content, write(tmp_path / "model.json", content)):
        for model in (from_rtneural(source), from_rtneural(source, into)):
            kinds = [type(module).__name__ for module in model]
            assert kinds == ["GRU", "Linear", "Linear"]
            assert np.array_equal(model[0].flat_params, gru.flat_params)
            assert np.array_equal(model[2].flat_params, linear.flat_params)


@pytest.mark.parametrize("layers, message", [
    ([{}], "layer 0 must be an object with a type, got {}"),
    ([{"type": "activation", "activation": "tanh"}, 3], "layer 1 must be an object with a type"),
    ([{"type": "dense", "weights": 3}], "layer 0 (dense) must have a list of weights, got 3"),
])  # fmt: skip
def test_what_is_no_layer_is_named(layers, message, tmp_path):
    with pytest.raises(ValueError) as error:
        from_rtneural({"layers": layers})
    assert str(error.value).startswith(f"from_rtneural: {message}")
    path = write(tmp_path / "model.json", {"layers": layers})
    with pytest.raises(ValueError) as error:
        from_rtneural(path)
    assert str(error.value).startswith(f"from_rtneural: {path}: layer ")


def test_a_file_is_checked_in_the_precision_of_the_model(tmp_path, capsys):
    for dtype in (np.float32, np.float64):
        formats.write(network(dtype=dtype), tmp_path / "model.json", check=True)
        *_, last = capsys.readouterr().out.splitlines()
        assert float(last.rpartition(" ")[2]) == 0
