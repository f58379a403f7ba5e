# SPDX-License-Identifier: MIT
"""Initial values are what their names promise, alone and as the scheme of a layer."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

import pygru
from pygru.initializers import constant, glorot_uniform, normal, orthogonal, uniform

SCHEMES = ("pytorch", "keras", "tensorflow1", "zeros")


def test_glorot_uniform_fills_its_interval(rng):
    values = glorot_uniform((300, 100), rng=rng)
    limit = np.sqrt(6 / 400)
    assert np.abs(values).max() <= limit
    assert np.abs(values).max() > 0.99 * limit
    assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)


def test_uniform_constant_and_normal_take_their_parameters(rng):
    values = uniform((1000,), 2.0, 3.0, rng=rng)
    assert values.min() >= 2.0
    assert values.max() < 3.0
    assert np.array_equal(constant((2, 3), 1.5), np.full((2, 3), 1.5))
    values = normal((10000,), 1.0, 0.1, rng=rng)
    assert values.mean() == pytest.approx(1.0, abs=0.01)
    assert values.std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("shape", [(12, 4), (4, 12), (5, 5), (1, 1)])
def test_orthogonal_has_orthonormal_columns_or_rows(shape, rng):
    U = orthogonal(shape, rng=rng)
    assert U.shape == shape
    gram = U.T @ U if shape[0] >= shape[1] else U @ U.T
    assert_close(gram, np.eye(min(shape)), "reference")
    assert_close(orthogonal(shape, 2.0, rng=1), 2.0 * orthogonal(shape, rng=1), "rounding")


def test_orthogonal_draws_both_signs():
    assert {orthogonal((1, 1), rng=seed).item() for seed in range(9)} == {-1.0, 1.0}


def test_orthogonal_is_for_matrices_only():
    with pytest.raises(
        ValueError, match=r"orthogonal: shape must be \(outputs, inputs\), got \(3,"
    ):
        orthogonal((3, 2, 1))


@pytest.mark.parametrize("initializer", [uniform, normal, glorot_uniform, orthogonal])
def test_a_seed_decides_everything_and_no_global_state_is_touched(initializer):
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert np.array_equal(initializer((3, 4), rng=7), initializer((3, 4), rng=7))
    assert not np.array_equal(initializer((3, 4), rng=7), initializer((3, 4), rng=8))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "layer", [pygru.GRU(5, 64, num_layers=2, rng=0), pygru.Linear(64, 99, rng=0)]
)
def test_pytorch_scheme_is_uniform_in_one_over_root_h(layer):
    for name, values in layer.params.items():
        assert np.abs(values).max() <= 1 / 8, name
        assert np.abs(values).max() > 0.9 / 8, name


def test_keras_scheme_is_glorot_and_orthogonal():
    gru = pygru.GRU(5, 16, init="keras", dtype=np.float64, rng=0)
    W, U = gru.params["weight_ih_l0"], gru.params["weight_hh_l0"]
    assert 0.9 < np.abs(W).max() / np.sqrt(6 / (5 + 48)) <= 1.0
    assert_close(U.T @ U, np.eye(16), "reference")
    assert not gru.params["bias_ih_l0"].any()
    assert not gru.params["bias_hh_l0"].any()


@pytest.mark.parametrize("reset", ["after", "before"])
def test_tensorflow1_scheme_is_glorot_over_fused_matrices_with_gate_bias_one(reset):
    I, H = 3, 64  # noqa: E741
    gru = pygru.GRU(I, H, reset=reset, init="tensorflow1", rng=0)
    fused = np.hstack([gru.params["weight_ih_l0"], gru.params["weight_hh_l0"]])
    gates, candidate = fused[: 2 * H], fused[2 * H :]
    rounding = TOLERANCES["rounding"]["float32"]
    assert 0.99 < np.abs(gates).max() / np.sqrt(6 / (I + H + 2 * H)) <= 1.0 + rounding
    assert 0.99 < np.abs(candidate).max() / np.sqrt(6 / (I + H + H)) <= 1.0 + rounding
    bias = gru.params["bias_ih_l0"] + gru.params["bias_hh_l0"]
    assert np.array_equal(bias, np.repeat([1.0, 1.0, 0.0], H))


@pytest.mark.parametrize("init", SCHEMES)
def test_every_scheme_fills_every_layer(init):
    for layer in (
        pygru.GRU(3, 8, num_layers=2, bidirectional=True, init=init, rng=0),
        pygru.RNN(3, 8, bias=False, init=init, rng=0),
        pygru.Linear(3, 8, init=init, rng=0),
        pygru.Embedding(3, 8, init=init, rng=0),
    ):
        assert np.isfinite(layer.flat_params).all()
        assert layer.flat_params.any() == (init != "zeros")


def test_a_seed_means_the_same_weights_in_both_precisions():
    single, double = (pygru.GRU(3, 8, dtype=d, rng=0) for d in (np.float32, np.float64))
    assert np.array_equal(single.flat_params, double.flat_params.astype(np.float32))


def test_initializers_can_be_given_by_parameter_and_by_kind():
    ones = functools.partial(constant, value=1.0)
    gru = pygru.GRU(3, 8, 2, rng=0, init={"bias_hh": ones, "bias_hh_l1": constant})
    assert (gru.params["bias_hh_l0"] == 1.0).all()
    assert (gru.params["bias_hh_l1"] == 0.0).all()
    assert np.array_equal(
        gru.params["weight_hh_l0"], pygru.GRU(3, 8, 2, rng=0).params["weight_hh_l0"]
    )


def test_wrong_initial_values_are_refused_by_name():
    def too_short(shape, *, rng):
        return rng.random(shape[0] // 8)

    with pytest.raises(ValueError, match=r"GRU: init must be one of .*, got 'xavier'"):
        pygru.GRU(3, 8, init="xavier")
    with pytest.raises(
        TypeError, match=r"RNN: init must be .* or a mapping such as \{'weight_hh': "
    ):
        pygru.RNN(3, 8, init=orthogonal)
    with pytest.raises(TypeError, match=r"Linear: init must be one of"):
        pygru.Linear(3, 8, init=3)
    with pytest.raises(ValueError, match=r"got \['weight_ih_l1'\]"):
        pygru.GRU(3, 8, init={"weight_ih_l1": orthogonal})
    for wrong in (3, "orthogonal", None):
        with pytest.raises(TypeError, match=r"GRU: init of weight_hh must be a callable .*, got"):
            pygru.GRU(3, 8, init={"weight_hh": wrong})
    with pytest.raises(ValueError, match=r"init of bias_ih_l0 must give shape \(24,\), got \(3,\)"):
        pygru.GRU(3, 8, init={"bias_ih": too_short})


@pytest.mark.parametrize(
    ("initializer", "arguments", "error", "message"),
    [
        (constant, (None,), TypeError, "constant: value must be a number, got None"),
        (constant, ("2",), TypeError, "constant: value must be a number, got '2'"),
        (constant, (np.nan,), ValueError, "constant: value must be finite, got nan"),
        (uniform, (0.0, np.inf), ValueError, "uniform: high must be finite, got inf"),
        (uniform, (1.0, -1.0), ValueError, "uniform: high - low must be finite and >= 0, got -1"),
        (uniform, (-1e308, 1e308), ValueError, "uniform: high - low must be finite and >= 0"),
        (normal, (np.nan,), ValueError, "normal: mean must be finite, got nan"),
        (normal, (0.0, -1.0), ValueError, "normal: std must be at least 0, got -1"),
        (orthogonal, (np.inf,), ValueError, "orthogonal: gain must be finite, got inf"),
        (orthogonal, ("2",), TypeError, "orthogonal: gain must be a number, got '2'"),
    ],
)
def test_what_is_no_value_to_begin_with_is_named(initializer, arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        initializer((3, 2), *arguments)


def test_a_gain_without_a_sign_keeps_the_signs():
    assert np.array_equal(orthogonal((3, 2), np.uint8(2), rng=0), orthogonal((3, 2), 2.0, rng=0))


def test_a_shape_that_is_none_is_named():
    for initializer in (glorot_uniform, orthogonal):
        name = initializer.__name__
        for wrong in (None, 3, "32"):
            with pytest.raises(TypeError, match=f"^{name}: shape must be a tuple of sizes, got"):
                initializer(wrong)
        with pytest.raises(ValueError, match=rf"^{name}: shape\[0\] must be an integer >= 1"):
            initializer((0, 0))
        with pytest.raises(ValueError, match=rf"^{name}: shape must be \(outputs, inputs\)"):
            initializer(())
