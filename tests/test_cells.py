# SPDX-License-Identifier: MIT
"""Cells are one step of the layer of the same name, and PyTorch's cells."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from tolerances import assert_close, finite_difference

import pygru

T, B, I, H = 5, 3, 2, 4  # noqa: E741
CELLS = {
    "gru_after": (pygru.GRUCell, pygru.GRU, {"reset": "after"}),
    "gru_before": (pygru.GRUCell, pygru.GRU, {"reset": "before"}),
    "rnn_tanh": (pygru.RNNCell, pygru.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (pygru.RNNCell, pygru.RNN, {"nonlinearity": "relu"}),
}


@pytest.fixture(params=CELLS)
def make(request):
    """Every cell: (cell, layer), with the same options and the same seed."""
    cell, layer, options = CELLS[request.param]

    def make(**more):
        more = {"rng": 0, "dtype": np.float64} | options | more
        return cell(I, H, **more), layer(I, H, **more)

    return make


def test_a_loop_of_steps_is_the_layer(make, dtype, rng):
    cell, layer = make(dtype=dtype)
    assert np.array_equal(cell.flat_params, layer.flat_params)  # one seed, one set of weights
    x, h_0 = rng.standard_normal((T, B, I)), rng.standard_normal((B, H))
    y, h_n, tape = layer.forward(x, h_0[np.newaxis])
    h, tapes = h_0, []
    for t in range(T):
        assert np.array_equal(cell(x[t], h), y[t])
        h, step = cell.forward(x[t], h)
        tapes.append(step)
        assert np.array_equal(h, y[t])

    dh_n = rng.standard_normal(h_n.shape)
    dx, dh_0 = layer.backward(tape, None, dh_n)
    dh = dh_n[0]
    for t in reversed(range(T)):
        dx_t, dh = cell.backward(tapes[t], dh)
        assert_close(dx_t, dx[t], "reference", "dx")
    assert_close(dh, dh_0[0], "reference", "dh_0")
    assert_close(cell.flat_grads, layer.flat_grads, "reference", "grads")


def test_every_gradient_of_a_step_is_the_finite_difference(make, rng):
    cell, _ = make()
    x, h = rng.standard_normal((B, I)), rng.standard_normal((B, H))
    h_1, tape = cell.forward(x, h)
    dh_1 = rng.standard_normal(h_1.shape)
    dx, dh = cell.backward(tape, dh_1)
    targets = {name: (cell.params[name], cell.grads[name]) for name in cell.params}
    for name, (array, gradient) in (targets | {"x": (x, dx), "h": (h, dh)}).items():
        expected = finite_difference(lambda: float(np.sum(dh_1 * cell(x, h))), array)
        assert_close(gradient, expected, "finite differences", f"d{name}")


def test_one_sequence_and_no_state_are_a_batch_of_one_from_zero(make, rng):
    cell, _ = make()
    x = rng.standard_normal(I)
    h, tape = cell.forward(x)
    assert h.shape == (H,)
    assert np.array_equal(h, cell(x[np.newaxis], np.zeros((1, H)))[0])
    dx, dh = cell.backward(tape, np.ones(H))
    assert dx.shape == (I,)
    assert dh is None
    _, tape = cell.forward(x, h)
    dx, dh = cell.backward(tape, np.ones(H), input_gradient=False)
    assert dx is None
    assert dh.shape == (H,)
    assert cell(np.zeros((0, I)), np.zeros((0, H))).shape == (0, H)


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("kind", ["gru_after", "rnn_tanh", "rnn_relu"])
def test_a_step_is_pytorchs_step(kind, bias, rng):
    torch = pytest.importorskip("torch")
    cell_class, _, options = CELLS[kind]
    options = {k: v for k, v in options.items() if k == "nonlinearity"}
    theirs_class = getattr(torch.nn, cell_class.__name__)
    theirs = theirs_class(I, H, bias, dtype=torch.float64, **options)
    ours = cell_class(I, H, bias, dtype=np.float64, **options)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    x, h = rng.standard_normal((B, I)), rng.standard_normal((B, H))
    x_t, h_t = torch.tensor(x, requires_grad=True), torch.tensor(h, requires_grad=True)
    h_1, tape = ours.forward(x, h)
    h_1t = theirs(x_t, h_t)
    assert_close(h_1, h_1t.detach(), "torch", "h")
    dh_1 = rng.standard_normal(h_1.shape)
    dx, dh = ours.backward(tape, dh_1)
    (torch.from_numpy(dh_1) * h_1t).sum().backward()
    assert_close(dx, x_t.grad, "torch", "dx")
    assert_close(dh, h_t.grad, "torch", "dh")
    for name, parameter in theirs.named_parameters():
        assert_close(ours.grads[name], parameter.grad, "torch", name)


def test_cells_are_copied_and_saved_like_every_module(make, tmp_path, rng):
    cell, _ = make()
    x = rng.standard_normal((B, I))
    pygru.save(cell, tmp_path / "cell")
    for other in (copy.deepcopy(cell), pygru.load(tmp_path / "cell")):
        assert repr(other) == repr(cell)
        assert np.array_equal(other(x), cell(x))
        other.flat_params[:] = 0.0
        assert not other(x).any()
        assert cell(x).any()


def test_wrong_arguments_of_a_cell_are_named():
    cell = pygru.GRUCell(I, H)
    x = np.zeros((B, I))
    for arguments, message in {
        (3.0,): "GRUCell.forward: x must have shape (B, I) or (I,) with I = 2, got ()",
        (np.zeros((B, 3)).tobytes(),): "GRUCell.forward: x must hold real numbers, got dtype |S72",
    }.items():
        with pytest.raises((TypeError, ValueError)) as error:
            cell.forward(*arguments)
        assert str(error.value) == message
    with pytest.raises(ValueError) as error:
        cell.forward(x, np.zeros((1, B, H)))
    assert str(error.value) == ("GRUCell.forward: h must have shape (B, H) = (3, 4), got (1, 3, 4)")
    h, tape = cell.forward(x)
    with pytest.raises(ValueError) as error:
        cell.backward(tape, h[1:])
    assert str(error.value) == ("GRUCell.backward: dh must have the shape of h, (3, 4), got (2, 4)")
    cell.backward(tape, h)
    with pytest.raises(RuntimeError, match="tape was already used"):
        cell.backward(tape, h)
    with pytest.raises(ValueError, match="GRUCell: reset must be one of"):
        pygru.GRUCell(I, H, reset="never")
    with pytest.raises(ValueError, match="RNNCell: hidden_size must be an integer >= 1, got 0"):
        pygru.RNNCell(I, 0)
    with pytest.raises(TypeError, match=r"module 0 must be a layer with .*, got GRUCell"):
        pygru.Sequential(cell)


@pytest.mark.parametrize("cell", [pygru.GRUCell, pygru.RNNCell])
@pytest.mark.parametrize("sizes", [(1, 1), (5, 8), (9, 33), (64, 256)])
def test_a_step_of_a_few_sequences_has_the_bits_of_a_large_batch(cell, sizes, isa):
    # A few sequences go straight through the weights, many through packed ones.
    for options in ({"reset": "after"}, {"reset": "before"}) if cell is pygru.GRUCell else ({},):
        layer = cell(*sizes, rng=0, **options)
        rng = np.random.default_rng(1)
        x, h = (rng.standard_normal((64, n)).astype(np.float32) for n in sizes)
        for state in (None, h):
            whole = layer(x, state)
            for B in (1, 2, 3):
                few = None if state is None else state[:B]
                np.testing.assert_array_equal(layer(x[:B], few), whole[:B])
                np.testing.assert_array_equal(layer.forward(x[:B], few)[0], whole[:B])
