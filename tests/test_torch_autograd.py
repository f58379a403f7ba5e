# SPDX-License-Identifier: MIT
"""What autograd lets programs do with torch.nn.GRU and RNN they can do with pygru's, on the tensors
themselves and with no more threads than either library may use.
"""

from __future__ import annotations

import copy
import importlib

import pytest
from dropin import B, H, I, T, assert_same, loss_of, pair, torch

import pygru

pytestmark = pytest.mark.usefixtures("torch_afresh")


def gradients_after(module, use):
    """The gradients of x and the parameters after ``use(module, x)`` has gone backward."""
    module = copy.deepcopy(module)
    x = torch.linspace(-2, 2, T * B * I, dtype=torch.float64).view(T, B, I).requires_grad_()
    use(module, x)
    return [x.grad, *(p.grad for p in module.parameters())]


def write_to_the_outputs(module, x):
    y, h_n = module(x)
    y[1:].relu_()
    h_n.mul_(2)
    loss_of((y, h_n)).backward()


def go_backward_twice(module, x):
    loss = loss_of(module(x))
    loss.backward(retain_graph=True)
    loss.backward()


def use_one_output(which):
    return lambda module, x: loss_of(module(x)[which]).backward()


def sum_without_weights(module, x):  # dy is one number with strides of 0
    module(x)[0].sum().backward()


def give_strided_views(module, x):
    h_0 = torch.linspace(-1, 1, 4 * B * H).to(x).view(H, B, 4).transpose(0, 2)
    y, _ = module(x.permute(2, 0, 1).contiguous().permute(1, 2, 0), h_0)
    loss_of(y[::2, 1:]).backward()


def freeze_some(module, x):
    module.weight_ih_l0.requires_grad_(False)
    module.bias_hh_l1_reverse.requires_grad_(False)
    loss_of(module(x.detach())).backward()


def freeze_all(module, x):
    loss_of(module.requires_grad_(False)(x)).backward()


def checkpoint(reentrant):
    def use(module, x):
        run = torch.utils.checkpoint.checkpoint
        loss_of(run(lambda x: module(x), x, use_reentrant=reentrant)).backward()

    return use


def keep_saved_tensors_elsewhere(module, x):
    with torch.autograd.graph.save_on_cpu():
        y = module(x)[0]
    loss_of(y).backward()


def call_with_other_parameters(module, x):
    doubled = {name: 2 * p for name, p in module.named_parameters()}
    loss_of(torch.func.functional_call(module, doubled, (x,))).backward()


def prune(module, x):
    torch.manual_seed(1)
    torch.nn.utils.prune.random_unstructured(module, "weight_hh_l0", 0.5)
    loss_of(module(x)).backward()


def reparametrize(module, x):
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    loss_of(module(x)).backward()


@pytest.mark.parametrize(
    "use",
    [
        write_to_the_outputs, go_backward_twice, use_one_output(0), use_one_output(1),
        sum_without_weights, give_strided_views, freeze_some, freeze_all, checkpoint(True),
        checkpoint(False), keep_saved_tensors_elsewhere, call_with_other_parameters, prune,
        reparametrize,
    ],
)  # fmt: skip
def test_what_autograd_lets_users_do_works_here(use, kernel_calls):
    importlib.import_module("torch.utils.checkpoint")
    importlib.import_module("torch.nn.utils.prune")
    theirs, ours = pair()
    assert_same(gradients_after(ours, use), gradients_after(theirs, use))
    assert {name for name, *_ in kernel_calls} == {"forward", "backward"}


@pytest.mark.parametrize("batch_first", [False, True])
def test_changing_the_input_before_backward_is_an_error(batch_first):
    _, ours = pair(batch_first=batch_first)
    x = torch.randn(T, B, I, dtype=torch.float64)
    loss = loss_of(ours(x))
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("view", [
    lambda x: x,
    lambda x: x[1:, ::2],
    lambda x: x[..., 1:],
    lambda x: x[:1].expand(T, B, I),
])  # fmt: skip
def test_the_kernels_read_and_write_the_tensors_themselves(view, kernel_calls):
    x = view(torch.randn(T, B, I))
    module = pygru.torch.GRU(x.shape[-1], H)
    y, _ = module(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    (_, (_, x_, _, [run]), _), (_, (_, _, _, [backward_run]), _) = kernel_calls
    given = [x, module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0, y, dy]
    used = [x_, run[1], run[2], run[3], run[6], backward_run[6]]
    for tensor, array in zip(given, used, strict=True):
        assert array.ctypes.data == tensor.data_ptr()
        assert array.strides == tuple(tensor.itemsize * s for s in tensor.stride())


def test_a_call_uses_no_more_threads_than_pytorch_or_pygru_may(kernel_calls):
    before = pygru.get_num_threads()
    gru, x = pygru.torch.GRU(I, H), torch.randn(T, B, I)
    try:
        for theirs, ours in ((1, 3), (2, 3), (2, 2), (3, 1)):
            torch.set_num_threads(theirs)
            pygru.set_num_threads(ours)
            gru(x)[0].sum().backward()
            assert {threads for *_, threads in kernel_calls} == {min(theirs, ours)}
            assert pygru.get_num_threads() == ours
            kernel_calls.clear()
    finally:
        pygru.set_num_threads(before)
