# SPDX-License-Identifier: MIT
"""Recurrent layers: the public face, gradients by finite differences, parameters by name."""

from __future__ import annotations

import copy
import operator
import pickle

import numpy as np
import pytest
from layer_problems import LENGTHS, RECURRENT, B, H, I, T
from tolerances import assert_close, finite_difference

import pygru
from pygru.reference import CELLS


@pytest.fixture(params=RECURRENT)
def cell(request):
    """Every cell."""
    return request.param


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


@pytest.mark.parametrize("shape", [(1, B, I), (T, 1, I), (1, 1, I), (0, B, I)])
def test_the_stride_of_an_axis_without_a_second_element_means_nothing(cell, dtype, shape, rng):
    layer = RECURRENT[cell](I, H, dtype=dtype, rng=0)
    x = rng.standard_normal(shape).astype(dtype)
    strides = [s if n > 1 else s + 1 for n, s in zip(shape, x.strides, strict=True)]
    odd = np.lib.stride_tricks.as_strided(x, strides=strides)
    y, h_n, tape = layer.forward(odd)
    dx, _ = layer.backward(tape, y, h_n)
    assert y.shape == (*shape[:2], H)
    assert dx.shape == shape
    assert np.array_equal(y, layer(x)[0])


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


def test_weights_that_change_places_are_not_read_after_they_are_written():
    gru = pygru.GRU(I, H, bidirectional=True, rng=0)
    before = gru.state_dict()
    gru.load_state_dict({
        name: gru.params[name.removesuffix("_reverse") if "_reverse" in name else f"{name}_reverse"]
        for name in gru.params
    })  # fmt: skip
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        assert np.array_equal(gru.params[name], before[f"{name}_reverse"])
        assert np.array_equal(gru.params[f"{name}_reverse"], before[name])


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
    with pytest.raises(TypeError, match="state_dict must map names to values, got list"):
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


def test_a_weight_that_the_dtype_has_no_room_for_is_named():
    linear = pygru.Linear(3, 2, rng=0)
    before = linear.flat_params.copy()
    weight = np.ones((2, 3))
    weight[1, 2] = -1e300
    message = r"weight must be finite in float32, got -1e\+300 at index \(1, 2\)"
    with pytest.raises(ValueError, match=rf"Linear.load_state_dict: .*: {message}"):
        linear.load_state_dict({"weight": weight, "bias": [0.0, 0.0]})
    with pytest.raises(ValueError, match=rf"params and grads: {message}"):
        linear.params["weight"] = weight
    assert np.array_equal(linear.flat_params, before)
    linear.params["weight"] = np.full((2, 3), np.inf)  # what was infinite before may be
    pygru.Linear(3, 2, dtype=np.float64).params["weight"] = weight


def test_copies_and_unions_of_weights_know_what_they_belong_to():
    before, after = (pygru.GRU(I, 4, reset=reset, rng=0) for reset in ("before", "after"))
    weights = before.state_dict()
    updated = before.state_dict()
    updated |= {}
    grown = pygru.StateDict({}, {})
    grown.update(weights)
    for kept in (weights.copy(), weights | {}, {} | weights, updated, grown, copy.copy(weights)):
        assert list(kept) == list(weights)
        assert kept.functions == weights.functions
        with pytest.raises(ValueError, match="belong to reset='before', this layer has"):
            after.load_state_dict(kept)
    bias = np.ones(12)
    assert (weights | {"bias_hh_l0": bias})["bias_hh_l0"] is bias
    assert ({"bias_hh_l0": bias} | weights)["bias_hh_l0"] is weights["bias_hh_l0"]


def test_weights_of_two_functions_do_not_mix():
    before, after = (pygru.GRU(I, 4, reset=r, rng=0).state_dict() for r in ("before", "after"))
    values = {name: array.copy() for name, array in before.items()}
    message = "weights of the layer must belong to reset='before', got some that .* reset='after'"
    for mix in (operator.or_, operator.ior, pygru.StateDict.update):
        with pytest.raises(ValueError, match=message):
            mix(before, after)
    assert all(np.array_equal(before[name], value) for name, value in values.items())
    with pytest.raises(TypeError):
        before | 3
