# SPDX-License-Identifier: MIT
"""pygru.torch.GRU and RNN are torch.nn.GRU and RNN: whatever a program does with the one, it can do
with the other, and gets the same.

`theirs` is PyTorch's module, `ours` a copy of it after `accelerate`; a `program` takes one of them.
"""

from __future__ import annotations

import copy
import importlib
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from tolerances import assert_close

import pygru

torch = pytest.importorskip("torch", minversion="2.4")
pytest.importorskip("pygru.torch")
coverage = importlib.import_module("pygru.torch.coverage")
layer = importlib.import_module("pygru.torch.layer")

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


@pytest.fixture(autouse=True)
def _a_fresh_start():
    torch.manual_seed(20140612)
    coverage._said.clear()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@pytest.fixture
def kernel_calls(monkeypatch):
    """The arguments of every call of a kernel, and the threads it was allowed."""
    calls = []

    class Recorder:
        def __getattr__(self, name):
            function = getattr(pygru._core, name)
            if name not in {"forward", "backward"}:
                return function

            def call(*arguments):
                calls.append((name, arguments, pygru.get_num_threads()))
                return function(*arguments)

            return call

    monkeypatch.setattr(layer, "_core", Recorder())
    return calls


# --- The same numbers -----------------------------------------------------------------------------


def loss_of(result):
    """Weighs every element of every output differently."""
    parts = [t for t in tensors_of(result) if t is not None and t.is_floating_point()]
    weights = [torch.linspace(-1, 2, t.numel(), dtype=t.dtype).view(t.shape) for t in parts]
    return sum((w * t).sum() for w, t in zip(weights, parts, strict=True))


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


def accelerated_model(base):
    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = base(I, 16, num_layers=2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(32, 1)

        def forward(self, x):
            return self.head(self.gru(x)[0][:, -1])

    return Tagger()


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


# --- The same module ------------------------------------------------------------------------------


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


# --- The same autograd ----------------------------------------------------------------------------


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


# --- What PyTorch still does ----------------------------------------------------------------------


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


# --- The page -------------------------------------------------------------------------------------


PAGE = Path(__file__).resolve().parent.parent / "docs" / "torch.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="the source distribution has no docs/")
def test_the_page_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/torch.md", "exec"), names)
