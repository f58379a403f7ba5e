# SPDX-License-Identifier: MIT
"""Activations, softmax and layer normalisation: what the kernels do to each row alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from problems import assert_same_bits
from tolerances import assert_close, finite_difference

import pygru
from pygru import _core, reference

# name -> y of x, dx of y and dy
KERNELS = {
    "exp": (np.exp, lambda y, dy: dy * y),
    "relu": (lambda x: np.maximum(x, 0), lambda y, dy: dy * (y > 0)),
    "sigmoid": (reference.sigmoid, lambda y, dy: dy * y * (1 - y)),
    "softmax": (
        lambda x: (e := np.exp(x - x.max(-1, keepdims=True))) / e.sum(-1, keepdims=True),
        lambda y, dy: y * (dy - (y * dy).sum(-1, keepdims=True)),
    ),
    "tanh": (np.tanh, lambda y, dy: dy * (1 - y * y)),
}
LAYERS = [pygru.ReLU, pygru.Sigmoid, pygru.Softmax, pygru.Tanh]
# (N, K): rows of fewer values than a register has, and of more than a block of their sum; more rows
# than are added up at a time
SIZES = [(1, 1), (5, 1), (3, 7), (4, 8), (2, 15), (5, 16), (3, 33), (2, 65), (2, 1030), (70, 5)]
EPS = 1e-5


@pytest.fixture(params=KERNELS)
def name(request):
    """Every activation."""
    return request.param


def activation(name, x):
    y = np.empty_like(x)
    _core.activation(name, x, y)
    return y


def activation_backward(name, y, dy):
    dx = np.empty_like(y)
    _core.activation_backward(name, y, dy, dx)
    return dx


def entropy(y, classes, weights):
    """Return all that the kernel gives."""
    dy, sums, rests = np.empty_like(y), np.empty_like(weights), np.empty_like(weights)
    assert _core.cross_entropy(y, classes, weights, dy, sums, rests)
    return {"dy": dy, "sums": sums, "rests": rests}


def draw(N, K, dtype):
    """Return x, w, b and dy of layer normalisation."""
    rng = np.random.default_rng([N, K])
    return [rng.standard_normal(s).astype(dtype) for s in ((N, K), K, K, (N, K))]


def normalise(x, w, b, dy, eps=EPS):
    """Return all that the kernels give."""
    y, n, dx = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    scale, dw, db = np.empty(len(x), x.dtype), np.zeros_like(w), np.zeros_like(b)
    _core.layer_norm(x, w, b, eps, y, n, scale)
    _core.layer_norm_backward(n, scale, w, dy, dx, dw, db)
    return {"y": y, "n": n, "scale": scale, "dx": dx, "dw": dw, "db": db}


def test_the_reference_of_layer_norm_has_the_gradient_of_finite_differences():
    x, w, b, dy = draw(3, 5, np.float64)

    def loss():
        return float(np.sum(dy * reference.layer_norm_forward(x, w, b, EPS)[0]))

    _, n, scale = reference.layer_norm_forward(x, w, b, EPS)
    gradients = reference.layer_norm_backward(n, scale, w, dy)
    for array, gradient in zip((x, w, b), gradients, strict=True):
        assert_close(gradient, finite_difference(loss, array), "finite differences")


def test_the_formulas_have_the_gradient_of_finite_differences(name):
    x, _, _, dy = draw(3, 5, np.float64)
    forward, backward = KERNELS[name]
    expected = finite_difference(lambda: float(np.sum(dy * forward(x))), x)
    assert_close(backward(forward(x), dy), expected, "finite differences")


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_kernels_are_the_formulas(name, sizes, isa, dtype):
    x, _, _, dy = draw(*sizes, dtype)
    forward, backward = KERNELS[name]
    x *= 3
    y = activation(name, x)
    assert_close(y, forward(x), "reference", name)
    dx = activation_backward(name, y, dy)
    assert_close(dx, backward(y, dy), "reference", f"d {name}", least=1.0)
    _core.activation_backward(name, y, dy, dy)
    assert_same_bits({"dx": dy}, {"dx": dx}, "in place")


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_layer_norm_is_the_reference(sizes, isa, dtype):
    x, w, b, dy = draw(*sizes, dtype)
    x += 3
    actual = normalise(x, w, b, dy)
    y, n, scale = reference.layer_norm_forward(x.astype(float), w, b, EPS)
    expected = [y, n, scale[:, 0], *reference.layer_norm_backward(n, scale, w, dy)]
    largest = max(1.0, float(scale.max()))  # of one value the variance is 0
    for (key, array), value in zip(actual.items(), expected, strict=True):
        assert_close(array, value, "reference", key, least=largest)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_cross_entropy_is_its_formula(sizes, isa, dtype, rng):
    N, K = sizes
    y = 3 * draw(N, K, dtype)[0]
    classes, weights = rng.integers(0, K, N), rng.random(N).astype(dtype)
    actual = entropy(y, classes, weights)
    p = KERNELS["softmax"][0](y.astype(float))
    expected = weights[:, np.newaxis] * (p - (np.arange(K) == classes[:, np.newaxis]))
    assert_close(actual["dy"], expected, "reference", "dy", least=1.0)
    loss = np.log(actual["sums"]) + actual["rests"]
    assert_close(loss, -np.log(p[np.arange(N), classes]), "reference", "loss", least=1.0)
    for i in range(N):
        row = slice(i, i + 1)
        alone = entropy(y[row], classes[row], weights[row])
        assert_same_bits(alone, {key: value[row] for key, value in actual.items()})


def test_cross_entropy_refuses_what_does_not_fit_and_writes_nothing(dtype):
    y, classes = draw(2, 3, dtype)[0], np.array([0, 2])
    weights, out = np.ones(2, dtype), np.full((2, 3), 7, dtype)
    good = {"y": y, "classes": classes, "weights": weights, "dy": out,
            "sums": weights.copy(), "rests": weights.copy()}  # fmt: skip
    for wrong in ([0, 3], [-1, 0], [0, 2**62]):
        assert not _core.cross_entropy(**good | {"classes": np.array(wrong)})
    for key, value in (("classes", classes[:1]), ("weights", y), ("dy", y[:1]), ("sums", y[0])):
        with pytest.raises(ValueError, match=f"_core: {key} must be"):
            _core.cross_entropy(**good | {key: value})
    with pytest.raises(TypeError, match="_core: classes must be an array of int64"):
        _core.cross_entropy(**good | {"classes": classes.astype(np.int32)})
    assert (out == 7).all()


def test_a_gradient_is_added_and_that_of_x_left_out_where_nobody_wants_it(isa, dtype):
    x, w, b, dy = draw(4, 9, dtype)
    once = normalise(x, w, b, dy)
    dw, db = np.ones_like(w), np.ones_like(b)
    _core.layer_norm_backward(once["n"], once["scale"], w, dy, None, dw, db)
    assert_close(dw, 1 + once["dw"], "reference")
    assert_close(db, 1 + once["db"], "reference")
    y = np.empty_like(x)
    _core.layer_norm(x, w, b, EPS, y, None, None)
    assert_same_bits({"y": y}, {"y": once["y"]}, "without a gradient")


def test_a_row_is_the_same_bits_wherever_it_stands(name, isa, dtype):
    for N, K in SIZES:
        x, w, b, dy = draw(N, K, dtype)
        together, normal = activation(name, x), normalise(x, w, b, dy)
        dx = activation_backward(name, together, dy)
        in_place = x.copy()
        _core.activation(name, in_place, in_place)
        assert_same_bits({"y": in_place}, {"y": together}, "in place")
        for kept in ((None, None), (np.empty_like(x), np.empty_like(x[:, 0]))):
            in_place = x.copy()
            _core.layer_norm(in_place, w, b, EPS, in_place, *kept)
            assert_same_bits({"y": in_place}, {"y": normal["y"]}, "in place")
        for i in range(N):
            row = slice(i, i + 1)
            assert_same_bits({"y": activation(name, x[row])}, {"y": together[row]}, f"{i} of {N}")
            own = {"dx": activation_backward(name, together[row], dy[row])}
            assert_same_bits(own, {"dx": dx[row]}, f"{i} of {N}")
            alone = normalise(x[row], w, b, dy[row])
            for key in ("y", "n", "scale", "dx"):
                assert_same_bits({key: alone[key]}, {key: normal[key][row]}, f"{i} of {N}")


@pytest.mark.parametrize("order", ["T B K", "B T K", "K first"])
def test_the_order_of_memory_does_not_change_a_bit(order, rng):
    x = rng.standard_normal((4, 3, 21)).astype(np.float32)
    axes = {"T B K": (0, 1, 2), "B T K": (1, 0, 2), "K first": (2, 0, 1)}[order]
    stored = np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))
    for layer in (*(kind() for kind in LAYERS), pygru.LayerNorm(21)):
        (y, tape), (expected, other) = layer.forward(stored), layer.forward(x)
        results = []
        for kept, dy in ((tape, stored), (other, x)):
            layer.zero_grad()
            results.append({"dx": layer.backward(kept, dy), **layer.grads})
            results[-1] = {key: value.copy() for key, value in results[-1].items()}
        assert_same_bits({"y": y}, {"y": expected})
        assert_same_bits(*results)


def test_avx2_is_avx512(name, dtype, two_widths):
    for sizes in SIZES:
        x, w, b, dy = draw(*sizes, dtype)
        results = []
        for isa in two_widths:
            _core.use_isa(isa)
            y = activation(name, x)
            own = {name: y, f"d {name}": activation_backward(name, y, dy)}
            own |= entropy(x, np.arange(len(x)) % x.shape[1], np.abs(dy[:, 0]))
            results.append(normalise(x, w, b, dy) | own)
        assert_same_bits(*results, f"at {sizes}")


# As in test_bits.py: what every instruction set with fused multiply-add gives.
RECORD = {"float32": "0aa671900173e713", "float64": "1f9b98ecf3e8cf66"}


def test_every_machine_gives_the_recorded_bits(dtype, isa):
    if isa == "baseline":
        pytest.skip("multiplies and adds apart")
    digest = hashlib.blake2b(digest_size=8)
    for N, K in SIZES:
        n = np.arange(1.0, 2 * (N * K + K) + 1)
        values = (np.float32(4) * (2 * (n * n * 0.6180339887498949 % 1) - 1)).astype(dtype)
        x, dy = values[: N * K].reshape(N, K), values[N * K : 2 * N * K].reshape(N, K)
        w, b = values[2 * N * K :].reshape(2, K)
        for key in KERNELS:
            y = activation(key, x)
            digest.update(y.tobytes())
            digest.update(activation_backward(key, y, dy).tobytes())
        rows = normalise(x, w, b, dy) | entropy(x, np.arange(N) % K, np.abs(dy[:, 0]))
        for array in rows.values():
            digest.update(array.tobytes())
    assert digest.hexdigest() == RECORD[dtype.name]


def test_a_nan_stays_in_its_row(name, isa, dtype):
    x, w, b, dy = draw(5, 19, dtype)
    clean, normal = activation(name, x), normalise(x, w, b, dy)["y"]
    for k in (0, 7, 16, 18):
        poisoned = x.copy()
        poisoned[2, k] = np.nan
        y = activation(name, poisoned)
        assert np.isnan(y[2, k])
        assert np.isnan(y[2]).all() or name != "softmax"
        for after, before in ((y, clean), (normalise(poisoned, w, b, dy)["y"], normal)):
            assert np.array_equal(np.delete(after, 2, 0), np.delete(before, 2, 0))
        assert np.isnan(normalise(poisoned, w, b, dy)["y"][2]).all()


def test_softmax_takes_any_scores(isa, dtype):
    most = np.finfo(dtype).max
    for row, expected in (
        ([0, 0, 1000], [0, 0, 1]),
        ([-1000, -1000, -1000, -1000], [0.25] * 4),
        ([-np.inf, 0, -np.inf, 0], [0, 0.5, 0, 0.5]),
        ([most, -most / 2, most], [0.5, 0, 0.5]),
        ([0] * 9 + [1000], [0] * 9 + [1]),
    ):
        assert activation("softmax", np.array([row], dtype)).tolist() == [expected]
    for row in ([np.inf, 0.0], [-np.inf, -np.inf]):
        assert np.isnan(activation("softmax", np.array([row], dtype))).all()


def test_rows_without_values_and_no_rows_are_nothing(dtype):
    for kind in LAYERS:
        for shape in ((0, 3), (3, 0), (2, 0, 4)):
            layer = kind()
            y, tape = layer.forward(np.zeros(shape, dtype))
            assert y.shape == layer.backward(tape, y).shape == shape
    assert pygru.Tanh()(0.0) == 0 and pygru.Softmax()(3.0) == 1
    assert pygru.Tanh()(0.0).shape == pygru.Softmax()(3.0).shape == ()
    norm = pygru.LayerNorm(4, dtype=dtype)
    y, tape = norm.forward(np.zeros((2, 0, 4), dtype))
    assert y.shape == norm.backward(tape, y).shape == (2, 0, 4)


def test_what_is_far_below_zero_is_zero(isa, dtype):
    x = np.array([-np.inf, -1e30, -1000, -0.0, np.inf], dtype)
    assert activation("sigmoid", x).tolist() == [0, 0, 0, 0.5, 1]
    relu = activation("relu", x)
    assert relu.tolist() == [0, 0, 0, 0, np.inf]
    assert not np.signbit(relu).any()


def test_wide_rows_and_many_of_them_lose_no_precision(isa, rng):
    x = (1000 + rng.standard_normal((2, 20_000))).astype(np.float32)
    w, b = np.ones(20_000, np.float32), np.zeros(20_000, np.float32)
    y = normalise(x, w, b, x)["y"]
    exact = reference.layer_norm_forward(x.astype(float), w, b, EPS)[0]
    assert np.abs(y - exact).max() < 2e-4  # 1000 is known to 6e-5
    n, dy = rng.standard_normal((2, 200_000, 1)).astype(np.float32) + 2
    dw, db = np.zeros(1, np.float32), np.zeros(1, np.float32)
    _core.layer_norm_backward(n, np.ones(200_000, np.float32), dw + 1, dy, None, dw, db)
    assert dw[0] == pytest.approx(float(np.sum(n.astype(float) * dy)), rel=2e-6)
    assert db[0] == pytest.approx(float(np.sum(dy.astype(float))), rel=2e-6)


def test_an_eps_that_would_count_as_zero_is_refused(dtype):
    least = float(np.finfo(dtype).tiny)
    y = pygru.LayerNorm(4, eps=least, dtype=dtype)(np.ones((2, 4), dtype))
    assert not y.any()
    with pytest.raises(ValueError, match=rf"^LayerNorm: eps must be at least .*{dtype.name}, got"):
        pygru.LayerNorm(4, eps=least / 2, dtype=dtype)


def test_layer_norm_refuses_arrays_that_do_not_fit():
    x, w, b, dy = draw(2, 3, np.float32)
    good = {"x": x, "w": w, "b": b, "eps": EPS, "y": dy, "n": x.copy(), "scale": x[:, 0].copy()}
    for key, wrong in (
        ("x", x[:, ::2]), ("x", x.T.copy().T), ("w", w[:2]), ("b", b[:2]), ("y", x[:1]),
        ("n", x[:, :2]), ("y", x[0]), ("scale", w), ("scale", x[:, 0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="_core: "):
            _core.layer_norm(**good | {key: wrong})
    back = {"n": x, "scale": x[:, 0].copy(), "w": w, "dy": dy, "dx": x.copy(), "dw": w, "db": b}
    for key, wrong in (
        ("scale", w), ("w", b[:2]), ("dy", dy[:1]), ("dx", x[:, :2]), ("dw", w[:2]), ("db", b[:2]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="_core: "):
            _core.layer_norm_backward(**back | {key: wrong})
    with pytest.raises(TypeError, match="_core: w must be an array of float32"):
        _core.layer_norm(**good | {"w": w.astype(float)})


def test_an_array_is_left_out_only_where_it_may_be():
    x, w = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    for call in (
        lambda: _core.activation("tanh", x, None),
        lambda: _core.activation_backward("tanh", x, None, x.copy()),
        lambda: _core.activation_backward("tanh", x, x, None),
        lambda: _core.layer_norm(x, w, w, 1e-5, None, None, None),
        lambda: _core.layer_norm_backward(x, w[:2], w, None, None, w.copy(), w.copy()),
    ):
        with pytest.raises(TypeError, match="must be an array of float32, got NoneType"):
            call()
