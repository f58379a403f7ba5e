# SPDX-License-Identifier: MIT
"""What configurations and files of Keras say is held to, or refused by name."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from keras_archives import H, I, gru_arrays, gru_config, layer, write_archive

import pygru
from pygru.interop import from_keras, to_keras_weights, write_keras_weights

h5py = pytest.importorskip("h5py")

NORM = {"layers/layer_normalization/vars": [np.full(H, 2, "f4"), np.ones(H, "f4")]}


@pytest.mark.parametrize(
    "layers, message",
    [
        ([gru_config(dtype="bfloat16")], "must compute in float32 or float64, got 'bfloat16'"),
        ([layer("TimeDistributed", layer=layer("GRU"))], "must hold a Dense, got GRU"),
        (
            [gru_config(), layer("LayerNormalization", "two", axis=1, epsilon=1e-3)],
            "must have axis=-1, got 1",
        ),
        ([gru_config(), layer("Softmax", "two", axis=1)], "must have axis=-1, got 1"),
        (
            [gru_config(), layer("GlobalAveragePooling1D", "two", keepdims=True)],
            "must have keepdims=False, got True",
        ),
        (
            [gru_config(), layer("GlobalAveragePooling1D", "two", data_format="channels_first")],
            "must have data_format='channels_last', got 'channels_first'",
        ),
        ([gru_config(), layer("ReLU", "two", max_value=6.0)], "must have max_value=None, got 6.0"),
        ([gru_config(), layer("ReLU", "two", negative_slope=0.5)], "must have negative_slope=0.0"),
        ([gru_config(), layer("ReLU", "two", threshold=0.5)], "must have threshold=0.0, got 0.5"),
        (
            [gru_config(), layer("LayerNormalization", "two", axis=-1, rms_scaling=True)],
            "must have rms_scaling=False, got True",
        ),
    ],
)
def test_layers_without_an_equal_are_refused_by_name(layers, message, tmp_path):
    path = tmp_path / "model.keras"
    write_archive(path, layers, {"layers/gru/cell/vars": gru_arrays()} | NORM)
    with pytest.raises(ValueError) as error:
        from_keras(path)
    assert str(error.value).startswith(f"from_keras: {path}: ")
    assert message in str(error.value)


def test_a_file_of_one_layer_is_a_row_of_one(tmp_path):
    path = tmp_path / "model.keras"
    arrays = {"layers/gru/cell/vars": gru_arrays()}
    write_archive(path, [gru_config(return_sequences=True)], arrays)
    model = from_keras(path)
    assert isinstance(model, pygru.Sequential)
    assert [type(module).__name__ for module in model] == ["GRU"]


@pytest.mark.parametrize("axis", [-1, [-1]])
def test_epsilon_and_axis_of_a_norm_are_read(axis, tmp_path):
    path = tmp_path / "model.keras"
    norm = layer("LayerNormalization", "two", axis=axis, epsilon=0.25)
    write_archive(path, [gru_config(), norm], {"layers/gru/cell/vars": gru_arrays()} | NORM)
    *_, last = from_keras(path)
    assert last.eps == 0.25
    assert (last.params["weight"] == 2).all() and (last.params["bias"] == 1).all()


def test_what_dropout_draws_from_is_passed_over(tmp_path):
    """Keras up to 3.9 stores the state of its generators beside the weights."""
    path, seed = tmp_path / "model.keras", [np.array([1, 2], np.uint32)]
    two = layer(
        "Bidirectional",
        "two",
        merge_mode="concat",
        layer=gru_config(units=H),
        backward_layer=gru_config(go_backwards=True),
    )
    groups = {"layers/dropout/seed_generator/vars": seed}
    for way in ("forward", "backward"):
        at = f"layers/bidirectional/{way}_layer/cell"
        groups |= {f"{at}/vars": gru_arrays(), f"{at}/seed_generator/vars": seed}
    write_archive(path, [layer("Dropout", rate=0.25), two], groups)
    dropout, gru, _ = from_keras(path)
    assert dropout.p == 0.25 and gru.bidirectional


def test_a_name_that_is_there_twice_is_refused(archive):
    with zipfile.ZipFile(archive, "a") as twice, pytest.warns(UserWarning, match="Duplicate"):
        twice.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"must hold one config\.json"):
        from_keras(archive)


def test_an_array_that_was_never_written_must_fit_into_the_file(tmp_path):
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as root:
        root.create_group("layers/gru/cell/vars").create_dataset("0", (1000,), "f8")
    assert 1000 < path.stat().st_size < 8000
    with pytest.raises(ValueError, match="must fit into the file"):
        from_keras(path, into=pygru.GRU(I, H))

    with h5py.File(path, "w") as root:
        root.create_group("model_weights")  # as Keras 2 calls it
    for into in (None, pygru.GRU(I, H)):
        with pytest.raises(ValueError, match=r"must hold the group 'layers'.* save it as \.keras"):
            from_keras(path, into=into)


def test_two_ways_must_be_forwards_and_backwards(tmp_path):
    path = tmp_path / "model.keras"
    at = "layers/bidirectional/{}_layer/cell/vars"
    groups = {at.format(way): gru_arrays() for way in ("forward", "backward")}
    for first, second in ((True, False), (False, False), (True, True)):
        two = layer(
            "Bidirectional",
            layer=gru_config(go_backwards=first),
            backward_layer=gru_config(go_backwards=second),
        )
        write_archive(path, [two], groups)
        with pytest.raises(ValueError, match="must read forwards and backwards"):
            from_keras(path)


def test_what_keras_has_no_equal_of_is_refused(tmp_path):
    for model in (pygru.GRUCell(I, H), pygru.RNNCell(I, H)):
        with pytest.raises(ValueError, match="to_keras_weights: model must be of modules that Ker"):
            to_keras_weights(model)
        with pytest.raises(ValueError, match="write_keras_weights: model must be of modules that"):
            write_keras_weights(model, tmp_path / "model.weights.h5")


@pytest.mark.parametrize("other", [{"reset_after": False}, {"return_sequences": True}])
def test_two_ways_must_be_of_one_kind(other, tmp_path):
    path = tmp_path / "model.keras"
    at = "layers/bidirectional/{}_layer/cell/vars"
    groups = {
        at.format("forward"): gru_arrays(),
        at.format("backward"): gru_arrays("before" if "reset_after" in other else "after"),
    }
    backward = gru_config(go_backwards=True, **other)
    two = layer("Bidirectional", layer=gru_config(), backward_layer=backward)
    write_archive(path, [two], groups)
    with pytest.raises(ValueError, match="must have two directions of one kind"):
        from_keras(path)
