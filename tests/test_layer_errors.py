# SPDX-License-Identifier: MIT
"""Wrong arguments of layers are named, and leave everything as it was."""

from __future__ import annotations

import numpy as np
import pytest
from layer_problems import RECURRENT, B, H, I, T

import pygru


@pytest.fixture(params=RECURRENT)
def cell(request):
    """Every cell."""
    return request.param


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
            {"x": (np.ones((5, 3)),) * 2},
            TypeError,
            "x must be one array, got a tuple of 2; of what a recurrent layer gives, (y, h_n), ha",
        ),
        (
            {"x": np.ma.masked_equal(np.arange(7 * 5 * 3.0).reshape(7, 5, 3), 4)},
            ValueError,
            "x must have no masked elements, got some in (7, 5, 3)",
        ),
        ({"lengths": np.ma.masked_equal([7] * 5, 7)}, ValueError, "lengths must have no masked"),
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


def test_what_an_argument_raises_itself_is_passed_on():
    class Closed:
        def __array__(self, dtype=None, copy=None):
            raise ValueError("the file is closed")

    with pytest.raises(ValueError, match=r"^the file is closed$"):
        run(x=Closed())


def test_numbers_of_any_kind_and_layout_are_numbers():
    gru, x = pygru.GRU(2, H, rng=0), np.ones((T, B, 2))
    others = [x.astype(dtype) for dtype in (bool, np.uint8, np.float16, ">f4")]
    for same in (*others, np.repeat(x.astype(np.float32), 2, -1)[..., ::2]):
        assert np.array_equal(gru(same)[0], gru(x)[0])


def test_an_array_that_could_have_a_mask_and_has_none_is_an_array():
    x = np.ones((T, B, I))
    for same in (np.ma.array(x), np.ma.array(x, mask=False), np.ma.masked_equal(x, 2)):
        y, *_ = pygru.GRU(I, H, rng=0).forward(same)
        assert np.array_equal(y, pygru.GRU(I, H, rng=0).forward(x)[0])
        assert type(y) is np.ndarray


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
        (lambda: pygru.GRU(3, 8, -1), ValueError, "an integer from 1 to 1000, got -1"),
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
        (
            lambda: pygru.GRU(1, 1, 2_000_000),
            ValueError,
            "GRU: num_layers must be an integer from 1 to 1000, got 2000000",
        ),
        (lambda: pygru.Linear(2**40, 2**40), ValueError, "Linear: the parameters must fit"),
        (lambda: pygru.Embedding(2**40, 2**40), ValueError, "Embedding: the parameters must fit"),
        (
            lambda: pygru.Sequential(
                pygru.GRU(3, 8), pygru.LastStep(), pygru.Dropout(0.1), pygru.GRU(8, 2)
            ),
            ValueError,
            "Sequential: module 3 (GRU) must read one vector of each sequence, which is what the "
            "modules before it give, got one that reads one vector per step: a RepeatVector",
        ),
        (
            lambda: pygru.Sequential(pygru.Sequential(pygru.GRU(3, 8)), pygru.RepeatVector(4)),
            ValueError,
            "Sequential: module 1 (RepeatVector) must read one vector per step of each sequence",
        ),
        (
            lambda: pygru.Sequential(pygru.Linear(3, 3), pygru.GRU(3, 8), pygru.BothEnds()),
            ValueError,
            "Sequential: module 2 (BothEnds) must read two directions, got a GRU with "
            "bidirectional=False, whose last state LastStep gives",
        ),
        (
            lambda: pygru.Sequential(
                pygru.GRU(3, 8), pygru.Dropout(0.1), pygru.Tanh(), pygru.BothEnds()
            ),
            ValueError,
            "Sequential: module 3 (BothEnds) must read two directions, got a GRU with "
            "bidirectional=False, whose last state LastStep gives",
        ),
        (
            lambda: pygru.GRU(3, 4, bidirectional="no"),
            TypeError,
            "GRU: bidirectional must be True or False, got 'no'",
        ),
        (lambda: pygru.RNN(3, 4, bias=None), TypeError, "RNN: bias must be True or False, got"),
        (lambda: pygru.GRUCell(3, 4, bias=2), TypeError, "GRUCell: bias must be True or False"),
        (lambda: pygru.Linear(3, 4, "x"), TypeError, "Linear: bias must be True or False, got 'x'"),
        (
            lambda: pygru.LastStep(batch_first="yes"),
            TypeError,
            "LastStep: batch_first must be True or False, got 'yes'",
        ),
        (
            lambda: pygru.Sequential(pygru.Linear(3, 4), pygru.Embedding(3, 4)),
            ValueError,
            "Sequential: module 1 (Embedding) must come first, as it reads integers, got it after "
            "module 0 (Linear)",
        ),
        (
            lambda: pygru.Sequential(
                pygru.Linear(2, 3), pygru.Sequential(pygru.OneHot(3), pygru.GRU(3, 2))
            ),
            ValueError,
            "Sequential: module 1 (Sequential) must come first, as it reads integers",
        ),
        (lambda: pygru.Dropout(-0.1), ValueError, "Dropout: p must be a number from 0 to 1"),
        (lambda: pygru.LayerNorm(3, 0.0), ValueError, "LayerNorm: eps must be above 0, got 0.0"),
        (
            lambda: pygru.LayerNorm(3, "1e-5"),
            TypeError,
            "LayerNorm: eps must be a number above 0, got '1e-5'",
        ),
    ],
)
def test_wrong_arguments_of_constructors_are_named(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


def zeros(*shape, dtype=np.float32):
    """As many as one likes, in no memory."""
    return np.broadcast_to(dtype(0), shape)


@pytest.mark.parametrize(
    ("layer", "x", "what"),
    [
        (pygru.Linear(1, 2**20), zeros(2**30, 2**20, 1), "y"),
        (pygru.RepeatVector(2**62), np.zeros((2, 3)), "y"),
        (pygru.OneHot(2**62), [0, 1], "y"),
        (pygru.GRUCell(1, 2**10), zeros(2**60, 1), "the states"),
        (pygru.RNNCell(1, 2**10), zeros(2**60, 1), "the states"),
    ],
)
def test_results_that_no_array_can_hold_are_named(layer, x, what):
    for call in (layer, layer.forward):
        with pytest.raises(ValueError) as error:
            call(x)
        assert str(error.value).startswith(
            f"{type(layer).__name__}.forward: {what} must fit in one array of at most "
        )


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


@pytest.mark.parametrize(
    ("where", "make"),
    [
        ("GRU", lambda rng: pygru.GRU(1, 2, rng=rng)),
        ("GRUCell", lambda rng: pygru.GRUCell(1, 2, rng=rng)),
        ("Linear", lambda rng: pygru.Linear(1, 2, rng=rng)),
        ("Embedding", lambda rng: pygru.Embedding(1, 2, rng=rng)),
        ("Dropout", lambda rng: pygru.Dropout(rng=rng)),
        ("uniform", lambda rng: pygru.initializers.uniform((1, 2), rng=rng)),
        ("normal", lambda rng: pygru.initializers.normal((1, 2), rng=rng)),
        ("glorot_uniform", lambda rng: pygru.initializers.glorot_uniform((1, 2), rng=rng)),
        ("orthogonal", lambda rng: pygru.initializers.orthogonal((1, 2), rng=rng)),
    ],
)
def test_what_is_no_source_of_randomness_is_named(where, make):
    for seed in (1.5, "x", object):
        with pytest.raises(TypeError, match=f"^{where}: rng must be an int, a Generator or None"):
            make(seed)
    with pytest.raises(ValueError, match=f"^{where}: rng must be an int of at least 0, got -1"):
        make(-1)
    make(np.random.PCG64(0))  # and whatever else NumPy makes a generator of


ENDLESS: list[object] = [1]
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize("rng", [np.eye(2, dtype=int), ENDLESS, [1, 2], True, 1.0], ids=repr)
def test_a_seed_of_another_kind_is_named(rng):
    with pytest.raises(TypeError, match=r"^Dropout: rng must be an int, a Generator or None, got "):
        pygru.Dropout(rng=rng)


@pytest.mark.parametrize("dtype", ["f4,(", "f4,f4", "no", [("a", 1)]])
def test_a_dtype_of_another_kind_is_named(dtype):
    with pytest.raises(TypeError, match=r"^GRU: dtype must be float32 or float64, got "):
        pygru.GRU(2, 2, dtype=dtype)
