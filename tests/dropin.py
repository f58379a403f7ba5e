# SPDX-License-Identifier: MIT
"""What the tests of pygru.torch share: pairs of modules, and when two results are the same.

`theirs` is PyTorch's module, `ours` a copy of it after `accelerate`.
"""

from __future__ import annotations

import copy

import pytest
from tolerances import assert_close

import pygru

torch = pytest.importorskip("torch", minversion="2.4")
pytest.importorskip("pygru.torch")

pack = torch.nn.utils.rnn.pack_padded_sequence

T, B, I, H = 7, 4, 3, 5  # noqa: E741
LENGTHS = [3, 7, 1, 4]
MODULES = {
    "gru": (torch.nn.GRU, {}),
    "rnn_tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
}
FORMS = {
    "unbatched": lambda x, _: x[:, 0],
    "time-first": lambda x, _: x,
    "batch-first": lambda x, _: x.transpose(0, 1),
    "equal-lengths": lambda x, first: pack(x.transpose(0, 1) if first else x, [T] * B, first),
    "packed": lambda x, _: pack(x, sorted(LENGTHS, reverse=True)),
    "packed-unsorted": lambda x, _: pack(x, LENGTHS, enforce_sorted=False),
    "packed-batch-first": lambda x, _: pack(x.transpose(0, 1), LENGTHS, True, enforce_sorted=False),
}


def pair(base=torch.nn.GRU, dtype=torch.float64, **options):
    """PyTorch's module and ours, with equal weights."""
    sizes = {"input_size": I, "hidden_size": H, "num_layers": 2, "bidirectional": True}
    theirs = base(**(sizes | options), dtype=dtype)
    return theirs, pygru.torch.accelerate(copy.deepcopy(theirs))


def tensors_of(result):
    """Every tensor in a nest of tuples and packed sequences."""
    if result is None or isinstance(result, torch.Tensor):
        return [result]
    return [tensor for part in result for tensor in tensors_of(part)]


def assert_same(ours, theirs):
    ours, theirs = tensors_of(ours), tensors_of(theirs)
    assert len(ours) == len(theirs)
    for k, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        assert (our is None) == (their is None), k
        if our is None:
            continue
        assert our.dtype is their.dtype and our.requires_grad == their.requires_grad, k
        if not our.is_floating_point():
            assert torch.equal(our, their)
            continue
        assert_close(our.detach().numpy(), their.detach().numpy(), "torch", str(k))
        strides = zip(our.shape, our.stride(), their.stride(), strict=True)
        assert all(a == b for n, a, b in strides if n > 1), k


def loss_of(result):
    """Weighs every element of every output differently."""
    parts = [t for t in tensors_of(result) if t is not None and t.is_floating_point()]
    weights = [torch.linspace(-1, 2, t.numel(), dtype=t.dtype).view(t.shape) for t in parts]
    return sum((w * t).sum() for w, t in zip(weights, parts, strict=True))


def accelerated_model(base):
    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = base(I, 16, num_layers=2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(32, 1)

        def forward(self, x):
            return self.head(self.gru(x)[0][:, -1])

    return Tagger()
