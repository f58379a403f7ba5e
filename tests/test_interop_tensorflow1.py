# SPDX-License-Identifier: MIT
"""TensorFlow 1's GRUCell arrays come and go: by name, bit for bit, the variant with its name."""

from __future__ import annotations

import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from mutations import OVERHEAD, assert_refused_or_read
from tolerances import TOLERANCES, assert_close

import pygru
from pygru.interop import from_tf1, to_tf1
from pygru.reference import sigmoid

I, H = 3, 4  # noqa: E741


def cell(scope="rnn/gru_cell", inputs=I, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = {
        "gates/kernel": (inputs + H, 2 * H),
        "gates/bias": (2 * H,),
        "candidate/kernel": (inputs + H, H),
        "candidate/bias": (H,),
    }
    prefix = f"{scope}/" if scope else ""
    return {
        prefix + kind: rng.uniform(-0.5, 0.5, shape).astype(dtype) for kind, shape in shapes.items()
    }


def network(num_layers, bidirectional, dtype):
    arrays = {}
    for layer in range(num_layers):
        for way in ("fw", "bw")[: 1 + bidirectional]:
            inputs = H * (1 + bidirectional) if layer else I
            if bidirectional:
                scope = f"bidirectional_rnn/{way}/gru_cell"
                if num_layers > 1:
                    scope = f"stack_bidirectional_rnn/cell_{layer}/{scope}"
            else:
                scope = f"multi_rnn_cell/cell_{layer}/" if num_layers > 1 else ""
                scope = f"rnn/{scope}gru_cell"
            arrays |= cell(scope, inputs, seed=2 * layer + (way == "bw"), dtype=dtype)
    return arrays


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_arrays_come_and_go_bit_for_bit(num_layers, bidirectional, dtype, tmp_path):
    arrays = network(num_layers, bidirectional, dtype)
    for array in arrays.values():
        array.flat[0] = -0.0
    np.savez(tmp_path / "stored.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    backwards = dict(reversed(arrays.items()))
    tensors = {f"{name}:0": array for name, array in arrays.items()}
    files = (tmp_path / "stored.npz", str(tmp_path / "packed.npz"))
    for source in (arrays, backwards, tensors, *files):
        gru = from_tf1(source)
        assert (gru.reset, gru.num_layers, gru.bidirectional) == (
            "before", num_layers, bidirectional,
        )  # fmt: skip
        back = to_tf1(gru)
        assert list(back) == list(arrays)
        assert all(back[name].tobytes() == array.tobytes() for name, array in arrays.items())


def test_the_cell_is_tensorflows_equations(rng):
    arrays = cell("", dtype=np.float64)
    x, h = rng.standard_normal((1, 2, I)), rng.standard_normal((1, 2, H))
    both = np.concatenate([x[0], h[0]], axis=1)
    r, u = np.split(sigmoid(both @ arrays["gates/kernel"] + arrays["gates/bias"]), 2, axis=1)
    both = np.concatenate([x[0], r * h[0]], axis=1)
    c = np.tanh(both @ arrays["candidate/kernel"] + arrays["candidate/bias"])
    y, _ = from_tf1(arrays)(x, h)
    assert_close(y[0], u * h[0] + (1 - u) * c, "interop")
    assert from_tf1(arrays, batch_first=True).batch_first


def test_two_biases_become_their_sum_and_none_becomes_zeros():
    gru = pygru.GRU(I, H, reset="before", rng=0)
    both = gru.params["bias_ih_l0"] + gru.params["bias_hh_l0"]
    assert np.array_equal(to_tf1(gru)["rnn/gru_cell/gates/bias"], both[: 2 * H])
    unbiased = to_tf1(pygru.Sequential(pygru.GRU(I, H, bias=False, reset="before")))
    assert not unbiased["rnn/gru_cell/candidate/bias"].any()
    for model in (pygru.GRU(I, H), pygru.RNN(I, H), pygru.Sequential()):
        with pytest.raises(ValueError, match="model must be one GRU with reset='before', got"):
            to_tf1(model)


def without(name):
    return {key: array for key, array in cell().items() if key != f"rnn/gru_cell/{name}"}


@pytest.mark.parametrize(
    "source, message",
    [
        ({}, "must hold the arrays of a GRUCell, got none"),
        (without("gates/bias"), "cell 'rnn/gru_cell' must have four arrays, missing gates/bias"),
        (cell() | {"dense/kernel": np.zeros(3)}, "got 'dense/kernel'; leave other arrays out"),
        (cell() | {"rnn/gru_cell/gates/kernel/Adam": np.zeros(3)}, "leave other arrays out"),
        (cell() | {"rnn/gru_cell/gates/bias": np.zeros(3)}, "must have gates/kernel (I+H, 2H)"),
        (cell() | {"rnn/gru_cell/gates/bias": np.zeros(8, int)}, "real numbers, got int64"),
        (cell("a") | cell("b"), "cells must be told apart by cell_0, cell_1 or fw, bw"),
        (cell("a/cell_0") | cell("a/cell_2"), "must be the layers and directions of one network"),
        (cell("a/cell_0") | cell("b/cell_1", H), "the layers and directions of one network"),
        (cell("a/fw"), "must be the layers and directions of one network"),
        (cell("a/cell_0") | cell("a/cell_1"), "weight_ih_l1 of the GRU must have shape (12, 4)"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_network_are_refused_by_name(source, message):
    with pytest.raises(ValueError) as error:
        from_tf1(source)
    assert str(error.value).startswith("from_tf1: ")
    assert message in str(error.value)


def test_wrong_kinds_are_type_errors():
    with pytest.raises(TypeError, match="source must be a path or a dict of arrays, got int"):
        from_tf1(3)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_broken_files_are_refused_by_name(save, tmp_path):
    save(tmp_path / "cell.npz", **cell())
    assert_refused_or_read(from_tf1, tmp_path / "cell.npz", range(200), where="from_tf1")


class Evil:
    def __reduce__(self):
        return (open, ("ran", "w"))


def test_files_that_unfold_claim_or_run_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.npz"
    np.savez(path, **{"gates/kernel": np.array([Evil()], object)})
    with pytest.raises(ValueError, match=r"gates/kernel\.npy must hold real numbers"):
        from_tf1(path)
    assert not (tmp_path / "ran").exists()
    np.savez_compressed(path, **{"gates/kernel": np.zeros(10**7, np.float32)})
    with pytest.raises(ValueError, match="must unfold to at most twice its size"):
        from_tf1(path)
    for shape in ((2**40,), (2**40, 0, 2**40), (-1,), (10**30,)):
        header = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("gates/kernel.npy", content)
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"from_tf1: {path}: .*must hold real numbers"):
            from_tf1(path)
        assert tracemalloc.get_traced_memory()[1] <= 2 * len(content) + OVERHEAD
        tracemalloc.stop()


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
def test_check_runs_tensorflows_kernel(bidirectional, capsys):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    pytest.importorskip("tensorflow")
    from_tf1(network(2, bidirectional, np.float32), check=True)
    out = capsys.readouterr().out
    assert out.startswith("from_tf1: largest absolute difference to tensorflow ")
    assert float(out.rpartition(" ")[2]) < TOLERANCES["interop"]["float32"]
    from_tf1(network(1, bidirectional, np.float64), check=True)
    assert "not checked, TensorFlow's GRUBlockCell computes in float32" in capsys.readouterr().out


def test_the_place_of_a_cell_is_a_whole_part_of_its_scope():
    """A second cell of TensorFlow's is gru_cell_1, which is no layer of its own."""
    for scope in ("rnn/gru_cell_1", "bwd_net/gru_cell", "net_fw/gru_cell"):
        gru = from_tf1(cell(scope))
        assert (gru.num_layers, gru.bidirectional) == (1, False)
    scopes = [f"bidirectional_rnn/{way}/multi_rnn_cell/cell_0/gru_cell" for way in ("fw", "bw")]
    forward, backward = (cell(scope, seed=seed) for seed, scope in enumerate(scopes))
    both = from_tf1(forward | backward)
    assert (both.num_layers, both.bidirectional) == (1, True)
    back = list(to_tf1(both).values())
    assert all(map(np.array_equal, back, [*forward.values(), *backward.values()]))


def test_no_bias_becomes_zeros_of_the_precision_and_a_row_of_more_is_refused(dtype):
    unbiased = to_tf1(pygru.GRU(I, H, bias=False, reset="before", dtype=dtype))
    assert from_tf1(unbiased).dtype == dtype
    gru = pygru.GRU(I, H, reset="before")
    with pytest.raises(ValueError, match="model must be one GRU with reset='before', got"):
        to_tf1(pygru.Sequential(gru, pygru.Linear(H, 2)))


def test_a_candidate_of_one_axis_is_refused_by_name():
    with pytest.raises(ValueError) as error:
        from_tf1(cell() | {"rnn/gru_cell/candidate/kernel": np.zeros(3)})
    assert "must have gates/kernel (I+H, 2H)" in str(error.value)


def test_an_archive_may_unfold_to_twice_its_size_and_no_more(tmp_path, rng):
    path = tmp_path / "cell.npz"
    for zeros, good in ((100_000, True), (300_000, False)):
        noise = rng.standard_normal(100_000).astype(np.float32)
        kernel = np.concatenate([noise, np.zeros(zeros, np.float32)])
        np.savez_compressed(path, **{"gates/kernel": kernel})
        message = "must have four arrays" if good else "must unfold to at most twice its size"
        with pytest.raises(ValueError, match=message):
            from_tf1(path)


def test_an_archive_may_have_a_comment(tmp_path):
    path = tmp_path / "cell.npz"
    np.savez(path, **cell())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"x" * 65535
    assert from_tf1(path).hidden_size == H


def test_archives_of_too_many_members_or_too_long_names_are_refused(tmp_path):
    path = tmp_path / "many.npz"
    for names in ([f"{i}" for i in range(1100)], [f"{i}" * 60_000 for i in range(3)]):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        with pytest.raises(ValueError, match="must be an archive of some arrays, got one of"):
            from_tf1(path)
