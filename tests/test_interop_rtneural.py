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
from pygru.interop import from_rtneural, to_rtneural

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


def test_a_derived_class_that_computes_its_own_way_is_refused():
    class Twice(pygru.Linear):
        def _apply(self, x, lengths, training, /):
            y, saved = super()._apply(x, lengths, training)
            return 2 * y, saved

    with pytest.raises(
        TypeError, match=r"^to_rtneural: model must .*, got a Twice with its own _apply$"
    ):
        to_rtneural(pygru.Sequential(Twice(3, 2)))
