# SPDX-License-Identifier: MIT
"""PyTorch's weights come and go: recognised or refused by name, exact both ways."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from mutations import assert_refused_or_read
from tolerances import TOLERANCES, assert_close

import pygru
from pygru.interop import from_torch, to_torch

I, H = 3, 4  # noqa: E741


def weights(seed=0, **options):
    """Return a plain state_dict of a GRU, as from a file."""
    return dict(pygru.GRU(I, H, rng=seed, **options).state_dict())


def save_safetensors(path, arrays, metadata=None):
    from safetensors.numpy import save_file

    save_file(dict(arrays), path, metadata)
    return path


# Without torch


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_a_state_dict_alone_gives_the_layer_it_came_from(num_layers, bidirectional, bias, tmp_path):
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    named = weights(**options)
    prefixed = {f"a.b.{name}": w for name, w in named.items()}
    file = save_safetensors(tmp_path / "gru.safetensors", named)
    for source in (named, prefixed, file, str(file)):
        gru = from_torch(source)
        assert (gru.num_layers, gru.bidirectional, gru.bias) == (num_layers, bidirectional, bias)
        assert gru.reset == "after"
        assert all(np.array_equal(gru.params[name], w) for name, w in named.items())


def test_numbered_modules_become_a_row_and_named_ones_come_as_they_are_defined():
    linear = pygru.Linear(H, 2, rng=1).state_dict()
    table = pygru.Embedding(9, I, rng=2).state_dict()
    parts = {"10": linear, "2": weights(), "0": table, "1": pygru.Linear(I, I).state_dict()}
    for prefixes, kinds in (
        (("0", "1", "2"), ["Embedding", "GRU", "Linear"]),
        (("table", "gru", "head"), ["Embedding", "GRU", "Linear"]),
    ):
        row = zip(prefixes, (table, weights(), linear), strict=True)
        model = from_torch({f"{p}.{k}": w for p, part in row for k, w in part.items()})
        assert [type(module).__name__ for module in model] == kinds
    numbers = {f"{p}.{k}": w for p, part in parts.items() for k, w in part.items()}
    with pytest.raises(ValueError, match=r"without a gap, got 0, 1, 2, 10; .* needs into"):
        from_torch(numbers)
    model = pygru.Sequential(
        pygru.Embedding(9, I), pygru.Linear(I, I), pygru.GRU(I, H), pygru.Tanh(),
        pygru.Linear(H, 2),
    )  # fmt: skip
    assert from_torch(numbers, model) is model
    assert np.array_equal(model.params["4.weight"], linear["weight"])


def test_into_tells_by_shape_which_module_is_which_where_names_are_sorted(tmp_path):
    named = {f"gru.{k}": w for k, w in weights().items()}
    named |= {f"fc.{k}": w for k, w in pygru.Linear(H, 2, rng=0).state_dict().items()}
    path = save_safetensors(tmp_path / "net.safetensors", named)
    with pytest.raises(ValueError, match=r"sorted by name \(fc, gru\) .* needs into"):
        from_torch(path)
    model = pygru.Sequential(pygru.GRU(I, H), pygru.LastStep(), pygru.Linear(H, 2))
    from_torch(path, model)
    assert np.array_equal(model.params["2.weight"], named["fc.weight"])
    with pytest.raises(ValueError, match="into must have modules of the names and shapes"):
        from_torch(path, pygru.Sequential(pygru.GRU(I, H), pygru.Linear(H, 3)))
    square = pygru.GRU(H, H, rng=0).state_dict()
    twins = {f"{p}.{k}": w for p in "ab" for k, w in square.items()}
    save_safetensors(path, twins)
    with pytest.raises(ValueError, match="several of a, b have the same shapes"):
        from_torch(path, pygru.Sequential(pygru.GRU(H, H), pygru.GRU(H, H)))


def lstm(rows=4 * H):
    return {"weight_ih_l0": np.zeros((rows, I)), "weight_hh_l0": np.zeros((rows, H))}


@pytest.mark.parametrize(
    "source, message",
    [
        (lstm(), "the state_dict must be a GRU or an RNN, got LSTM"),
        (lstm() | {"weight_hr_l0": np.zeros((2, H))}, "got LSTM with proj_size"),
        (lstm(5 * H), "got a layer of 5 gates"),
        (lstm(H), "is an RNN and a state_dict does not tell its nonlinearity: needs into"),
        ({}, "state_dict must hold weights, got none"),
        ({"weight": np.zeros((2, 3))}, "an Embedding or a Linear without bias"),
        ({"weight": np.zeros(3), "bias": np.zeros(3)}, "does not tell its eps: needs into"),
        ({"weight": np.zeros((2, 3, 1)), "bias": np.zeros(2)}, "must be a module that pygru has"),
        ({"weight": np.zeros((2, 3), int)}, "arrays of real numbers, got int64 at 'weight'"),
        ({"state_dict": {}, "epoch": 3}, "arrays of real numbers, got dict at 'state_dict'"),
        ({0: np.zeros(3)}, "state_dict must have names as keys, got 0"),
        (weights() | {"alien_l0": np.zeros(3)}, "got also ['alien_l0']"),
        (weights() | {"weight_ih_l0": np.zeros((12, I))}, "all be float32 or all be float64"),
        (weights() | {"bias_hh_l0": np.zeros(3)}, "bias_hh_l0 of the state_dict must have shape"),
        (
            {k: w for k, w in weights().items() if k != "bias_hh_l0"},
            "must have all biases or none, got no bias_hh_l0",
        ),
        (
            {f"0.{k}": w for k, w in weights().items()}
            | {f"1.{k}": w for k, w in pygru.Linear(7, 1).state_dict().items()},
            "1 must read what 0 gives, K = 4, got one that reads 7",
        ),
    ],
)
def test_what_a_state_dict_cannot_be_is_refused_by_name(source, message):
    with pytest.raises(ValueError) as error:
        from_torch(source)
    assert str(error.value).startswith("from_torch: ")
    assert message in str(error.value)


def test_weights_of_one_reset_variant_do_not_load_into_the_other(tmp_path):
    with pytest.raises(ValueError, match="belong to reset='after', this layer has reset='before'"):
        from_torch(weights(), pygru.GRU(I, H, reset="before"))
    path = tmp_path / "ours.safetensors"
    pygru.save(pygru.GRU(I, H, reset="before"), path)
    with pytest.raises(ValueError, match=r"got one of pygru's own: use pygru\.load"):
        from_torch(path)


def test_wrong_kinds_are_type_errors():
    with pytest.raises(TypeError, match="source must be a torch"):
        from_torch(3)
    with pytest.raises(TypeError, match="into must be a module of pygru, got str"):
        from_torch(weights(), "gru")


def test_broken_safetensors_files_are_refused_by_name(tmp_path):
    good = save_safetensors(tmp_path / "gru.safetensors", weights(), {"format": "pt"})
    assert_refused_or_read(from_torch, good, range(200), where="from_torch")


def test_a_header_that_claims_more_than_there_is_takes_no_memory(tmp_path):
    path = tmp_path / "claim.safetensors"
    for shape, offsets in (([2**40], [0, 2**42]), ([2**62, 2**62], [0, 0]), ([-1], [0, 4])):
        entry = {"weight_ih_l0": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
        header = json.dumps(entry).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
        with pytest.raises(ValueError, match=f"from_torch: {path}: not a readable safetensors"):
            from_torch(path)


# With torch


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["GRU", "tanh", "relu"])
def test_recurrent_layers_come_and_go_bit_for_bit(
    kind, num_layers, bidirectional, bias, dtype, torch, rng
):
    options = {"bias": bias, "bidirectional": bidirectional, "batch_first": bias}
    cls = torch.nn.GRU if kind == "GRU" else torch.nn.RNN
    options |= {} if kind == "GRU" else {"nonlinearity": kind}
    theirs = cls(I, H, num_layers, dtype=getattr(torch, dtype.name), **options)
    ours = from_torch(theirs)
    assert ours.batch_first is bias
    back = to_torch(ours)
    assert type(back) is cls
    assert repr(back) == repr(theirs)
    for name, w in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], w)
        assert np.array_equal(ours.params[name], w.numpy())
    x = rng.standard_normal((5, 7, I)).astype(dtype)
    with torch.no_grad():
        y_t, h_nt = theirs(torch.from_numpy(x))
    y, h_n = ours(x)
    assert_close(y, y_t, "interop", "y")
    assert_close(h_n, h_nt, "interop", "h_n")


def everything():
    """Return a model with one of each module that PyTorch has an equal of."""
    return pygru.Sequential(
        pygru.Embedding(9, I, rng=0), pygru.Dropout(0.1, rng=0),
        pygru.GRU(I, H, 2, batch_first=True, bidirectional=True, dropout=0.2, rng=0),
        pygru.LayerNorm(2 * H, eps=1e-3), pygru.Tanh(),
        pygru.RNN(2 * H, H, batch_first=True, nonlinearity="relu", rng=1), pygru.ReLU(),
        pygru.LastStep(), pygru.Sigmoid(), pygru.Linear(H, 2, bias=False, rng=2), pygru.Softmax(),
    )  # fmt: skip


@pytest.mark.parametrize("pooling", [pygru.LastStep, pygru.BothEnds, pygru.MeanOverTime])
def test_poolings_are_the_same_function_there(pooling, torch, rng):
    for batch_first in (False, True):
        ours = pooling(batch_first=batch_first)
        x = rng.standard_normal((5, 3, 4))
        assert_close(ours(x), to_torch(ours)(torch.from_numpy(x)), "interop")
        assert repr(from_torch(to_torch(ours))) == repr(ours)


def test_a_whole_model_comes_and_goes(torch, capsys, tmp_path):
    model = everything()
    theirs = to_torch(model)
    assert not any(module.training for module in theirs.modules())  # as model(x) is
    assert list(theirs.state_dict()) == list(model.state_dict())
    again = from_torch(theirs, check=True)
    assert repr(again) == repr(model)
    assert np.array_equal(again.flat_params, model.flat_params)
    out = capsys.readouterr().out
    assert out.startswith("from_torch: largest absolute difference to torch ")
    assert float(out.rpartition(" ")[2]) < TOLERANCES["interop"]["float32"]
    x = torch.from_numpy(np.arange(6).reshape(2, 3))
    buffer = io.BytesIO()
    torch.save(theirs, buffer)  # the whole module, classes by name
    buffer.seek(0)
    for same in (copy.deepcopy(theirs), torch.load(buffer, weights_only=False)):
        assert torch.equal(same.eval()(x), theirs.eval()(x))
    torch.save(theirs.state_dict(), tmp_path / "model.pt")
    empty = pygru.load(_saved(model, tmp_path))
    empty.flat_params[:] = 0
    from_torch(tmp_path / "model.pt", empty, check=True)
    assert np.array_equal(empty.flat_params, model.flat_params)


def _saved(model, folder):
    model.save(folder / "model.safetensors")
    return folder / "model.safetensors"


def test_nested_rows_are_one_row(torch):
    nn = torch.nn
    relu = nn.ReLU()  # in two places
    twice = from_torch(nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 2), relu), check=True)
    assert [type(m).__name__ for m in twice] == ["Linear", "ReLU", "Linear", "ReLU"]
    theirs = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    model = from_torch(theirs, check=True)
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU", "Linear"]
    assert isinstance(from_torch(nn.Sequential(nn.GRU(3, 4)), check=True), pygru.Sequential)


def test_check_runs_layers_after_a_recurrent_one_and_half_precision(torch, capsys):
    """PyTorch's Sequential cannot run the first, and half precision does not take our input."""
    nn = torch.nn
    row = nn.Sequential(nn.GRU(3, 4), nn.Sequential(nn.RNN(4, 4), nn.Tanh()), nn.Linear(4, 2))
    for theirs in (row, nn.GRU(3, 4, dtype=torch.float16), nn.GRU(3, 4, dtype=torch.bfloat16)):
        dtype = next(theirs.parameters()).dtype
        from_torch(theirs, check=True)
        assert theirs.training
        assert next(theirs.parameters()).dtype == dtype
    assert capsys.readouterr().out.count("largest absolute difference to torch") == 3


def test_check_finds_what_is_wrong(torch):
    theirs = torch.nn.Linear(I, H)
    theirs.register_forward_hook(lambda _module, _x, y: 2 * y)
    with pytest.raises(ValueError, match="from_torch: the imported model must give what torch"):
        from_torch(theirs, check=True)


def test_check_without_torch_says_so(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    from_torch(weights(), check=True)
    assert capsys.readouterr().out == "from_torch: not checked, torch is not installed\n"


def test_modules_without_an_equal_are_refused_by_name(torch):
    nn = torch.nn
    for module, message in (
        (nn.BatchNorm1d(2), "must be a module that pygru has, got BatchNorm1d"),
        (nn.LSTM(2, 3), "must be a module that pygru has, got LSTM"),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), "module 1 must be .*, got GELU"),
        (nn.Softmax(dim=0), r"got Softmax\(dim=0\)"),
        (nn.LayerNorm((2, 3)), "must normalise the last axis alone"),
        (
            nn.Sequential(nn.Linear(2, 3), nn.GRUCell(3, 4)),
            "module 1 .GRUCell. must not be in a row",
        ),
        (
            nn.Sequential(nn.LazyLinear(3)),
            "module 0 must be a module that pygru has, got LazyLinear",
        ),
        (nn.Embedding(2, 3, max_norm=1.0), "must have max_norm=None, got 1.0"),
        (nn.Linear(2, 3, dtype=torch.complex64), "real numbers, got complex64 at 'weight'"),
    ):
        with pytest.raises(ValueError, match=message):
            from_torch(module)
    with pytest.raises(ValueError, match="into must be None for a module"):
        from_torch(nn.Linear(2, 3), pygru.Linear(2, 3))
    with pytest.raises(ValueError, match="to_torch: reset must be 'after'"):
        to_torch(pygru.Sequential(pygru.GRU(I, H, reset="before")))


def test_half_precision_is_read_as_single(torch):
    for half in (torch.float16, torch.bfloat16):
        theirs = torch.nn.GRU(I, H, dtype=half)
        gru = from_torch(theirs)
        assert gru.dtype == np.float32
        assert torch.equal(torch.from_numpy(gru.params["bias_ih_l0"]), theirs.bias_ih_l0.float())


def test_a_pt_file_gives_the_same_weights(torch, tmp_path):
    theirs = torch.nn.GRU(I, H, 2)
    torch.save(theirs.state_dict(), tmp_path / "gru.pt")
    gru = from_torch(tmp_path / "gru.pt", check=True)
    for name, w in theirs.state_dict().items():
        assert np.array_equal(gru.params[name], w.numpy())


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pt_file_that_is_no_state_dict_is_refused_and_runs_nothing(torch, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "model.pt"
    for content, message in (
        (torch.nn.GRU(I, H), "got 'torch.nn.modules.rnn GRU' in its pickle"),
        ({"weight": Evil(open, str(marker), "w")}, "got 'io open' in its pickle"),
        ({"weight": Evil(bytearray, 2**40)}, "bytearray' in its pickle"),
        ([torch.zeros(3)], "must hold a state_dict, got list"),
        ({"weight": torch.zeros(1).expand(2**30, 2)}, "must hold the elements it shows"),
        ({"weight": "text"}, "real numbers, got str at 'weight'"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError) as error:
            from_torch(path)
        assert str(error.value).startswith(f"from_torch: {path}: ")
        assert message in str(error.value)
    path.write_bytes(pickle.dumps({"weight": Evil(open, str(marker), "w")}))
    with pytest.raises(ValueError, match="got a bare pickle"):
        from_torch(path)
    assert not marker.exists()


def test_a_zip_that_unfolds_is_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"]" * 10**7)
    with pytest.raises(ValueError, match="members must be stored without compression"):
        from_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"]" * 10**6)
    with pytest.raises(ValueError, match=r"data\.pkl of at most 65536 bytes, got 1000000"):
        from_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(2000):
            archive.writestr(str(i), b"")
    with pytest.raises(ValueError, match="got one of 2000 members"):
        from_torch(path)


def test_broken_pt_files_are_refused_by_name(torch, tmp_path):
    torch.save(torch.nn.GRU(I, H).state_dict(), tmp_path / "gru.pt")
    assert_refused_or_read(from_torch, tmp_path / "gru.pt", range(200), where="from_torch")


def test_modules_of_one_shape_do_not_share_what_fits_one_of_them(tmp_path):
    shapes = {"a.weight": (4, 4), "a.bias": (4,), "b.weight": (5, 4), "b.bias": (5,)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    path = save_safetensors(tmp_path / "two.safetensors", arrays)
    into = pygru.Sequential(pygru.Linear(4, 4, init="zeros"), pygru.Linear(4, 4, init="zeros"))
    with pytest.raises(ValueError, match="into must have modules of the names and shapes of a, b"):
        from_torch(path, into=into)
    assert not into.flat_params.any()
