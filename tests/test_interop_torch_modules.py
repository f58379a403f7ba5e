# SPDX-License-Identifier: MIT
"""PyTorch's modules that are no layers of sequences: cells, Identity, LayerNorm without weights."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

import pygru
from pygru.interop import from_torch, to_torch

I, H = 3, 4  # noqa: E741


def test_cells_come_and_go(torch, rng):
    nn = torch.nn
    x, h = (rng.standard_normal((5, n)).astype(np.float32) for n in (I, H))
    for cell in (nn.GRUCell(I, H), nn.RNNCell(I, H, bias=False, nonlinearity="relu")):
        expected = cell(torch.from_numpy(x), torch.from_numpy(h)).detach().numpy()
        ours = from_torch(cell)
        assert_close(ours(x, h), expected, "torch")
        again = to_torch(ours)(torch.from_numpy(x), torch.from_numpy(h)).detach().numpy()
        assert np.array_equal(again, expected)
        into = type(ours)(**ours.config())
        from_torch(cell.state_dict(), into=into, check=True)
        assert np.array_equal(into.flat_params, ours.flat_params)


def test_weights_of_a_cell_come_into_a_layer(torch, rng):
    nn, x = torch.nn, torch.from_numpy(rng.standard_normal((7, 5, I)).astype(np.float32))
    for cell, options in ((nn.GRUCell, {}), (nn.RNNCell, {"nonlinearity": "relu"})):
        theirs, h = nn.ModuleDict({"cell": cell(I, H, **options), "head": nn.Linear(H, 2)}), None
        layer = pygru.GRU(I, H) if cell is nn.GRUCell else pygru.RNN(I, H, **options)
        ours = pygru.Sequential(layer, pygru.LastStep(), pygru.Linear(H, 2))
        from_torch(theirs.state_dict(), into=ours, check=True)
        for x_t in x:
            h = theirs["cell"](x_t, h)
        assert_close(ours(x.numpy()), theirs["head"](h).detach().numpy(), "torch")
        alone = type(layer)(**layer.config())
        from_torch(theirs["cell"].state_dict(), into=alone, check=True)
        assert np.array_equal(alone.flat_params, layer.flat_params)
    for other in (pygru.GRU(I, H, reset="before"), pygru.GRUCell(I, H, reset="before")):
        with pytest.raises(ValueError, match="belong to reset='after', this layer has"):
            from_torch(nn.GRUCell(I, H).state_dict(), into=other)


def test_what_does_nothing_and_what_has_no_weights_come_too(torch, rng):
    nn, x = torch.nn, rng.standard_normal((5, I)).astype(np.float32)
    for kind in (torch.float32, torch.float64):
        theirs = nn.Sequential(
            nn.Identity(), nn.Linear(I, H, dtype=kind), nn.LayerNorm(H, elementwise_affine=False),
            nn.Sequential(nn.Identity()), nn.Tanh(),
        )  # fmt: skip
        ours = from_torch(theirs)
        assert [type(module).__name__ for module in ours] == ["Linear", "LayerNorm", "Tanh"]
        given = torch.from_numpy(x).to(kind)
        assert_close(ours(given.numpy()), theirs(given).detach().numpy(), "torch")


def test_a_derived_layer_comes_if_it_computes_as_its_base_does(torch):
    pytest.importorskip("pygru.torch")

    for base in (torch.nn.GRU, torch.nn.RNN, pygru.torch.GRU, pygru.torch.RNN):

        class Named(base):
            pass

        class Doubled(base):
            def forward(self, x):
                y, h_n = super().forward(x)
                return 2 * y, h_n

        from_torch(Named(I, H), check=True)
        replaced = base(I, H)
        replaced.forward = lambda x: x
        for theirs in (Doubled(I, H), torch.nn.Sequential(Doubled(I, H)), replaced):
            with pytest.raises(ValueError, match=r"module( 0)? must be a module that pygru has"):
                from_torch(theirs)


def test_parametrised_modules_come_with_the_weights_that_they_compute(torch, rng):
    nn, reparametrise = torch.nn, torch.nn.utils.parametrizations
    x = rng.standard_normal((7, 5, I)).astype(np.float32)
    for theirs, name in (
        (nn.Linear(I, H), "weight"),
        (nn.GRU(I, H, 2), "weight_hh_l1"),
        (nn.RNN(I, H), "weight_hh_l0"),
    ):
        for function in (reparametrise.weight_norm, reparametrise.spectral_norm):
            function(theirs, name)
        before = {key: w.clone() for key, w in theirs.state_dict().items()}
        for source in (theirs, nn.Sequential(theirs)):
            ours = from_torch(source, check=True)
        assert all(torch.equal(before[key], w) for key, w in theirs.state_dict().items())
        expected = theirs.eval()(torch.from_numpy(x))
        expected = expected[0] if isinstance(expected, tuple) else expected
        y = ours(x)
        assert_close(y, expected.detach().numpy(), "interop")
        assert theirs.parametrizations
        with pytest.raises(ValueError, match="call remove_parametrizations"):
            from_torch(theirs.state_dict(), type(ours[0])(**ours[0].config()))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_only_a_hook_computes_are_refused(torch):
    from torch.nn.utils import prune

    nn, utils = torch.nn, torch.nn.utils
    for theirs in (
        utils.weight_norm(nn.Linear(I, H)),
        utils.spectral_norm(nn.Linear(I, H)),
        utils.weight_norm(nn.GRU(I, H), "weight_hh_l0"),
        prune.l1_unstructured(nn.Linear(I, H), "bias", 0.5),
        prune.l1_unstructured(nn.Embedding(I, H), "weight", 0.5),
        prune.l1_unstructured(nn.GRU(I, H), "weight_hh_l0", 0.5),
    ):
        for source in (theirs, nn.Sequential(theirs), theirs.state_dict()):
            with pytest.raises(ValueError, match=r"got '.*_(g|orig)': call remove_par.* prune"):
                from_torch(source)
    from_torch(prune.remove(theirs, "weight_hh_l0"), check=True)


def test_an_encoder_decoder_is_loaded_half_by_half():
    halves = [pygru.Sequential(pygru.GRU(I, H, rng=seed)) for seed in range(4)]
    model = pygru.EncoderDecoder(*halves[:2], start=np.zeros(I))
    for into, half in zip((model.encoder, model.decoder), halves[2:], strict=True):
        from_torch(half.state_dict(), into=into)
    assert np.array_equal(model.flat_params[: halves[2].flat_params.size], halves[2].flat_params)
    assert np.array_equal(model.decoder.flat_params, halves[3].flat_params)
    with pytest.raises(TypeError, match="load its encoder and its decoder one by one"):
        from_torch(model.state_dict(), into=model)
