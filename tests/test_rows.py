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

KERNELS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": reference.sigmoid,
    "softmax": reference.softmax,
    "tanh": np.tanh,
}
LAYERS = [pygru.ReLU, pygru.Sigmoid, pygru.Softmax, pygru.Tanh]
# (N, K): rows of fewer values than a register has, and of more than are summed at once
SIZES = [(1, 1), (5, 1), (3, 7), (4, 8), (2, 15), (5, 16), (3, 33), (2, 65), (1, 300)]
EPS = 1e-5


@pytest.fixture(params=KERNELS)
def name(request):
    """Every activation."""
    return request.param


def activation(name, x):
    y = np.empty_like(x)
    _core.activation(name, x, y)
    return y


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


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_kernels_are_the_reference(name, sizes, isa, dtype):
    x = 3 * draw(*sizes, dtype)[0]
    assert_close(activation(name, x), KERNELS[name](x), "reference", name)


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
        in_place = x.copy()
        _core.activation(name, in_place, in_place)
        assert_same_bits({"y": in_place}, {"y": together}, "in place")
        in_place = x.copy()
        _core.layer_norm(in_place, w, b, EPS, in_place, None, None)
        assert_same_bits({"y": in_place}, {"y": normal["y"]}, "in place")
        for i in range(N):
            row = slice(i, i + 1)
            assert_same_bits({"y": activation(name, x[row])}, {"y": together[row]}, f"{i} of {N}")
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
        dx, dx_expected = layer.backward(tape, stored), layer.backward(other, x)
        assert_same_bits({"y": y}, {"y": expected})
        assert_close(dx, dx_expected, "rounding")


def test_avx2_is_avx512(name, dtype, two_widths):
    for sizes in SIZES:
        x, w, b, dy = draw(*sizes, dtype)
        results = []
        for isa in two_widths:
            _core.use_isa(isa)
            results.append(normalise(x, w, b, dy) | {name: activation(name, x)})
        assert_same_bits(*results, f"at {sizes}")


# As in test_bits.py: what every instruction set with fused multiply-add gives.
RECORD = {"float32": "e202f7d7f9072560", "float64": "95066f96dcbbc21e"}


def test_every_machine_gives_the_recorded_bits(dtype, isa):
    if isa == "baseline":
        pytest.skip("multiplies and adds apart")
    digest = hashlib.blake2b(digest_size=8)
    for N, K in SIZES:
        n = np.arange(1.0, 2 * (N * K + K) + 1)
        values = (np.float32(4) * (2 * (n * n * 0.6180339887498949 % 1) - 1)).astype(dtype)
        x, dy = values[: N * K].reshape(N, K), values[N * K : 2 * N * K].reshape(N, K)
        w, b = values[2 * N * K :].reshape(2, K)
        for array in (*(activation(key, x) for key in KERNELS), *normalise(x, w, b, dy).values()):
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
    assert pygru.Tanh()(0.0).shape == ()
    with pytest.raises(ValueError, match=r"^Softmax.forward: x must have shape \(..., K\), got"):
        pygru.Softmax()(0.0)
    norm = pygru.LayerNorm(4, dtype=dtype)
    y, tape = norm.forward(np.zeros((2, 0, 4), dtype))
    assert y.shape == norm.backward(tape, y).shape == (2, 0, 4)


def test_layer_norm_refuses_arrays_that_do_not_fit():
    x, w, b, dy = draw(2, 3, np.float32)
    good = {"x": x, "w": w, "b": b, "eps": EPS, "y": dy, "n": x.copy(), "scale": x[:, 0].copy()}
    for key, wrong in (
        ("x", x[0]), ("x", x[:, ::2]), ("w", w[:2]), ("b", b[:2]), ("y", x[:1]), ("n", x[:, :2]),
        ("scale", w), ("scale", x[:, 0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="_core: "):
            _core.layer_norm(**good | {key: wrong})
    back = {"n": x, "scale": x[:, 0].copy(), "w": w, "dy": dy, "dx": x.copy(), "dw": w, "db": b}
    for key, wrong in (
        ("n", x[0]), ("scale", w), ("w", b[:2]), ("dy", dy[:1]), ("dx", x[:, :2]), ("dw", w[:2]),
        ("db", b[:2]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="_core: "):
            _core.layer_norm_backward(**back | {key: wrong})
    with pytest.raises(TypeError, match="_core: w must be an array of float32"):
        _core.layer_norm(**good | {"w": w.astype(float)})
