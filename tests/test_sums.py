# SPDX-License-Identifier: MIT
"""The sums behind norms and mean losses, and the gradients that come with the latter."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pygru import _core
from pygru.sums import dot, over_time

# Around the ends of registers, of chains (64 float32) and of blocks (4096 float32).
SIZES = (0, 1, 3, 8, 17, 63, 64, 65, 1000, 4095, 4096, 4097, 20_000)


def draw(size, dtype):
    return np.random.default_rng(size).standard_normal((2, size)).astype(dtype)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_sum_of_the_products(size, dtype, isa):
    a, b = draw(size, dtype)
    exact = [float(x) * float(y) for x, y in zip(a, b, strict=True)]
    error = abs(dot(a, b) - math.fsum(exact))
    assert error <= 4 * np.finfo(dtype).eps * math.fsum(map(abs, exact))


def huber(e):
    clipped = np.clip(e, -0.7, 0.7)
    return clipped * (e - 0.5 * clipped), clipped


# e -> the loss of each element and its derivative
ERRORS = {"mae": lambda e: (abs(e), np.sign(e)), "mse": lambda e: (e * e, 2 * e), "huber": huber}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("loss", ERRORS)
def test_losses_of_residuals_are_their_formulas(loss, size, dtype, isa):
    y, target = draw(size, dtype)
    target[::5] = y[::5]
    y[3::7], target[3::7] = -0.0, 0.0
    terms, derivatives = ERRORS[loss](y - target)
    padded = np.full(size + 2, 7, dtype)  # what lies past the end stays
    total = _core.residual_loss(loss, y, target, padded[:size], 0.25, 0.7)
    exact = math.fsum(map(float, terms))
    assert abs(total - exact) <= 4 * np.finfo(dtype).eps * exact
    np.testing.assert_array_equal(padded[:size], derivatives * dtype.type(0.25))
    assert padded[size:].tolist() == [7, 7]


@pytest.mark.parametrize("size", SIZES)
def test_every_instruction_set_gives_the_same_bits(size, dtype):
    a, b = draw(size, dtype)
    sums = set()
    before = _core.isa()
    for isa in _core.available_isas():
        _core.use_isa(isa)
        losses = [_core.residual_loss(loss, a, b, a.copy(), 1.0, 0.7) for loss in ERRORS]
        sums.add((dot(a, b), *losses))
    _core.use_isa(before)
    assert len(sums) == 1


def test_layout_and_precision_do_not_matter(dtype):
    a, b = draw(36, dtype).reshape(2, 4, 9)
    assert dot(np.asfortranarray(a), b) == dot(a, b) == dot(a.T.copy().T, b)
    gradients = np.empty((2, *a.shape), dtype)
    sums = [
        _core.residual_loss("huber", y, target, dy, 1.0, 0.7)
        for y, target, dy in zip(
            (a, np.asfortranarray(a)), (b, b.T.copy().T), gradients, strict=True
        )
    ]
    assert sums[0] == sums[1]
    np.testing.assert_array_equal(*gradients)
    halves = np.full(3, 0.5, np.float16)
    assert dot(halves, halves) == 0.75


def test_memory_of_any_kind_gives_the_same_sum(dtype):
    a = draw(1000, dtype)[0]
    shifted = np.empty(a.nbytes + 1, np.int8)[1:].view(dtype)
    shifted[...] = a
    assert not shifted.flags.aligned
    swapped = a.astype(dtype.newbyteorder())
    assert dot(shifted, a) == dot(a, shifted) == dot(swapped, swapped) == dot(a, a)


def test_what_is_not_finite_shows(dtype):
    a = np.ones(5000, dtype)
    a[4321] = np.nan
    assert math.isnan(dot(a, a))
    a[4321] = np.finfo(dtype).max
    assert dot(a, a) == math.inf


@pytest.mark.parametrize("loss", ERRORS)
def test_a_residual_that_is_not_finite_stays_in_its_place(loss, dtype, isa):
    e = np.array([1, np.nan, -1, np.inf, -np.inf], dtype)
    dy, zeros = np.empty_like(e), np.zeros_like(e)
    assert math.isnan(_core.residual_loss(loss, e, zeros, dy, 1.0, 0.5))
    most = {"mae": 1, "mse": math.inf, "huber": 0.5}[loss]
    least = {"mae": 1, "mse": 2, "huber": 0.5}[loss]
    np.testing.assert_array_equal(dy, np.array([least, np.nan, -least, most, -most], dtype))
    endless = np.full(5, np.inf, dtype)
    assert _core.residual_loss(loss, endless, zeros, dy, 1.0, 0.5) == math.inf


def test_products_of_what_does_not_fit_are_refused(dtype):
    a = np.ones(6, dtype)
    for b in (np.ones(5, dtype), np.ones((2, 3), dtype), np.ones((), dtype)):
        with pytest.raises(ValueError, match="_core: b must be of shape"):
            _core.dot(a, b)
    for b in (np.ones(6, complex), np.ones(6, np.longdouble), [1.0] * 6, None):
        with pytest.raises(TypeError):
            _core.dot(a, b)
    with pytest.raises(MemoryError):
        _core.dot(a, np.broadcast_to(a, (1 << 40, 6)))


def test_losses_refuse_what_does_not_fit(dtype):
    read_only = np.ones(6, dtype)
    read_only.flags.writeable = False
    shifted = np.frombuffer(bytearray(8 * dtype.itemsize), dtype, 6, 1)
    good = np.ones(6, dtype)
    with pytest.raises(ValueError, match="loss must be mae, mse or huber, got cross_entropy"):
        _core.residual_loss("cross_entropy", good, good, good.copy(), 1.0, 0.0)
    others = np.ones(6, complex), np.ones(6, object), [1.0] * 6, None
    for wrong in others:
        for i, name in enumerate(("y", "target", "dy")):
            arrays = [good, good, good.copy()]
            arrays[i] = wrong
            with pytest.raises(TypeError, match=f"_core: {name} must be|incompatible|cast"):
                _core.residual_loss("mae", *arrays, 1.0, 0.0)
    for wrong in (np.ones((2, 3), dtype), np.ones(7, dtype), np.ones((), dtype)):
        for i, name in enumerate(("y", "target")):
            arrays = [good, good, np.full(6, 7, dtype)]
            arrays[i] = wrong
            with pytest.raises(ValueError, match=f"_core: {name} must be of shape"):
                _core.residual_loss("mae", *arrays, 1.0, 0.0)
            assert arrays[2].tolist() == [7] * 6
    for dy in (np.ones(12, dtype)[::2], read_only, shifted):
        before = dy.copy()
        with pytest.raises(ValueError, match="_core: dy must be"):
            _core.residual_loss("mae", good, good, dy, 1.0, 0.0)
        np.testing.assert_array_equal(dy, before)


@pytest.mark.parametrize("shape", [(30, 1, 1), (30, 7, 1), (30, 7, 3), (30, 1, 5), (0, 2, 3)])
def test_over_time_no_layout_changes_a_bit(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = np.zeros(shape[1:], np.float32)
    for x_t in x:
        expected += x_t
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)):
        laid_out = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        assert np.array_equal(over_time(laid_out), expected)
        backwards = np.ascontiguousarray(x[:, ::-1, ::-1].transpose(order))
        laid_out = backwards.transpose(np.argsort(order))[:, ::-1, ::-1]
        assert np.array_equal(over_time(laid_out), expected)
    assert np.array_equal(over_time(np.repeat(x, 2, 0)[::2]), expected)
