# SPDX-License-Identifier: MIT
"""Layers: the public face, gradients by finite differences, errors that leave nothing changed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from tolerances import assert_close, finite_difference

import pygru
from pygru.reference import CELLS

T, B, I, H = 7, 5, 3, 8  # noqa: E741
LENGTHS = [7, 0, 1, 4, 6]
RECURRENT = {
    "gru_after": lambda *a, **k: pygru.GRU(*a, reset="after", **k),
    "gru_before": lambda *a, **k: pygru.GRU(*a, reset="before", **k),
    "rnn_tanh": lambda *a, **k: pygru.RNN(*a, nonlinearity="tanh", **k),
    "rnn_relu": lambda *a, **k: pygru.RNN(*a, nonlinearity="relu", **k),
}


@pytest.fixture(params=RECURRENT)
def cell(request):
    """Every cell."""
    return request.param


def check_gradients(layer, x, rng, lengths=None):
    """Hold backward of a layer against finite differences of sum(dy * y)."""
    state = layer.rng_state()

    def run():
        layer.load_rng_state(state)  # the same dropout masks every time
        return layer.forward(x, lengths=lengths)

    y, tape = run()
    dy = rng.standard_normal(y.shape)
    layer.zero_grad()
    dx = layer.backward(tape, dy)
    targets = {name: (layer.params[name], layer.grads[name]) for name in layer.params}
    if dx is not None:
        targets["x"] = (x, dx)
    for name, (array, gradient) in targets.items():
        expected = finite_difference(lambda: float(np.sum(dy * run()[0])), array)
        assert_close(gradient, expected, "finite differences", f"d{name}")


# The recurrent layers


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_stacks_and_directions_are_the_reference_in_a_row(
    cell, num_layers, bidirectional, lengths, isa, rng
):
    layer = RECURRENT[cell](
        I, H, num_layers, bidirectional=bidirectional, dtype=np.float64, rng=rng
    )
    D = 1 + bidirectional
    x, h_0 = rng.standard_normal((T, B, I)), rng.standard_normal((num_layers * D, B, H))
    y, h_n = layer(x, h_0, lengths=lengths)
    ends = None if lengths is None else np.array(lengths)
    expected = x
    for k in range(num_layers):
        outputs = []
        for d, end in enumerate(("", "_reverse")[:D]):
            parameters = [
                layer.params[f"{kind}_l{k}{end}"]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            y_d, h_d, _ = CELLS[cell].forward(
                expected, h_0[k * D + d], *parameters, lengths=ends, reverse=d == 1
            )
            assert_close(h_n[k * D + d], h_d, "reference", "h_n")
            outputs.append(y_d)
        expected = np.concatenate(outputs, axis=2)
    assert_close(y, expected, "reference", "y")


@pytest.mark.parametrize("lengths", [None, [4, 0, 2]], ids=["full", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
def test_every_gradient_of_a_stack_with_dropout_is_the_finite_difference(
    cell, bidirectional, lengths, rng
):
    layer = RECURRENT[cell](
        2, 3, 2, dropout=0.4, bidirectional=bidirectional, dtype=np.float64, rng=rng
    )
    x = rng.standard_normal((4, 3, 2))
    h_0 = rng.standard_normal((2 * (1 + bidirectional), 3, 3))
    state = layer.rng_state()

    def run():
        layer.load_rng_state(state)
        return layer.forward(x, h_0, lengths=lengths)

    y, h_n, tape = run()
    dy, dh_n = rng.standard_normal(y.shape), rng.standard_normal(h_n.shape)

    def loss():
        y, h_n, _ = run()
        return float(np.sum(dy * y) + np.sum(dh_n * h_n))

    dx, dh_0 = layer.backward(tape, dy, dh_n)
    targets = {name: (layer.params[name], layer.grads[name]) for name in layer.params}
    for name, (array, gradient) in (targets | {"x": (x, dx), "h_0": (h_0, dh_0)}).items():
        expected = finite_difference(loss, array)
        assert_close(gradient, expected, "finite differences", f"{cell}: d{name}")


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
def test_batch_first_and_unbatched_are_views_of_the_same_computation(
    cell, bidirectional, dtype, rng
):
    options = {"bidirectional": bidirectional, "dtype": dtype, "rng": 0}
    time_first = RECURRENT[cell](I, H, 2, **options)
    batch_first = RECURRENT[cell](I, H, 2, batch_first=True, **options)
    x = rng.standard_normal((T, B, I)).astype(dtype)
    h_0 = rng.standard_normal((2 * (1 + bidirectional), B, H)).astype(dtype)
    y, h_n, tape = time_first.forward(x, h_0, lengths=LENGTHS)
    dx, dh_0 = time_first.backward(tape, y, h_n)

    y_b, h_nb, tape = batch_first.forward(x.swapaxes(0, 1), h_0, lengths=LENGTHS)
    dx_b, dh_0b = batch_first.backward(tape, y_b, h_nb)
    assert y_b.flags.c_contiguous
    assert np.array_equal(y_b.swapaxes(0, 1), y)
    assert np.array_equal(h_nb, h_n)
    assert np.array_equal(dx_b.swapaxes(0, 1), dx)
    assert np.array_equal(dh_0b, dh_0)
    assert np.array_equal(batch_first.flat_grads, time_first.flat_grads)

    for layer in (time_first, batch_first):
        y_1, h_n1, tape = layer.forward(x[:, 3], h_0[:, 3], lengths=LENGTHS[3])
        dx_1, dh_01 = layer.backward(tape, y_1, h_n1)
        assert_close(y_1, y[:, 3], "reference", "y")
        assert_close(h_n1, h_n[:, 3], "reference", "h_n")
        assert_close(dx_1, dx[:, 3], "reference", "dx")
        assert_close(dh_01, dh_0[:, 3], "reference", "dh_0")


def test_inference_and_forward_give_the_same_bits(cell, dtype, rng):
    layer = RECURRENT[cell](I, H, 2, bidirectional=True, dtype=dtype, rng=rng)
    x = rng.standard_normal((T, B, I))
    y, h_n = layer(x, lengths=LENGTHS)
    y_f, h_nf, _ = layer.forward(x, lengths=LENGTHS)
    assert y.dtype == h_n.dtype == dtype
    assert np.array_equal(y, y_f)
    assert np.array_equal(h_n, h_nf)


def test_thread_count_does_not_change_a_bit(cell, threads, dtype):
    rng = np.random.default_rng(0)
    layer = RECURRENT[cell](I, 33, 2, bidirectional=True, dtype=dtype, rng=rng)
    x = rng.standard_normal((T, 16, I))

    def everything():
        layer.zero_grad()
        y, h_n, tape = layer.forward(x)
        return y, h_n, *layer.backward(tape, y, h_n)[:1], layer.flat_grads.copy()

    pygru.set_num_threads(1)
    expected = everything()
    pygru.set_num_threads(threads)
    for array, one_thread in zip(everything(), expected, strict=True):
        assert np.array_equal(array, one_thread)


def test_nothing_flows_from_or_into_padding(cell, rng):
    layer = RECURRENT[cell](I, H, 2, bidirectional=True, dtype=np.float64, rng=0)
    x, dy = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, 2 * H))
    y, h_n, tape = layer.forward(x, lengths=LENGTHS)
    dx, _ = layer.backward(tape, dy)
    grads = layer.flat_grads.copy()
    padding = np.arange(T)[:, None] >= np.array(LENGTHS)
    assert not y[padding].any()
    assert not dx[padding].any()

    layer.zero_grad()
    x[padding] = np.nan
    dy[padding] = np.nan
    y_2, h_n2, tape = layer.forward(x, lengths=LENGTHS)
    dx_2, _ = layer.backward(tape, dy)
    assert np.array_equal(y_2, y)
    assert np.array_equal(h_n2, h_n)
    assert np.array_equal(dx_2, dx)
    assert np.array_equal(layer.flat_grads, grads)


@pytest.mark.parametrize("steps, batch", [(0, B), (T, 0), (0, 0)])
def test_zero_steps_and_zero_sequences_give_empty_results(cell, steps, batch):
    layer = RECURRENT[cell](I, H, 2, bidirectional=True)
    h_0 = np.ones((4, batch, H), np.float32)
    y, h_n, tape = layer.forward(np.zeros((steps, batch, I)), h_0)
    assert y.shape == (steps, batch, 2 * H)
    if steps == 0:
        assert np.array_equal(h_n, h_0)
        assert not layer(np.zeros((0, batch, I)))[1].any()
    dx, dh_0 = layer.backward(tape, y, h_n)
    assert dx.shape == (steps, batch, I)
    assert dh_0.shape == h_0.shape
    assert not layer.flat_grads.any()


def test_inputs_of_any_stride_kind_and_real_dtype_are_read_and_never_written(cell, dtype, rng):
    layer = RECURRENT[cell](I, H, dtype=dtype, rng=0)
    values = rng.integers(-3, 4, (T, B, I))
    expected, _ = layer(values.astype(dtype))
    wide = np.zeros((T, 2 * B, 2 * I), dtype)
    wide[:, ::2, ::2] = values
    swapped = np.ascontiguousarray(values.astype(dtype).transpose(2, 1, 0)).transpose(2, 1, 0)
    raw = np.zeros(values.size * dtype.itemsize + 1, np.uint8)
    unaligned = raw[1:].view(dtype).reshape(T, B, I)
    unaligned[...] = values
    forms = {
        "strided": wide[:, ::2, ::2],
        "transposed": swapped,
        "negative strides": values.astype(dtype)[::-1, ::-1].copy()[::-1, ::-1],
        "unaligned": unaligned,
        "other byte order": values.astype(dtype.newbyteorder()),
        "list": values.tolist(),
        **{t: values.astype(t) for t in ("int8", "int64", "float16", "float32", "float64")},
    }
    for form, x in forms.items():
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
        before = np.array(x)
        y, h_n, tape = layer.forward(x)
        dx, _ = layer.backward(tape, y, h_n)
        assert np.array_equal(y, expected), form
        assert y.dtype == dx.dtype == dtype, form
        assert np.array_equal(before, x), form


def test_gradients_add_up_until_they_are_zeroed(cell, rng):
    layer = RECURRENT[cell](I, H, dtype=np.float64, rng=0)
    x = rng.standard_normal((T, B, I))
    y, _, first = layer.forward(x)
    _, _, second = layer.forward(x)
    layer.backward(first, y)
    once = layer.flat_grads.copy()
    layer.backward(second, y)
    assert_close(layer.flat_grads, 2 * once, "rounding")
    layer.zero_grad()
    assert not layer.flat_grads.any()


def test_what_is_not_wanted_is_not_computed(cell, rng):
    layer = RECURRENT[cell](I, H, rng=0)
    y, _, tape = layer.forward(rng.standard_normal((T, B, I)))
    assert layer.backward(tape, y, input_gradient=False) == (None, None)
    assert layer.flat_grads.any()


def test_dropout_acts_between_layers_and_in_forward_only(cell, rng):
    layer = RECURRENT[cell](I, H, 2, dropout=1.0, rng=0)
    plain = RECURRENT[cell](I, H, 2, rng=0)
    x = rng.standard_normal((T, B, I))
    assert np.array_equal(layer(x)[0], plain(x)[0])
    y, h_n, tape = layer.forward(x)
    assert np.array_equal(h_n[0], plain(x)[1][0])  # the layer below is not touched
    assert not np.array_equal(y, plain(x)[0])
    dx, _ = layer.backward(tape, np.ones_like(y))
    assert not dx.any()
    with pytest.warns(UserWarning, match="dropout acts between layers"):
        RECURRENT[cell](I, H, dropout=0.5)


def test_params_and_grads_are_views_of_one_flat_buffer(cell, dtype):
    layer = RECURRENT[cell](I, H, 2, bidirectional=True, dtype=dtype, rng=0)
    G = CELLS[cell].gates
    assert [*layer.params][:5] == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse",
    ]  # fmt: skip
    assert layer.params["weight_ih_l1_reverse"].shape == (G * H, 2 * H)
    assert [*layer.grads] == [*layer.params]
    for arrays, flat in ((layer.params, layer.flat_params), (layer.grads, layer.flat_grads)):
        assert flat.dtype == dtype
        flat[:] = np.arange(flat.size)
        start = 0
        for name, view in arrays.items():
            block = flat[start : start + view.size]
            assert np.shares_memory(view, flat), name
            assert np.array_equal(view.T.ravel(), block), name  # input-major
            start += view.size
        assert start == flat.size


def test_assigning_to_a_parameter_writes_into_the_flat_buffer():
    linear = pygru.Linear(I, H, rng=0)
    linear.params["bias"] = np.ones(H)
    linear.params["bias"] += 1.0
    assert np.array_equal(linear.flat_params[-H:], np.full(H, 2.0))
    with pytest.raises(ValueError, match=r"bias must have shape \(8,\), got \(1,\)"):
        linear.params["bias"] = [1.0]
    with pytest.raises(KeyError):
        linear.params["biases"] = np.ones(H)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_stand_on_their_own(cell, clone, rng):
    layer = RECURRENT[cell](I, H, 2, dropout=0.5, rng=0)
    x = rng.standard_normal((T, B, I))
    other = clone(layer)
    y, _, tape = other.forward(x)
    assert np.array_equal(y, layer.forward(x)[0])
    other.backward(tape, y)
    other.flat_params[:] = 0.0
    assert not any(view.any() for view in other.params.values())
    assert not other(x)[0].any()
    assert layer(x)[0].any()
    assert not layer.flat_grads.any()


# state_dict


def test_state_dict_round_trip_is_exact(cell, dtype):
    one, two = (RECURRENT[cell](I, H, 2, bias=False, dtype=dtype, rng=seed) for seed in (0, 1))
    state = one.state_dict()
    assert all(array.flags.c_contiguous for array in state.values())
    two.load_state_dict(state)
    assert np.array_equal(one.flat_params, two.flat_params)
    state["weight_ih_l0"][:] = 0.0
    assert one.params["weight_ih_l0"].any()


def test_load_state_dict_lists_everything_that_is_wrong_and_changes_nothing():
    gru = pygru.GRU(I, H, rng=0)
    before = gru.flat_params.copy()
    state = {name: np.zeros_like(array) for name, array in gru.params.items()}
    del state["bias_hh_l0"]
    state["weight_ih_l0"] = np.zeros((3 * H, I + 1))
    state["bias_ih_l0"] = np.zeros(3 * H, complex)
    state["alien"] = np.zeros(1)
    with pytest.raises(ValueError) as error:
        gru.load_state_dict(state)
    assert str(error.value) == (
        "GRU.load_state_dict: the weights do not fit: missing bias_hh_l0; unknown alien; "
        "weight_ih_l0 must have shape (24, 3), got (24, 4); "
        "bias_ih_l0 must hold real numbers, got dtype complex128"
    )
    assert np.array_equal(gru.flat_params, before)
    with pytest.raises(TypeError, match="state_dict must map names to arrays, got list"):
        gru.load_state_dict([])


def test_weights_of_one_function_never_pass_silently_for_another():
    after, before = (pygru.GRU(I, H, reset=reset) for reset in ("after", "before"))
    with pytest.raises(ValueError, match="belong to reset='before', this layer has reset='after'"):
        after.load_state_dict(before.state_dict())
    with pytest.raises(ValueError, match="belong to nonlinearity='relu'"):
        pygru.RNN(I, H).load_state_dict(pygru.RNN(I, H, nonlinearity="relu").state_dict())
    with pytest.raises(ValueError, match="reset='after', module 0 has reset='before'"):
        pygru.Sequential(before).load_state_dict(pygru.Sequential(after).state_dict())
    after.load_state_dict(dict(before.state_dict()))  # a plain dict does not say, and is trusted


# Bad input


def run(**changes):
    """Call GRU.forward with one thing changed."""
    arguments = {"x": np.zeros((T, B, I)), "h_0": None, "lengths": None} | changes
    gru = pygru.GRU(I, 64, 2, bidirectional=True)
    return gru.forward(arguments["x"], arguments["h_0"], lengths=arguments["lengths"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"x": np.zeros(3)},
            ValueError,
            "x must have shape (T, B, I) or (T, I) with I = 3, got (3,)",
        ),
        ({"x": np.zeros((7, 5, 4))}, ValueError, "with I = 3, got (7, 5, 4)"),
        ({"x": 1.0}, ValueError, "with I = 3, got ()"),
        (
            {"x": np.zeros((7, 5, 3), complex)},
            TypeError,
            "x must hold real numbers, got dtype complex",
        ),
        (
            {"x": np.zeros((7, 5, 3), object)},
            TypeError,
            "x must hold real numbers, got dtype object",
        ),
        ({"x": [["a"]]}, TypeError, "x must hold real numbers, got dtype <U1"),
        ({"x": [[1.0], [1.0, 2.0]]}, ValueError, "x must be one array, got nested sequences"),
        (
            {"h_0": np.zeros((5, 64))},
            ValueError,
            "h_0 must have shape (L*D, B, H) = (4, 5, 64), got (5, 64)",
        ),
        ({"h_0": np.zeros((4, 4, 64))}, ValueError, "= (4, 5, 64), got (4, 4, 64)"),
        ({"h_0": np.zeros((4, 5, 64), complex)}, TypeError, "h_0 must hold real numbers"),
        ({"lengths": [7, 5]}, ValueError, "lengths must have shape (B,) = (5,), got (2,)"),
        (
            {"lengths": [7, 5, -1, 0, 0]},
            ValueError,
            "lengths must satisfy 0 <= length <= T = 7, got -1 at index 2",
        ),
        ({"lengths": [7, 8, 0, 0, 0]}, ValueError, "got 8 at index 1"),
        ({"lengths": [7.0] * 5}, TypeError, "lengths must hold integers, got dtype float64"),
        ({"lengths": [True] * 5}, TypeError, "lengths must hold integers, got dtype bool"),
        ({"x": np.zeros((7, 3)), "lengths": [7]}, ValueError, "lengths must have shape () = ()"),
        (
            {"x": np.broadcast_to(np.zeros(3, np.float32), (2**29, 2**29, 3))},
            ValueError,
            "the states must fit in one array",
        ),
    ],
)
def test_wrong_arguments_of_forward_are_named(changes, error, message):
    with pytest.raises(error) as caught:
        run(**changes)
    assert str(caught.value).startswith("GRU.forward: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: pygru.GRU(0, 8), ValueError, "GRU: input_size must be an integer >= 1, got 0"),
        (lambda: pygru.GRU(3, 2.5), TypeError, "GRU: hidden_size must be an integer >= 1, got 2.5"),
        (
            lambda: pygru.RNN(3, True),
            TypeError,
            "RNN: hidden_size must be an integer >= 1, got True",
        ),
        (lambda: pygru.GRU(3, 8, -1), ValueError, "num_layers must be an integer >= 1, got -1"),
        (lambda: pygru.GRU(3, 8, dropout=1.5), ValueError, "dropout must be a number from 0 to 1"),
        (lambda: pygru.GRU(3, 8, dropout="x"), TypeError, "dropout must be a number from 0 to 1"),
        (
            lambda: pygru.GRU(3, 8, reset="v1"),
            ValueError,
            "reset must be one of ('after', 'before')",
        ),
        (lambda: pygru.RNN(3, 8, nonlinearity=1), TypeError, "nonlinearity must be one of"),
        (lambda: pygru.GRU(3, 8, dtype=np.float16), TypeError, "float32 or float64, got float16"),
        (lambda: pygru.GRU(3, 8, dtype="nonsense"), TypeError, "dtype must be float32 or float64"),
        (lambda: pygru.GRU(2**40, 2**40), ValueError, "GRU: the parameters must fit in one array"),
        (lambda: pygru.GRU(1, 64, 2**62), ValueError, "GRU: the parameters must fit in one array"),
        (lambda: pygru.Linear(2**40, 2**40), ValueError, "Linear: the parameters must fit"),
        (lambda: pygru.Embedding(2**40, 2**40), ValueError, "Embedding: the parameters must fit"),
        (lambda: pygru.Dropout(-0.1), ValueError, "Dropout: p must be a number from 0 to 1"),
        (lambda: pygru.LayerNorm(3, 0.0), ValueError, "LayerNorm: eps must be above 0, got 0.0"),
    ],
)
def test_wrong_arguments_of_constructors_are_named(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_wrong_gradient_leaves_tape_and_grads_as_they_were(cell, batch_first, rng):
    layer = RECURRENT[cell](I, H, 2, batch_first=batch_first, rng=0)
    y, h_n, tape = layer.forward(rng.standard_normal((T, B, I)))
    name = type(layer).__name__
    with pytest.raises(ValueError) as error:
        layer.backward(tape, y[1:])
    assert str(error.value) == (
        f"{name}.backward: dy must have the shape of y, (7, 5, 8), got (6, 5, 8)"
    )
    with pytest.raises(TypeError, match="dy must hold real numbers"):
        layer.backward(tape, y.astype(complex))
    with pytest.raises(ValueError, match=rf"{name}.backward: dh_n must have shape \(L\*D, B, H\)"):
        layer.backward(tape, y, h_n[:1])
    assert not layer.flat_grads.any()
    layer.backward(tape, y, h_n)
    assert layer.flat_grads.any()


def test_a_tape_serves_once_and_its_own_module_only(rng):
    gru, other = pygru.GRU(I, H), pygru.GRU(I, H)
    y, _, tape = gru.forward(rng.standard_normal((T, B, I)))
    with pytest.raises(ValueError, match="tape must come from forward of the same module"):
        other.backward(tape, y)
    with pytest.raises(TypeError, match="calling the module is inference and makes none"):
        gru.backward(None, y)
    gru.backward(tape, y)
    grads = gru.flat_grads.copy()
    with pytest.raises(RuntimeError, match="tape was already used by a backward"):
        gru.backward(tape, y)
    assert np.array_equal(gru.flat_grads, grads)


# The other layers


@pytest.mark.parametrize("shape", [(I,), (B, I), (T, B, I), (0, I)], ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
def test_linear_works_along_the_last_axis_of_anything(shape, bias, isa, dtype, rng):
    linear = pygru.Linear(I, H, bias, dtype=dtype, rng=rng)
    x = rng.standard_normal(shape).astype(dtype)
    y, tape = linear.forward(x)
    W, b = linear.params["weight"], linear.params["bias"] if bias else 0.0
    assert_close(y, x @ W.T + b, "reference", "y")
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = linear.backward(tape, dy)
    rows, d_rows = x.reshape(-1, I), dy.reshape(-1, H)
    assert_close(dx, dy @ W, "reference", "dx")
    assert_close(linear.grads["weight"], d_rows.T @ rows, "reference", "dW")
    if bias:
        assert_close(linear.grads["bias"], d_rows.sum(axis=0), "reference", "db")
    _, tape = linear.forward(x)
    assert linear.backward(tape, dy, input_gradient=False) is None


def test_gradients_of_the_other_layers_are_the_finite_differences(rng):
    x = rng.standard_normal((4, 3, 5))
    f64 = {"dtype": np.float64}
    for layer in (
        pygru.Linear(5, 2, rng=rng, **f64),
        pygru.LayerNorm(5, **f64),
        pygru.Dropout(0.4, rng=0),
        pygru.LastStep(),
        pygru.LastStep(batch_first=True),
        pygru.MeanOverTime(),
        pygru.MeanOverTime(batch_first=True),
        pygru.ReLU(),
        pygru.Sigmoid(),
        pygru.Softmax(),
        pygru.Tanh(),
    ):
        layer.flat_params[:] = rng.standard_normal(layer.flat_params.size)
        check_gradients(layer, x, rng)
        if layer.batch_first is not None:
            check_gradients(layer, x[:, 0].copy(), rng)
            lengths = [4, 0, 2] if not layer.batch_first else [3, 0, 2, 1]
            check_gradients(layer, x, rng, lengths)
    for layer in (pygru.BothEnds(), pygru.BothEnds(batch_first=True)):
        lengths = [4, 0, 2] if not layer.batch_first else [3, 0, 2, 1]
        check_gradients(layer, x[..., :4].copy(), rng)
        check_gradients(layer, x[..., :4].copy(), rng, lengths)
    for layer in (pygru.RepeatVector(3), pygru.RepeatVector(3, batch_first=True)):
        check_gradients(layer, x[0], rng)
        check_gradients(layer, x[0, 0], rng)
    table = pygru.Embedding(6, 4, rng=rng, **f64)
    check_gradients(table, np.array([[0, 3, 3], [5, 0, 3]]), rng)


def test_embedding_looks_up_rows_and_its_gradient_touches_no_other():
    table = pygru.Embedding(6, 4, rng=0)
    x = np.array([[1, 4], [4, 4]], np.uint8)
    y, tape = table.forward(x)
    assert np.array_equal(y, table.params["weight"][x.astype(int)])
    x[:] = 0  # the tape has its own copy
    assert table.backward(tape, np.ones_like(y)) is None
    assert table.grads["weight"][:, 0].tolist() == [0.0, 1.0, 0.0, 0.0, 3.0, 0.0]
    for wrong, error in (([6], ValueError), ([-1], ValueError), ([0.0], TypeError)):
        with pytest.raises(error, match=r"Embedding.forward: x must hold integers"):
            table(wrong)
    assert table(np.zeros((0, 3), int)).shape == (0, 3, 4)


@pytest.mark.parametrize("rows", [1, 3, 300, 70_000])
def test_the_gradient_of_an_embedding_adds_up_however_often_a_row_occurs(rows, rng):
    table = pygru.Embedding(rows, 2, dtype=np.float64, init="zeros")
    x = rng.integers(0, rows, (50, 4))
    y, tape = table.forward(x)
    dy = rng.standard_normal(y.shape)
    table.backward(tape, dy)
    expected = np.zeros((rows, 2))
    np.add.at(expected, x, dy)
    assert_close(table.grads["weight"], expected, "reference", "dW")


def test_dropout_keeps_the_mean_and_draws_from_its_own_generator():
    x = np.ones(100_000, np.float32)
    y, _ = pygru.Dropout(0.3, rng=0).forward(x)
    assert y.mean() == pytest.approx(1.0, abs=0.01)
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert np.array_equal(pygru.Dropout(0.3, rng=0).forward(x)[0], y)
    assert y.dtype == np.float32


def test_last_step_and_mean_over_time_end_where_each_sequence_ends(rng):
    x = rng.standard_normal((T, B, I))
    last, mean = pygru.LastStep()(x, lengths=LENGTHS), pygru.MeanOverTime()(x, lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        own = x[:length, b]
        assert_close(last[b], own[-1] if length else np.zeros(I), "rounding")
        assert_close(mean[b], own.mean(axis=0) if length else np.zeros(I), "rounding")
    for pool in (pygru.LastStep, pygru.MeanOverTime):
        swapped = pool(batch_first=True)(x.swapaxes(0, 1), lengths=LENGTHS)
        assert_close(swapped, pool()(x, lengths=LENGTHS), "rounding")
        assert pool()(x[:, 0]).shape == (I,)
        assert not pool()(np.zeros((0, B, I))).any()
        with pytest.raises(ValueError, match=rf"{pool.__name__}.forward: x must have shape"):
            pool()(np.zeros(3))


def test_last_step_is_the_final_state_of_one_direction(cell, rng):
    layer = RECURRENT[cell](I, H, rng=0)
    y, h_n = layer(rng.standard_normal((T, B, I)), lengths=LENGTHS)
    assert np.array_equal(pygru.LastStep()(y, lengths=LENGTHS), h_n[0])


def test_layer_norm_gives_zero_mean_and_unit_variance(rng):
    norm = pygru.LayerNorm(64, dtype=np.float64)
    y = norm(5.0 + 3.0 * rng.standard_normal((T, B, 64)))
    assert_close(y.mean(axis=-1), np.zeros((T, B)), "reference")
    assert y.std(axis=-1) == pytest.approx(1.0, abs=1e-5)
