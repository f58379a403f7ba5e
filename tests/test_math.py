# SPDX-License-Identifier: MIT
"""The kernels' own exp, sigmoid and tanh: a few ulp from the truth, and calm at every float."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pygru import _core

# What was measured with AVX2, plus 1 for machines that round otherwise. Over all floats between
# 2^-32 and 2^8: exp 1.01, sigmoid 2.48, tanh 2.50; over samples of doubles: 0.97, 2.11, 2.49.
MOST_ULP = {"exp": 2.0, "sigmoid": 3.5, "tanh": 3.5}
# From here on exp and sigmoid saturate: e^limit and e^-limit are the last normal numbers they give.
LIMIT = {"float32": 87.0, "float64": 708.0}


@pytest.fixture(params=MOST_ULP)
def name(request):
    """Every function."""
    return request.param


@cache
def samples(dtype):
    """Return numbers of every exponent and sign, and as many where the functions are no constants.

    2 million in float32, 0.8 million in float64.
    """
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    exponents = np.arange(2**info.nexp - 1, dtype=unsigned)[:, np.newaxis] << info.nmant
    each = 2_000 if dtype == np.float32 else 100
    mantissas = rng.integers(0, 2**info.nmant, (exponents.size, each), unsigned)
    positive = (exponents | mantissas).view(dtype).ravel()
    limit, dense = LIMIT[str(dtype)], positive.size // 2
    uniform = [rng.uniform(-most, most, dense).astype(dtype) for most in (limit, 20, 5, 1)]
    return np.concatenate([positive, -positive, *uniform])


@cache
def truth(name, dtype):
    """Return the function of `samples(dtype)` in the next better precision."""
    x = samples(dtype).astype(np.float64 if dtype == np.float32 else np.longdouble)
    with np.errstate(all="ignore"):
        if name == "tanh":
            return np.tanh(x)
        if name == "exp":
            return np.exp(x)
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e)


def apply(name, x):
    """Return a function of x (N,), as the kernels compute it."""
    y = np.empty_like(x)
    _core.activation(name, x, y)
    return y


def ulps(difference, at):
    """Return a difference in units of the last place of numbers of size ``at``."""
    return np.abs(difference) / np.spacing(np.abs(at))


def test_error_is_a_few_ulp_over_the_whole_range(name, isa, dtype):
    x, expected = samples(dtype), truth(name, dtype)
    limit = LIMIT[str(dtype)]
    exact = {"exp": np.abs(x) <= limit, "sigmoid": x >= -limit, "tanh": np.full(x.shape, True)}
    exact = exact[name]
    y = apply(name, x)
    error = ulps(y[exact] - expected[exact], expected[exact].astype(dtype))
    worst = int(np.argmax(error))
    assert error[worst] <= MOST_ULP[name], f"{error[worst]:.2f} ulp at {x[exact][worst]!r}"


def test_every_finite_number_gives_a_finite_one_in_range(name, isa, dtype):
    x = samples(dtype)
    y = apply(name, x)
    assert np.isfinite(y).all()
    least = {"exp": 0.0, "sigmoid": 0.0, "tanh": -1.0}[name]
    assert y.min() >= least
    if name != "exp":
        assert y.max() <= 1.0


def test_far_out_they_saturate(isa, dtype):
    limit = LIMIT[str(dtype)]
    x = np.array([-np.inf, np.finfo(dtype).min, -2 * limit, 2 * limit, np.finfo(dtype).max, np.inf])
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    assert apply("tanh", x).tolist() == [-1, -1, -1, 1, 1, 1]
    sigmoid = apply("sigmoid", x)
    assert sigmoid[3:].tolist() == [1, 1, 1]
    assert not sigmoid[:3].any()
    exp = apply("exp", x)
    assert (exp[:3] <= 2 * np.finfo(dtype).tiny).all()
    assert np.isfinite(exp).all()


def test_only_nan_gives_nan(name, isa, dtype):
    x = np.linspace(-3, 3, 67).astype(dtype)
    clean = apply(name, x)
    for i in (0, 3, 17, 65, 66):
        poisoned = x.copy()
        poisoned[i] = np.nan
        y = apply(name, poisoned)
        assert np.isnan(y[i])
        assert np.array_equal(np.delete(y, i), np.delete(clean, i))
    payloads = np.array([np.nan, -np.nan], dtype)
    assert np.isnan(apply(name, payloads)).all()
    bits = np.dtype(f"i{dtype.itemsize}")
    payloads = np.array([np.iinfo(bits).max, -1], bits).view(dtype)  # the largest exponents
    assert np.isnan(apply(name, payloads)).all()


def test_around_zero_they_are_exact(isa, dtype):
    info = np.finfo(dtype)
    tiny = np.array([0, info.smallest_subnormal, info.tiny, info.eps**2], dtype)
    tiny = np.concatenate([tiny, -tiny])
    assert np.array_equal(apply("tanh", tiny), tiny)
    assert np.array_equal(apply("exp", tiny), np.ones_like(tiny))
    assert np.array_equal(apply("sigmoid", tiny), np.full_like(tiny, 0.5))


def test_they_are_as_symmetric_as_they_are_exact(isa, dtype):
    x = np.abs(samples(dtype))
    t = apply("tanh", x)
    assert ulps(t + apply("tanh", -x), t).max() <= 2 * MOST_ULP["tanh"]
    s = apply("sigmoid", x) + apply("sigmoid", -x)
    assert np.abs(s - 1).max() <= 2 * np.finfo(dtype).eps


def test_a_number_is_the_same_in_every_lane(name, isa, dtype):
    x = samples(dtype)[-2000:]
    whole = apply(name, x)
    for first in range(17):
        for size in (1, 2, 3, 7, 8, 9, 15, 16, 17, 33):
            part = slice(first, first + size)
            assert np.array_equal(apply(name, x[part].copy()), whole[part])
    assert apply(name, x[:0]).shape == (0,)


def test_avx2_is_avx512(name, dtype, two_widths):
    results = []
    for isa in two_widths:
        _core.use_isa(isa)
        results.append(apply(name, samples(dtype)))
    assert results[0].tobytes() == results[1].tobytes()


def test_what_is_no_activation_is_refused():
    x = np.zeros((2, 3), np.float32)
    for wrong in ("gelu", "", "Tanh"):
        with pytest.raises(ValueError, match="must be exp, relu, sigmoid, softmax or tanh"):
            _core.activation(wrong, x, x)
    for array in (x.astype(int), x.astype(np.float16), [[0.0]], None, "x"):
        with pytest.raises(TypeError):
            _core.activation("tanh", array, x)
        with pytest.raises(TypeError):
            _core.activation("tanh", x, array)
    with pytest.raises(TypeError, match=r"must be an array of float32 or float64, got .* float16"):
        _core.activation("tanh", x.astype(np.float16), x)
    overlapping = np.lib.stride_tricks.as_strided(x, (2, 3), (4, 4))
    for array in (x[0], x[:, ::2], x.T.copy().T, overlapping, x[:1], x[np.newaxis]):
        with pytest.raises(ValueError, match=r"_core: y must be"):
            _core.activation("tanh", x, array)
    for array in (x[:, ::2], x.T.copy().T, overlapping):
        with pytest.raises(ValueError, match=r"_core: x must be C-contiguous"):
            _core.activation("tanh", array, array)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="_core: y must be writeable"):
        _core.activation("tanh", x, x)
