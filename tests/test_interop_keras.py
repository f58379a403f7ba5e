# SPDX-License-Identifier: MIT
"""Keras's files come and go with h5py alone: both reset variants, files that cannot hurt."""

from __future__ import annotations

import os
import sys
import zipfile

import numpy as np
import pytest
from keras_archives import H, I, M, gru_arrays, gru_config, layer, write_archive
from mutations import assert_refused_or_read

import pygru
from pygru.interop import from_keras, to_keras_weights, write_keras_weights

h5py = pytest.importorskip("h5py")

VARIANTS = {
    "after": (pygru.GRU, {"reset": "after"}),
    "before": (pygru.GRU, {"reset": "before"}),
    "tanh": (pygru.RNN, {"nonlinearity": "tanh"}),
    "relu": (pygru.RNN, {"nonlinearity": "relu"}),
}


# Without Keras


def test_a_keras_file_is_read_without_keras(archive, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)  # importing it would be an ImportError
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    model = from_keras(archive)
    kinds = [type(module).__name__ for module in model]
    assert kinds == ["GRU", "LastStep", "Linear", "Softmax"]
    kernel, recurrent, bias = gru_arrays()
    z, r, n = np.split(kernel.T, 3)
    assert np.array_equal(model.params["0.weight_ih_l0"], np.concatenate([r, z, n]))
    assert all(map(np.array_equal, to_keras_weights(model), [kernel, recurrent, bias]))
    assert model(np.zeros((5, 7, I))).shape == (5, M)


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_files_come_and_go_bit_for_bit(
    variant, num_layers, bidirectional, bias, dtype, tmp_path
):
    cls, options = VARIANTS[variant]
    options = options | {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    first, second = (
        pygru.Sequential(
            pygru.Embedding(9, I, dtype=dtype, rng=seed),
            cls(I, H, dtype=dtype, rng=seed, **options),
            pygru.LayerNorm(H * (1 + bidirectional), dtype=dtype),
            pygru.Linear(H * (1 + bidirectional), M, dtype=dtype, rng=seed),
        )
        for seed in (0, 1)
    )
    path, again = tmp_path / "one.weights.h5", tmp_path / "two.weights.h5"
    if variant != "after" and bias:  # one bias there
        for name, array in first.params.items():
            if "bias_hh" in name:
                array[:] = 0
            if "bias_ih" in name:
                array[0] = -0.0
    write_keras_weights(first, path)
    assert from_keras(path, into=second) is second
    assert np.array_equal(first.flat_params, second.flat_params)
    write_keras_weights(second, again)
    assert path.read_bytes() == again.read_bytes()
    pairs = zip(to_keras_weights(first), to_keras_weights(second), strict=True)
    assert all(a.tobytes() == b.tobytes() for a, b in pairs)


def test_two_biases_become_their_sum_where_keras_has_one():
    gru = pygru.GRU(I, H, reset="before", dtype=np.float64, rng=0)
    bias = to_keras_weights(gru)[2]
    both = gru.params["bias_ih_l0"] + gru.params["bias_hh_l0"]
    assert np.array_equal(np.sort(bias), np.sort(both))


def test_the_variant_of_a_weights_file_must_be_that_of_the_model(tmp_path):
    for reset, other in (("after", "before"), ("before", "after")):
        path = tmp_path / f"{reset}.weights.h5"
        write_keras_weights(pygru.GRU(I, H, reset=reset), path)
        message = f"belong to reset='{reset}', this layer has reset='{other}'"
        with pytest.raises(ValueError, match=message):
            from_keras(path, into=pygru.GRU(I, H, reset=other))
        with pytest.raises(ValueError, match="holds weights alone, needs into"):
            from_keras(path)
        with pytest.raises(ValueError, match=r"must hold 2 arrays in layers/gru/cell/vars, got 3"):
            from_keras(path, into=pygru.GRU(I, H, reset=reset, bias=False))
        with pytest.raises(ValueError, match=r"got also \['layers/gru/cell/vars'\]"):
            from_keras(path, into=pygru.ReLU())


@pytest.mark.parametrize(
    "layers, message",
    [
        ([gru_config(recurrent_activation="hard_sigmoid")], "must have recurrent_activation"),
        ([gru_config(activation="relu")], "must have activation='tanh', got 'relu'"),
        ([gru_config(go_backwards=True)], "must have go_backwards=False, got True"),
        ([gru_config(return_state=True)], "must have return_state=False"),
        ([gru_config(stateful=True)], "must have stateful=False"),
        ([gru_config(reset_after=False)], "bias of reset_after=False, got one of shape (2, 12)"),
        ([gru_config(use_bias=False)], "must have 2 arrays of weights, got 3"),
        ([gru_config(dtype={"config": {"name": "mixed_float16"}})], "got 'mixed_float16'"),
        ([gru_config(), layer("Dense", "two")], "must have 2 arrays of weights, got 0"),
        ([layer("SimpleRNN")], "must have 3 arrays of weights, got 0"),
        ([layer("LSTM")], "layer 'one' (LSTM) must be a layer that pygru has an equal of"),
        ([gru_config(), layer("Masking", "two")], "layer 'two' (Masking) must be a layer that"),
        ([gru_config(), layer("Activation", "two", activation="gelu")], "got 'gelu'"),
        ([], "got also ['layers/gru/cell/vars']"),
    ],
)
def test_layers_without_an_equal_are_refused_by_name(layers, message, tmp_path):
    path = tmp_path / "model.keras"
    write_archive(path, layers, {"layers/gru/cell/vars": gru_arrays()})
    with pytest.raises(ValueError) as error:
        from_keras(path)
    assert str(error.value).startswith(f"from_keras: {path}: ")
    assert message in str(error.value)


def test_a_model_with_branches_is_refused(tmp_path):
    def reads(*names):
        return [{"args": [{"config": {"keras_history": [name, 0, 0]}} for name in names]}]

    layers = [layer("InputLayer", "in"), gru_config(), layer("Dropout", "two", rate=0.5)]
    groups = {"layers/gru/cell/vars": gru_arrays()}
    for names, good in ((("one",), True), (("in",), False), (("one", "in"), False)):
        layers[1]["inbound_nodes"], layers[2]["inbound_nodes"] = reads("in"), reads(*names)
        path = write_archive(tmp_path / "m.keras", layers, groups, outputs=["two", 0, 0])
        if good:
            assert len(from_keras(path)) == 3
        else:
            with pytest.raises(ValueError, match="layer 'two' must read the layer before it alone"):
                from_keras(path)
    layers[2]["inbound_nodes"] = reads("one")
    for outputs in ([["two", 0, 0], ["one", 0, 0]], {"p": ["two", 0, 0], "q": ["one", 0, 0]}):
        path = write_archive(tmp_path / "m.keras", layers, groups, outputs=outputs)
        with pytest.raises(ValueError, match="must have one output, that of its last layer, got "):
            from_keras(path)
    path = write_archive(tmp_path / "m.keras", layers, groups, class_name="Mine")
    with pytest.raises(ValueError, match="must be a Sequential or Functional model, got Mine"):
        from_keras(path)


def test_wrong_arguments_are_named(archive):
    with pytest.raises(TypeError, match=r"source must be a path or a keras\.Model, got int"):
        from_keras(3)
    with pytest.raises(TypeError, match="into must be a module of pygru, got str"):
        from_keras(archive, into="gru")
    with pytest.raises(ValueError, match="into must be None for a whole model"):
        from_keras(archive, into=pygru.GRU(I, H))
    with pytest.raises(FileNotFoundError):
        from_keras(archive.with_name("nowhere.keras"))


# Bad files


def test_broken_archives_are_refused_by_name(archive):
    assert_refused_or_read(from_keras, archive, range(200), where="from_keras")


def test_broken_weights_are_refused_by_name(tmp_path):
    def read(path):
        return from_keras(path, into=model)

    model = pygru.GRU(I, H, rng=0)
    write_keras_weights(model, tmp_path / "model.weights.h5")
    assert_refused_or_read(read, tmp_path / "model.weights.h5", range(200), where="from_keras")


def test_hdf5_that_points_elsewhere_or_unfolds_is_refused(tmp_path):
    path, outside = tmp_path / "model.weights.h5", tmp_path / "outside"
    outside.write_bytes(os.urandom(1 << 16))

    def external(group):
        where = [(str(outside), 0, h5py.h5f.UNLIMITED)]
        group.create_dataset("0", (4, 4), "f4", external=where)

    def link(group):
        group["0"] = h5py.ExternalLink(str(outside), "/secret")

    def soft(group):
        group["0"] = h5py.SoftLink("/layers/gru")

    def cycle(group):
        group["again"] = group.file["layers"]

    def huge(group):
        group.create_dataset("0", (2**40,), "f4")

    def packed(group):
        group.create_dataset("0", (2**22,), "f4", compression="gzip", data=np.zeros(2**22))

    def text(group):
        group["0"] = "text"

    def virtual(group):
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(outside), "x", (4,))
        group.create_virtual_dataset("0", layout)

    for make, message in (
        (external, "must be an array stored in one piece"),
        (link, "must be in the file itself, got a link"),
        (soft, "must be in the file itself, got a link"),
        (cycle, "must hold some layers of variables"),
        (huge, "of shape (1099511627776,) must fit into the file"),
        (packed, "must be an array stored in one piece"),
        (virtual, "must be an array stored in one piece"),
        (text, "must hold numbers"),
    ):
        with h5py.File(path, "w") as root:
            make(root.create_group("layers/gru/cell/vars"))
        with pytest.raises(ValueError) as error:
            from_keras(path, into=pygru.GRU(I, H))
        assert str(error.value).startswith(f"from_keras: {path}: ")
        assert message in str(error.value)


def test_archives_that_unfold_are_refused(tmp_path, archive):
    path = tmp_path / "bomb.keras"
    for name in ("config.json", "model.weights.h5"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
            for other in {"config.json", "model.weights.h5"} - {name}:
                bomb.writestr(other, "{}")
            bomb.writestr(name, b"[" * 10**7)
        with pytest.raises(ValueError, match="must unfold to at most twice its size"):
            from_keras(path)
    with zipfile.ZipFile(path, "w") as big:
        big.writestr("config.json", b"[" * 10**6)
        big.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match=r"must hold a config\.json of at most 262144 bytes"):
        from_keras(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as odd:
        odd.writestr("config.json", "{}")
    with pytest.raises(ValueError, match="members must be stored or deflated"):
        from_keras(path)
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in good.namelist():
            new.writestr(name, good.read(name))
    assert len(from_keras(path)) == 4  # packed again by somebody: as good as before
