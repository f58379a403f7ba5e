# SPDX-License-Identifier: MIT
"""pygru.torch.GRU and RNN are torch.nn.GRU and RNN: whatever a program does with the one, it can do
with the other, and gets the same.

`theirs` is PyTorch's module, `ours` a copy of it after `accelerate`; a `program` takes one of them.
"""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path

import numpy as np
import pytest
from dropin import (
    FORMS,
    LENGTHS,
    MODULES,
    B,
    H,
    I,
    T,
    accelerated_model,
    assert_same,
    loss_of,
    pack,
    pair,
    torch,
)
from tolerances import assert_close

import pygru

pytestmark = pytest.mark.usefixtures("torch_afresh")


# The same numbers


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", MODULES)
def test_outputs_and_every_gradient_are_pytorchs(kind, num_layers, bidirectional, bias, form):
    base, options = MODULES[kind]
    shapes = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    batch_first = "batch-first" in form
    theirs, ours = pair(base, batch_first=batch_first, **shapes, **options)
    x = torch.randn(T, B, I, dtype=torch.float64)
    h_0 = torch.randn(num_layers * (1 + bidirectional), B, H, dtype=torch.float64)
    if form == "unbatched":
        h_0 = h_0[:, 0]
    for hx in (None, h_0):
        found = []
        for module in (ours, theirs):
            module.zero_grad()
            leaf = x.clone().requires_grad_()
            start = None if hx is None else hx.clone().requires_grad_()
            result = module(FORMS[form](leaf, batch_first), start)
            loss_of(result).backward()
            gradients = [leaf.grad, None if start is None else start.grad]
            found.append([result, gradients, [p.grad for p in module.parameters()]])
        assert type(found[0][0][0]) is type(found[1][0][0])
        assert_same(*found)


def test_float32_is_pytorchs_too():
    theirs, ours = pair(dtype=torch.float32)
    x = torch.randn(T, B, I, requires_grad=True)
    assert_same(ours(x), theirs(x))
    gradients = [torch.autograd.grad(loss_of(m(x)), [x, *m.parameters()]) for m in (ours, theirs)]
    assert_same(*gradients)


def test_gradcheck_is_clean():
    _, ours = pair(hidden_size=3)
    x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
    h_0 = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    parameters = tuple(ours.parameters())
    assert torch.autograd.gradcheck(lambda x, h_0, *_: ours(x, h_0), (x, h_0, *parameters))
    assert torch.autograd.gradcheck(lambda x: ours(pack(x, [3, 2]))[0].data, (x,))


def test_dropout_draws_what_pytorch_draws():
    theirs, ours = pair(dropout=0.4, num_layers=3)
    x = torch.randn(T, B, I, dtype=torch.float64)
    for given in (x, pack(x, LENGTHS, enforce_sorted=False)):
        found = []
        for module in (ours, theirs):
            torch.manual_seed(1)
            found.append(module(given))
        assert_same(*found)
    assert_same(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_a_gradient_the_same_bits_and_no_graph(mode):
    _, ours = pair()
    x = torch.randn(T, B, I, dtype=torch.float64)
    with mode():
        y, h_n = ours(x)
    assert not y.requires_grad and not h_n.requires_grad
    assert torch.equal(y, ours(x)[0]) and torch.equal(h_n, ours(x)[1])


def test_an_accelerated_model_trains_to_the_same_loss_curve():
    theirs = accelerated_model(torch.nn.GRU)
    ours = pygru.torch.accelerate(copy.deepcopy(theirs))
    x = torch.randn(100, 8, 9, I)
    curves = []
    for model in (ours, theirs):
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        curve = []
        for batch in x:
            loss = (model(batch) - batch.sum((1, 2)).unsqueeze(1).tanh()).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            curve.append(loss.item())
        curves.append(np.asarray(curve, np.float32))
    assert curves[1][-10:].mean() < 0.5 * curves[1][:10].mean()
    assert_close(*curves, "loss curve")


# The same module


def test_accelerate_keeps_the_objects_and_restore_undoes_it():
    class Special(torch.nn.GRU):
        """Somebody's own, with perhaps another forward."""

    model = torch.nn.ModuleList([torch.nn.GRU(I, H), torch.nn.ModuleList([torch.nn.RNN(I, H)])])
    model.extend([torch.nn.LSTM(I, H), Special(I, H)])
    modules, parameters = [*model.modules()], [*model.parameters()]
    classes = [type(module) for module in modules]
    assert pygru.torch.accelerate(pygru.torch.accelerate(model)) is model
    assert type(model[0]) is pygru.torch.GRU and type(model[1][0]) is pygru.torch.RNN
    assert type(model[2]) is torch.nn.LSTM and type(model[3]) is Special
    assert isinstance(model[0], torch.nn.GRU) and isinstance(model[1][0], torch.nn.RNN)
    for before, after in ((modules, model.modules()), (parameters, model.parameters())):
        assert all(a is b for a, b in zip(before, after, strict=True))
    assert pygru.torch.restore(model) is model
    assert [type(module) for module in model.modules()] == classes


@pytest.mark.parametrize("base", [torch.nn.GRU, torch.nn.RNN])
def test_parametrised_modules_are_accelerated_and_restored(base, monkeypatch):
    utils, fast = torch.nn.utils, getattr(pygru.torch, base.__name__)
    calls, run = [], pygru.torch.run
    monkeypatch.setattr(pygru.torch, "run", lambda *given: calls.append(1) or run(*given))
    theirs = utils.parametrizations.weight_norm(base(I, H, 2), "weight_hh_l1")
    model = torch.nn.ModuleList([copy.deepcopy(theirs)])
    ours, x = pygru.torch.accelerate(model)[0], torch.randn(T, B, I)
    assert not isinstance(theirs, fast) and isinstance(ours, fast)
    for module in (ours, copy.deepcopy(ours)):
        gradients = [
            torch.autograd.grad(loss_of(m(x)), [*m.parameters()]) for m in (module, theirs)
        ]
        assert_same(*gradients)
    utils.parametrizations.weight_norm(ours, "bias_hh_l0", dim=None)
    assert len(calls) == 2
    pygru.torch.restore(pygru.torch.accelerate(model))
    assert not isinstance(ours, fast) and utils.parametrize.is_parametrized(ours, "weight_hh_l1")
    assert_same(ours(x), theirs(x))
    pygru.torch.accelerate(model)
    for name in ("weight_hh_l1", "bias_hh_l0"):
        utils.parametrize.remove_parametrizations(ours, name)
    assert type(ours) is fast and type(pygru.torch.restore(ours)) is base
    assert_same(ours(x), theirs(x))


@pytest.mark.parametrize("function", [pygru.torch.accelerate, pygru.torch.restore])
def test_only_a_module_can_be_accelerated(function):
    with pytest.raises(TypeError, match=rf"{function.__name__}: model must be .*, got dict"):
        function({})


@pytest.mark.parametrize("base", [torch.nn.GRU, torch.nn.RNN])
def test_constructor_state_dict_and_repr_are_pytorchs(base):
    own = getattr(pygru.torch, base.__name__)
    options = {"num_layers": 2, "bias": False, "bidirectional": True, "dtype": torch.float64}
    torch.manual_seed(0)
    theirs = base(I, H, **options)
    torch.manual_seed(0)
    ours = own(I, H, **options)
    assert repr(ours) == repr(theirs)
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))
    theirs.reset_parameters()
    assert ours.load_state_dict(theirs.state_dict()) == theirs.load_state_dict(ours.state_dict())
    with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
        own(I, H, proj_size=2)
    with pytest.raises(ValueError, match="hidden_size must be greater than zero"):
        own(I, 0)


def test_copies_and_whole_saved_modules_compute_the_same():
    _, ours = pair()
    x = torch.randn(T, B, I, dtype=torch.float64)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for other in (copy.deepcopy(ours), torch.load(file, weights_only=False)):
        assert type(other) is pygru.torch.GRU
        assert torch.equal(other(x)[0], ours(x)[0])
        assert not {id(p) for p in other.parameters()} & {id(p) for p in ours.parameters()}


def test_a_subclass_may_wrap_forward():
    class Residual(pygru.torch.GRU):
        def forward(self, x, hx=None):
            y, h_n = super().forward(x, hx)
            return x + y, h_n

    x = torch.randn(T, B, H)
    residual, plain = Residual(H, H), torch.nn.GRU(H, H)
    plain.load_state_dict(residual.state_dict())
    assert_same(residual(x)[0], x + plain(x)[0])


class Encoded(torch.utils.data.Dataset):
    """Runs a GRU in whatever process asks."""

    def __init__(self, gru, x):
        self.gru, self.x = gru, x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        with torch.no_grad():
            return self.gru(self.x[i])[0]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_runs_in_the_workers_of_a_data_loader():
    _, ours = pair(dtype=torch.float32)
    x = torch.randn(4, 50, 8, I)
    with torch.no_grad():
        expected = torch.stack([ours(sample)[0] for sample in x])
    loader = torch.utils.data.DataLoader(Encoded(ours, x), batch_size=2, num_workers=2)
    assert torch.equal(torch.cat([*loader]), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        lambda x, _: (x[0, 0],),
        lambda x, _: (x[..., :2],),
        lambda x, h: (x, h[:3]),
        lambda x, h: (x, h[:, :2]),
        lambda x, h: (x, h[:, 0]),
        lambda x, h: (x[:, 0], h),
        lambda x, _: (x.float(),),
        lambda x, _: (x.long(),),
        lambda x, h: (x, h.float()),
        lambda x, _: (x[:0],),
        lambda x, _: (x.numpy(),),
        lambda *_: (None,),
        lambda x, h: (x, (h, h)),
        lambda x, h: (pack(x, LENGTHS, enforce_sorted=False), h[:, :2]),
        lambda x, _: (pack(x[..., :2], LENGTHS, enforce_sorted=False),),
        lambda x, _: (torch.nn.utils.rnn.PackedSequence(x[:, 0], torch.tensor([4, 4])),),
    ],
)
def test_errors_are_pytorchs_word_for_word(arguments):
    theirs, ours = pair()
    x, h_0 = torch.randn(T, B, I, dtype=torch.float64), torch.randn(4, B, H, dtype=torch.float64)
    raised = []
    for module in (ours, theirs):
        with pytest.raises(Exception) as caught:
            module(*arguments(x, h_0))
        raised.append((caught.type, str(caught.value)))
    assert raised[0] == raised[1]


def test_an_empty_batch_is_an_empty_batch():
    theirs, ours = pair()
    x = torch.zeros(T, 0, I, dtype=torch.float64)
    assert_same(ours(x), theirs(x))


# The page


PAGE = Path(__file__).resolve().parent.parent / "docs" / "torch.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="the source distribution has no docs/")
def test_the_page_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/torch.md", "exec"), names)
