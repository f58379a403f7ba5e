# SPDX-License-Identifier: MIT
"""What the kernels do not do, PyTorch does: with the same result, and said once."""

from __future__ import annotations

import importlib
import warnings

import pytest
from dropin import (
    LENGTHS,
    B,
    I,
    T,
    accelerated_model,
    assert_same,
    loss_of,
    pack,
    pair,
    torch,
)

import pygru

pytestmark = pytest.mark.usefixtures("torch_afresh")


def second_gradients(prepare):
    def use(module, x):
        y, h_n = module(prepare(x))
        (gradient,) = torch.autograd.grad(loss_of((y, h_n)), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), [x, *module.parameters()])

    return use


def batched_gradients(module, x):
    return torch.autograd.functional.jacobian(lambda x: module(x)[0], x.detach(), vectorize=True)


def half_precision(module, x):
    return module.to(torch.bfloat16)(x.to(torch.bfloat16).detach())[0].float()


def autocast(module, x):
    with torch.autocast("cpu"):
        return module.float()(x.float())[0].float()


def forward_mode(module, x):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        return torch.autograd.forward_ad.unpack_dual(module(dual)[0]).tangent


def functional_transform(module, x):
    return torch.func.grad(lambda x: loss_of(module(x)))(x)


def dispatch_mode(module, x):
    counter = torch.utils.flop_counter.FlopCounterMode(display=False)
    with counter:
        module(x)
    return torch.tensor(float(counter.get_total_flops()))


class Tagged(torch.Tensor):
    """A tensor with a mind of its own."""


def tensor_subclass(module, x):
    return torch.Tensor(module(x.detach().as_subclass(Tagged))[0].as_subclass(torch.Tensor))


def other_device(module, x):
    return torch.tensor(module.to("meta")(x.to("meta"))[0].shape)


def tracing(module, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(module, x.detach())
    return traced(2 * x.detach())


def exporting(module, x):
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = module

        def forward(self, x):
            return self.gru(x)[0]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attributes")
        program = torch.export.export(Wrapped(), (x.detach(),))
    return program.module()(x.detach())


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (second_gradients(lambda x: x), "gradients of gradients"),
        (second_gradients(lambda x: pack(x, LENGTHS, enforce_sorted=False)), "gradients of"),
        (batched_gradients, "gradients of gradients and batched gradients"),
        (half_precision, "dtype torch.bfloat16"),
        (autocast, "autocast"),
        (forward_mode, "forward-mode differentiation"),
        (functional_transform, "torch.func"),
        (dispatch_mode, "a dispatch mode"),
        (tensor_subclass, "Tagged in place of a plain tensor"),
        (other_device, "device meta"),
        (tracing, "tracing and exporting"),
        (exporting, "tracing and exporting"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_pytorch_does_what_the_kernels_do_not_and_says_so_once(use, reason):
    importlib.import_module("torch.utils.flop_counter")
    results = []
    pairs = [pair(), pair()]
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    for theirs, ours in pairs:
        results.append(use(theirs, x))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            assert_same(use(ours, x), results[-1])
        told = [w for w in caught if issubclass(w.category, RuntimeWarning)]
        assert len(told) == (len(results) == 1)
        if told:
            assert f"pygru.torch.GRU: the kernels do not cover {reason}" in str(told[0].message)
            assert told[0].filename == __file__


def test_gradgradcheck_is_clean():
    _, ours = pair(num_layers=1, hidden_size=2)
    x = torch.randn(2, 2, I, dtype=torch.float64, requires_grad=True)
    with pytest.warns(RuntimeWarning, match="gradients of gradients"):
        assert torch.autograd.gradgradcheck(lambda x, *_: ours(x), (x, *ours.parameters()))


def test_torch_compile_runs_around_the_kernels(kernel_calls):
    theirs, ours = accelerated_model(torch.nn.GRU), accelerated_model(pygru.torch.GRU)
    ours.load_state_dict(theirs.state_dict())
    compiled = torch.compile(ours, backend="eager")
    for steps in (3, 5):
        gradients = []
        for model in (compiled, theirs):
            x = torch.linspace(-1, 1, 2 * steps * I).view(2, steps, I).requires_grad_()
            model(x).sum().backward()
            gradients.append(x.grad)
        assert_same(*gradients)
        assert len(kernel_calls) == 4  # two layers, forward and backward
        kernel_calls.clear()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripts_and_graphs_hold_pytorchs_module():
    theirs, ours = accelerated_model(torch.nn.GRU), accelerated_model(pygru.torch.GRU)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, T, I)
    graph = torch.fx.symbolic_trace(ours)
    assert_same(graph(x), theirs(x))
    assert_same(torch.jit.script(ours)(x), theirs(x))
    assert "gru" in [node.target for node in graph.graph.nodes if node.op == "call_module"]
