# SPDX-License-Identifier: MIT
"""Files give back the same model or say what is wrong."""

from __future__ import annotations

import json
import os
import re
import threading
import tracemalloc

import numpy as np
import pytest
from model_problems import LENGTHS, B, H, I, T, make_model

import pygru
from pygru.interop import (
    from_keras,
    from_onnx,
    from_rtneural,
    from_tf1,
    from_torch,
    write_keras_weights,
)


@pytest.mark.parametrize("reset", ["after", "before"])
def test_a_saved_model_comes_back_exactly(tmp_path, dtype, reset, rng):
    model = make_model(dtype, reset=reset)
    path = tmp_path / "model.safetensors"
    model.save(path)
    same = pygru.load(str(path))
    assert repr(same) == repr(model)
    assert same.flat_params.dtype == dtype
    assert np.array_equal(same.flat_params, model.flat_params)
    x = rng.standard_normal((B, T, I))
    assert np.array_equal(same(x, lengths=LENGTHS), model(x, lengths=LENGTHS))
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("nowhere/model", FileNotFoundError),
        ("folder", IsADirectoryError),
        ("file/model", NotADirectoryError),
    ],
)
def test_a_file_that_cannot_be_written_is_named_in_the_error(tmp_path, place, kind):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(kind) as told:
        pygru.save(pygru.Linear(1, 1), tmp_path / place)
    assert str(told.value).endswith(f"'{tmp_path / place}'")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path):
    """Renaming would: whoever is root would have a file in the place of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="Not a regular file") as told:
        pygru.save(pygru.Linear(1, 1), pipe)
    assert str(told.value).endswith(f"'{pipe}'")
    assert pipe.is_fifo() and [p.name for p in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize(
    "module",
    [
        pygru.GRU(I, H, 2, bias=False, bidirectional=True, reset="before", rng=0),
        pygru.RNN(I, H, nonlinearity="relu", batch_first=True, rng=0),
        pygru.Embedding(4, 3, rng=0),
        pygru.MeanOverTime(batch_first=True),
        pygru.BothEnds(),
        pygru.OneHot(3),
        pygru.RepeatVector(4, batch_first=False),
        pygru.Tanh(),
        pygru.LayerNorm(3),
        pygru.Sequential(pygru.Sequential(pygru.Linear(3, 2)), pygru.Dropout(0.1)),
        pygru.Sequential(),
    ],
    ids=lambda module: type(module).__name__,
)
def test_every_module_can_be_saved_alone(tmp_path, module):
    pygru.save(module, tmp_path / "module")
    same = pygru.load(tmp_path / "module")
    assert type(same) is type(module)
    assert same.config() == module.config()
    assert np.array_equal(same.flat_params, module.flat_params)


def test_the_metadata_says_what_the_file_holds(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "model"
    make_model(reset="before").save(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        assert file.get_tensor("1.weight_hh_l0").shape == (3 * H, H)
    assert metadata["format"] == "pygru"
    assert metadata["pygru_version"] == pygru.__version__
    modules = json.loads(metadata["model"])["config"]["modules"]
    assert [m["class"] for m in modules] == [
        "Linear", "GRU", "LayerNorm", "RNN", "Dropout", "LastStep", "Linear",
    ]  # fmt: skip
    assert modules[1]["config"]["reset"] == "before"


def test_a_file_of_one_reset_variant_cannot_fill_a_model_of_the_other(tmp_path):
    path = tmp_path / "model"
    make_model(reset="before").save(path)
    model = make_model(reset="after")
    before = model.flat_params.copy()
    with pytest.raises(ValueError, match="belong to reset='before', module 1 has reset='after'"):
        model.load_state_dict(pygru.load(path).state_dict())
    assert np.array_equal(model.flat_params, before)


def test_a_failed_save_leaves_the_good_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model"
    model = make_model()
    model.save(path)
    good = path.read_bytes()
    model.flat_params[:] = 0.0

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr("pygru.files.os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        model.save(path)
    assert path.read_bytes() == good
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "run-1", tmp_path / "latest"
    link.symlink_to(real)
    for _ in range(2):  # while there is no such file, and when there is
        make_model().save(link)
        assert link.is_symlink()
        assert [p.name for p in real.parent.iterdir()] == ["run-1"]
    assert np.array_equal(pygru.load(real).flat_params, make_model().flat_params)


def test_two_threads_may_save_to_one_path(tmp_path, monkeypatch):
    path, models = tmp_path / "model", [make_model(rng=seed) for seed in (0, 1)]
    other = threading.Thread(target=models[1].save, args=[path])

    def meanwhile(_):  # the first is written and not renamed yet when the other one begins
        if other.ident is None:
            other.start()
            other.join()
            assert np.array_equal(pygru.load(path).flat_params, models[1].flat_params)

    monkeypatch.setattr("pygru.files.os.fsync", meanwhile)
    models[0].save(path)
    assert np.array_equal(pygru.load(path).flat_params, models[0].flat_params)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_only_pygrus_own_classes_are_saved(tmp_path):
    class Mine(pygru.LastStep):
        pass

    with pytest.raises(TypeError, match="save: module must be one of pygru's own classes"):
        pygru.Sequential(Mine()).save(tmp_path / "model")
    assert not any(tmp_path.iterdir())


def a_module(cls, **config):
    return {"class": cls, "config": config}


def describe(**config):
    return json.dumps(a_module("Linear", **{"in_features": 3, "out_features": 2} | config))


WEIGHT, BIAS = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
FITTING = {"weight": WEIGHT, "bias": BIAS}


@pytest.mark.parametrize(
    ("arrays", "model", "version", "message"),
    [
        ({"w": WEIGHT}, None, None, "must be a file that pygru saved"),
        (FITTING, describe(), "2", "must have format version '1', got '2'"),
        (FITTING, "{", "1", "is corrupt: "),
        (FITTING, "[" * 100_000, "1", "is corrupt: "),
        (FITTING, "[]", "1", "must be described by class and config"),
        (FITTING, '{"class": "System", "config": {}}', "1", "class must be one of"),
        (FITTING, '{"class": ["Linear"], "config": {}}', "1", "is corrupt: "),
        (FITTING, '{"class": "Linear", "config": []}', "1", "config of Linear must be a dict"),
        (
            FITTING,
            '{"class": "Sequential", "config": {"modules": 3}}',
            "1",
            "must be a list of modules",
        ),
        (FITTING, describe(alien=1), "1", "alien"),
        (FITTING, describe(in_features=-3), "1", "in_features must be an integer >= 1, got -3"),
        (FITTING, describe(in_features=2**62), "1", "must fit in one array"),
        (FITTING, describe(in_features=2**50), "1", "must have at most"),
        (FITTING, describe(in_features=4), "1", "weight must have shape (2, 4), got (2, 3)"),
        ({"weight": WEIGHT}, describe(), "1", "missing bias"),
        ({**FITTING, "alien": BIAS}, describe(), "1", "unknown alien"),
        (
            {**FITTING, "bias": BIAS.astype(np.float64)},
            describe(),
            "1",
            "dtype of ['bias'] must be",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, arrays, model, version, message):
    from safetensors.numpy import save_file

    path = tmp_path / "wrong"
    metadata = {"format": "pygru", "format_version": version, "model": model}
    save_file(arrays, path, metadata if model else None)
    with pytest.raises(ValueError) as error:
        pygru.load(path)
    assert str(error.value).startswith(f"load: {path} ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "model",
    [
        a_module("Linear", in_features=2000, out_features=1000),
        a_module("LayerNorm", normalized_shape=1_000_000),
        a_module("GRU", input_size=1, hidden_size=100, num_layers=50),
        a_module("GRUCell", input_size=1, hidden_size=1000),
        a_module(
            "Sequential",
            modules=[
                a_module(
                    "Sequential", modules=[a_module("Linear", in_features=200, out_features=200)]
                )
            ]
            * 40,
        ),
    ],
    ids=lambda model: model["class"],
)
def test_a_file_that_claims_more_than_it_holds_takes_no_memory(tmp_path, model):
    from safetensors.numpy import save_file

    path = tmp_path / "wrong"
    metadata = {"format": "pygru", "format_version": "1", "model": json.dumps(model)}
    save_file(FITTING, path, metadata)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"is corrupt: \w+: the parameters must have at most"):
            pygru.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    pygru.GRU(8, 300)  # is no part of the file


def test_an_error_lists_a_few_of_many_names():
    weights = {f"alien{i}": BIAS for i in range(100_000)}
    with pytest.raises(ValueError, match="missing weight; missing bias; unknown alien0; ") as error:
        pygru.Linear(3, 2).load_state_dict(weights)
    assert str(error.value).endswith("; unknown alien17; and 99982 more")
    with pytest.raises(ValueError) as error:
        pygru.Adam().load_state_dict(pygru.Adam().state_dict() | weights)
    assert str(error.value).endswith("'alien10013'] and 99980 more")


def test_a_truncated_or_damaged_file_is_refused_by_name(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    pygru.save(pygru.Linear(3, 2, rng=0), good)
    content = good.read_bytes()
    header = content[:8] + content[8:].replace(b"{", b"[", 1)
    for damaged in (b"", content[:5], content[:100], content[:-1], content + b"x", header):
        bad.write_bytes(damaged)
        with pytest.raises(ValueError) as error:
            pygru.load(bad)
        assert str(error.value).startswith(f"load: {bad} is not a readable safetensors file")
        assert "those of other systems are read by pygru.interop" in str(error.value)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        pygru.load(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        pygru.load(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "a\0b", "\0/b"])
def test_a_path_that_names_no_file_is_named(name):
    model = pygru.Sequential(pygru.Linear(1, 1))
    told = re.escape(f"path must be the name of a file, got {name!r}")
    for function, call in (
        ("save", lambda: pygru.save(model, name)),
        ("save", lambda: model.save(name)),
        ("load", lambda: pygru.load(name)),
    ):
        with pytest.raises(ValueError, match=f"^{function}: {told}$"):
            call()
    with pytest.raises(TypeError, match=r"^save: path must be a path, got None$"):
        model.save(None)
    with pytest.raises(ValueError, match=f"^write_keras_weights: {told}$"):
        write_keras_weights(model, name)
    for read in (from_keras, from_onnx, from_rtneural, from_tf1, from_torch):
        source_told = told.replace("path", "source", 1)
        with pytest.raises(ValueError, match=f"^{read.__name__}: {source_told}$"):
            read(name)


def test_a_model_that_is_loaded_can_be_trained_further_to_the_same_bits(tmp_path):
    path = tmp_path / "model.safetensors"
    pygru.Sequential(
        pygru.GRU(2, 6, 2, dropout=0.5, batch_first=True, rng=0), pygru.LastStep(),
        pygru.Dropout(0.5), pygru.Linear(6, 8, rng=1), pygru.Dropout(0.5),
        pygru.Linear(8, 1, rng=2),
    ).save(path)  # fmt: skip
    X, Y = np.ones((32, 6, 2)), np.ones((32, 1))

    def tuned(rng):
        model = pygru.load(path, rng=rng)
        pygru.fit(model, X, Y, loss="mse", optimizer=pygru.Adam(0.01), epochs=2, verbose=0, rng=0)
        states = [str(state) for state in model.rng_state().values()]
        assert len(set(states)) == 3  # each draws for itself
        return model.flat_params

    first = tuned(0)
    assert np.array_equal(tuned(0), first)
    assert np.array_equal(tuned(np.random.default_rng(0)), first)
    assert not np.array_equal(tuned(1), first)
    assert not np.array_equal(tuned(None), tuned(None))
    with pytest.raises(TypeError, match=r"^load: rng must be"):
        pygru.load(path, rng="0")


@pytest.mark.parametrize("kind", ["F8_E5M2", "F8_E4M3"])
def test_a_file_of_numbers_that_numpy_lacks_is_refused(tmp_path, kind):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"a": {"dtype": kind, "shape": [4], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"^load: .*safetensors"):
        pygru.load(path)
