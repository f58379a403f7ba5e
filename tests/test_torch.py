# SPDX-License-Identifier: MIT
"""The conventions are PyTorch's: outputs and every gradient, weights through load_state_dict."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

import pygru

torch = pytest.importorskip("torch")

T, B, I, H = 7, 5, 3, 8  # noqa: E741
LENGTHS = [7, 2, 1, 4, 6]  # packed sequences have no empty ones
LAYERS = {
    "gru": (pygru.GRU, torch.nn.GRU, {}),
    "rnn_tanh": (pygru.RNN, torch.nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (pygru.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
}


def torch_forward(theirs, x, h_0, lengths):
    """Return y and h_n of a torch layer, sequences of unequal length packed."""
    if lengths is None:
        return theirs(x, h_0)
    pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    first = theirs.batch_first
    packed, h_n = theirs(pack(x, lengths, first, enforce_sorted=False), h_0)
    return pad(packed, first, total_length=T)[0], h_n


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("initial", [False, True], ids=["zero", "h_0"])
@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_outputs_and_every_gradient_are_pytorchs(
    kind, num_layers, bidirectional, bias, initial, lengths, rng
):
    ours_class, theirs_class, options = LAYERS[kind]
    options = options | {"bias": bias, "bidirectional": bidirectional, "batch_first": initial}
    theirs = theirs_class(I, H, num_layers, dtype=torch.float64, **options)
    state = {k: rng.uniform(-0.7, 0.7, tuple(v.shape)) for k, v in theirs.state_dict().items()}
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    ours = ours_class(I, H, num_layers, dtype=np.float64, **options)
    ours.load_state_dict(state)
    assert [*ours.state_dict()] == [*theirs.state_dict()]

    D = 1 + bidirectional
    x = rng.standard_normal((B, T, I) if options["batch_first"] else (T, B, I))
    h_0 = rng.standard_normal((num_layers * D, B, H)) if initial else None
    x_t = torch.tensor(x, requires_grad=True)
    h_t = None if h_0 is None else torch.tensor(h_0, requires_grad=True)

    y, h_n, tape = ours.forward(x, h_0, lengths=lengths)
    y_t, h_nt = torch_forward(theirs, x_t, h_t, lengths)
    assert_close(y, y_t.detach(), "torch", "y")
    assert_close(h_n, h_nt.detach(), "torch", "h_n")

    dy, dh_n = rng.standard_normal(y.shape), rng.standard_normal(h_n.shape)
    dx, dh_0 = ours.backward(tape, dy, dh_n)
    ((torch.from_numpy(dy) * y_t).sum() + (torch.from_numpy(dh_n) * h_nt).sum()).backward()
    assert_close(dx, x_t.grad, "torch", "dx")
    if h_t is None:
        assert dh_0 is None
    else:
        assert_close(dh_0, h_t.grad, "torch", "dh_0")
    for name, parameter in theirs.named_parameters():
        assert_close(ours.grads[name], parameter.grad, "torch", name)


def test_a_model_is_pytorchs_model(dtype, rng):
    precision = torch.from_numpy(np.zeros(0, dtype)).dtype
    theirs = torch.nn.Sequential(
        torch.nn.Embedding(11, I), torch.nn.LayerNorm(I), torch.nn.Linear(I, 2)
    ).to(precision)
    ours = pygru.Sequential(
        pygru.Embedding(11, I, dtype=dtype),
        pygru.LayerNorm(I, dtype=dtype),
        pygru.Linear(I, 2, dtype=dtype),
    )
    ours.load_state_dict(theirs.state_dict())
    x = rng.integers(0, 11, (T, B))
    y, tape = ours.forward(x)
    y_t = theirs(torch.from_numpy(x))
    assert_close(y, y_t.detach(), "torch", "y")
    dy = rng.standard_normal(y.shape).astype(dtype)
    ours.backward(tape, dy)
    (torch.from_numpy(dy) * y_t).sum().backward()
    for name, parameter in theirs.named_parameters():
        assert_close(ours.grads[name], parameter.grad, "torch", name)
