# SPDX-License-Identifier: MIT
"""Every optimiser against its published equations, its state, and clipping."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from model_problems import through_shared_memory
from tolerances import assert_close

from pygru import clipping, optim
from pygru.optimizer import BLOCK

MAKERS: dict[str, Callable[[], optim.Optimizer]] = {
    "SGD": lambda: optim.SGD(0.1),
    "momentum": lambda: optim.SGD(0.1, momentum=0.9),
    "nesterov": lambda: optim.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: optim.Adam(0.01, betas=(0.8, 0.95), eps=1e-3),
    "AdamW": lambda: optim.AdamW(0.01, weight_decay=0.3),
    "RMSprop": lambda: optim.RMSprop(0.01, alpha=0.9, eps=1e-3),
}


def as_published(name: str, p: Any, gradients: list[Any]) -> Any:
    """The equations of each optimiser, line by line as in its paper."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        if name == "SGD":
            p = p - 0.1 * g
        elif name in ("momentum", "nesterov"):
            v = 0.9 * v + g
            p = p - 0.1 * (g + 0.9 * v if name == "nesterov" else v)
        elif name == "RMSprop":
            v = 0.9 * v + (1 - 0.9) * g**2
            p = p - 0.01 * g / (np.sqrt(v) + 1e-3)
        else:
            beta_1, beta_2, eps = (0.8, 0.95, 1e-3) if name == "Adam" else (0.9, 0.999, 1e-8)
            if name == "AdamW":
                p = p - 0.01 * 0.3 * p
            m = beta_1 * m + (1 - beta_1) * g
            v = beta_2 * v + (1 - beta_2) * g**2
            m_hat = m / (1 - beta_1**t)
            v_hat = v / (1 - beta_2**t)
            p = p - 0.01 * m_hat / (np.sqrt(v_hat) + eps)
    return p


def draw(size: int, steps: int, dtype: Any = np.float64) -> tuple[Any, list[Any]]:
    """Random parameters, and a gradient for each step."""
    rng = np.random.default_rng(size)
    gradients = [rng.standard_normal(size).astype(dtype) for _ in range(steps)]
    return rng.standard_normal(size).astype(dtype), gradients


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 1000, BLOCK + 7])
@pytest.mark.parametrize("name", MAKERS)
def test_ten_steps_equal_the_published_equations(name: str, size: int, dtype: Any) -> None:
    params, gradients = draw(size, 10, dtype)
    expected = as_published(name, params.astype(np.float64), [g.astype(float) for g in gradients])
    optimizer = MAKERS[name]()
    for gradient in gradients:
        gradient.flags.writeable = False
        optimizer.step(params, gradient)
    assert params.dtype == dtype
    assert_close(params, expected, "rounding", name)


@pytest.mark.parametrize("stop", [0, 1, 5])
@pytest.mark.parametrize("name", MAKERS)
def test_stopping_and_going_on_equals_never_stopping(name: str, stop: int) -> None:
    params, gradients = draw(100, 10)
    resumed = params.copy()
    optimizer = MAKERS[name]()
    for gradient in gradients:
        optimizer.step(params, gradient)

    first, second = MAKERS[name](), MAKERS[name]()
    for gradient in gradients[:stop]:
        first.step(resumed, gradient)
    second.load_state_dict(first.state_dict())
    for gradient in gradients[stop:]:
        second.step(resumed, gradient)
    assert np.array_equal(params, resumed)
    assert second.steps == 10


@pytest.mark.parametrize("name", MAKERS)
def test_an_optimiser_from_memory_that_processes_share_goes_on(name: str) -> None:
    params, gradients = draw(100, 2)
    optimizer = MAKERS[name]()
    optimizer.step(params, gradients[0])
    resumed, other = params.copy(), through_shared_memory(optimizer)
    optimizer.step(params, gradients[1])
    other.step(resumed, gradients[1])
    assert np.array_equal(params, resumed)


def test_the_state_is_a_copy_and_takes_the_settings_along() -> None:
    optimizer = optim.Adam(0.5)
    params, gradients = draw(3, 2)
    optimizer.step(params, gradients[0])
    state = optimizer.state_dict()
    before = state["m"].copy()
    optimizer.step(params, gradients[1])
    assert np.array_equal(state["m"], before)

    other = optim.Adam(0.1, betas=(0.5, 0.5))
    other.load_state_dict(state)
    assert (other.lr, other.betas, other.steps) == (0.5, (0.9, 0.999), 1)
    other.step(params, gradients[1])
    assert np.array_equal(state["m"], before)


def test_the_learning_rate_may_change_between_steps() -> None:
    optimizer, params = optim.SGD(1.0), np.zeros(1)
    optimizer.step(params, np.ones(1))
    optimizer.lr = 0.5
    optimizer.step(params, np.ones(1))
    assert params[0] == -1.5


def test_a_momentum_may_change_between_steps_and_come_or_go() -> None:
    optimizer, params = optim.SGD(1.0), np.zeros(1)
    optimizer.step(params, np.ones(1))
    for momentum, p in [(0.5, -2.0), (0.25, -3.25), (0.0, -4.25), (0.5, -5.25), (0.5, -6.75)]:
        optimizer.momentum = momentum
        optimizer.step(params, np.ones(1))
        assert params[0] == p
        again = optim.SGD()
        again.load_state_dict(optimizer.state_dict())
        assert again.momentum == momentum
    with pytest.raises(ValueError, match=r"^SGD: momentum must satisfy .* < 1, got 1$"):
        optimizer.momentum = 1
    assert optimizer.momentum == 0.5


def test_a_state_takes_along_which_arrays_there_are() -> None:
    params, gradients = draw(3, 2)
    first, second = optim.SGD(0.1, momentum=0.9), optim.SGD(0.01)
    first.step(params, gradients[0])
    second.load_state_dict(first.state_dict())
    other = params.copy()
    first.step(params, gradients[1])
    second.step(other, gradients[1])
    assert np.array_equal(params, other)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    optimizer = optim.Adam(0.5)
    params, gradients = draw(3, 1)
    optimizer.step(params, gradients[0])
    good = optimizer.state_dict()
    bad = [
        (optim.RMSprop().state_dict(), r"must be of type 'Adam', got 'RMSprop'"),
        ({k: a for k, a in good.items() if k != "v"}, r"missing \['v'\]"),
        (good | {"w": 1, 3: 1}, r"unknown \[3, 'w'\]"),
        (None, "^Adam.load_state_dict: state_dict must map names to values, got NoneType$"),
        ({}, "^Adam.load_state_dict: state_dict must be of type 'Adam', got None$"),
        (good | {"m": [[1], [1, 2]]}, "m must be one array, got nested sequences of unequal"),
        (good | {"steps": np.zeros(2)}, "steps must be an integer from 0 to .*, got array"),
        (good | {"v": np.zeros(4)}, r"one shape \(P,\) and dtype, got .*\(3,\).*\(4,\)"),
        (good | {"v": good["v"].astype(np.float32)}, r"one shape \(P,\) and dtype, got .*float32"),
        (good | {"m": np.full(3, np.nan)}, "m must hold finite numbers, got nan"),
        (good | {"m": np.array([1, -np.inf, 1])}, "m must hold finite numbers, got -inf"),
        (good | {"v": np.array([1, np.inf, 1])}, "v must hold finite numbers >= 0, got inf"),
        (good | {"v": np.array([1, 2, -3.0])}, "v must hold finite numbers >= 0, got -3.0"),
        (good | {"steps": -3}, "steps must be an integer from 0 to .*, got -3"),
        (good | {"steps": 10**400}, "steps must be an integer from 0 to .*, got 1000"),
        (good | {"lr": 10**400}, "lr must be a number and fit in a float, got an integer beyond"),
        (good | {"lr": "x"}, "load_state_dict: lr must be a number, got 'x'"),
        (good | {"lr": -1.0}, "load_state_dict: lr must satisfy 0 <= lr < inf, got -1.0"),
        (good | {"betas": [0.9]}, r"load_state_dict: betas must be 2 numbers, got \[0.9\]"),
        (good | {"betas": [0.9, 2]}, r"betas\[1\] must satisfy .* < 1, got 2"),
    ]
    for state, message in bad:
        with pytest.raises((TypeError, ValueError), match=message):
            optimizer.load_state_dict(state)
        after = optimizer.state_dict()
        assert all(np.array_equal(after[name], good[name]) for name in good)


def test_a_velocity_may_be_negative() -> None:
    optimizer = optim.SGD(0.1, momentum=0.9)
    optimizer.step(np.zeros(3), -np.ones(3))
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state_dict()["v"].tolist() == [-1, -1, -1]


def test_steps_on_other_parameters_are_refused() -> None:
    optimizer = optim.Adam()
    with pytest.raises(ValueError, match=r"shape \(P,\), got \(2, 2\) float64"):
        optimizer.step(np.zeros((2, 2)), np.zeros((2, 2)))
    optimizer.step(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"parameters \(3,\) float64, got \(4,\) .*; make another"):
        optimizer.step(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"flat_grads must be like .* got \(3,\) float32"):
        optimizer.step(np.zeros(3), np.zeros(3, np.float32))


def test_what_is_no_array_is_named() -> None:
    optimizer, array = optim.Adam(), np.ones(2)
    with pytest.raises(TypeError, match="flat_params and flat_grads must be arrays, got list"):
        optimizer.step([1.0, 1.0], array)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="flat_params and flat_grads must be arrays, got None"):
        optimizer.step(array, None)  # type: ignore[arg-type]
    assert optimizer.steps == 0


@pytest.mark.parametrize("clip", [clipping.clip_by_global_norm, clipping.clip_by_value])
def test_what_cannot_be_clipped_in_place_is_named(clip: Any) -> None:
    frozen = np.full(2, 9.0)
    frozen.flags.writeable = False
    masked = np.ma.masked_array([3.0, 4.0], mask=[False, True])
    for gradients, error, message in (
        ([3.0, 4.0], TypeError, "must be a floating array, got list"),
        (np.array([3, 4], np.int64), TypeError, "must be a floating array, got dtype int64"),
        (frozen, ValueError, "must be writeable, got a read-only array"),
        (masked, ValueError, r"must have no masked elements, got some in \(2,\)"),
    ):
        with pytest.raises(error, match=f"^{clip.__name__}: flat_grads {message}$"):
            clip(gradients, 1.0)


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_that_is_refused_changes_nothing(name: str) -> None:
    optimizer, params, gradients = MAKERS[name](), *draw(4, 1)
    frozen, shifted = params.copy(), np.zeros(33, np.int8)[1:].view(np.float64)  # not aligned
    frozen.flags.writeable = False
    bad = [
        (np.zeros(8)[::2], np.zeros(4), r"flat_params must be contiguous, .* strides \(16,\)"),
        (np.zeros(4), np.zeros(8)[::2], r"flat_grads must be contiguous and .* strides \(16,\)"),
        (frozen, np.zeros(4), r"step: flat_params must be .* writeable, .* writeable=False"),
        (shifted, np.zeros(4), r"step: flat_params must be .* aligned .* aligned=False"),
        (np.zeros(4), shifted, r"step: flat_grads must be .* aligned, .* aligned=False"),
        (np.zeros(3), np.zeros(4), r"step: flat_grads must be like flat_params, \(3,\)"),
        (np.zeros(3, np.float16), np.zeros(3, np.float16), r"must be a float32 or float64 array"),
    ]
    for p, g, message in bad:
        with pytest.raises(ValueError, match=message):
            optimizer.step(p, g)
    assert optimizer.steps == 0
    optimizer.step(params, gradients[0])  # of a size of its own
    assert optimizer.steps == 1


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: optim.Adam(-1), r"Adam: lr must satisfy 0 <= lr < inf, got -1"),
        (lambda: optim.Adam(float("nan")), r"Adam: lr .* got nan"),
        (lambda: optim.Adam(betas=(0.9, 1.0)), r"Adam: betas\[1\] .* < 1, got 1.0"),
        (lambda: optim.SGD(momentum=1), r"SGD: momentum .* got 1"),
        (lambda: optim.SGD(nesterov=True), r"SGD: nesterov needs a momentum"),
        (lambda: optim.AdamW(weight_decay=-1), r"AdamW: weight_decay .* got -1"),
        (lambda: optim.RMSprop(alpha=2), r"RMSprop: alpha .* got 2"),
    ],
)
def test_settings_out_of_range_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("lr", -1, r"^AdamW: lr must satisfy 0 <= lr < inf, got -1$"),
        ("lr", float("nan"), r"lr .* got nan"),
        ("betas", (0.9, 1.0), r"^AdamW: betas\[1\] .* < 1, got 1.0$"),
        ("weight_decay", -1, r"weight_decay .* got -1"),
    ],
)
def test_a_setting_out_of_range_is_named_whenever_it_is_set(
    name: str, value: Any, message: str
) -> None:
    optimizer = optim.AdamW()
    before = getattr(optimizer, name)
    with pytest.raises(ValueError, match=message):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before


@pytest.mark.parametrize("name", MAKERS)
def test_a_copy_is_an_optimiser_of_its_own(name: str) -> None:
    first, (params, gradients) = MAKERS[name](), draw(4, 2)
    first.step(params, gradients[0])
    second = copy.copy(first)
    ours, theirs = params.copy(), params.copy()
    first.step(ours, gradients[1])
    second.step(theirs, gradients[1])  # from the state before that
    assert np.array_equal(ours, theirs)


def test_settings_of_a_wrong_kind_are_named() -> None:
    for betas in (0.9, (0.9, 0.99, 0.999)):
        with pytest.raises(TypeError, match="AdamW: betas must be 2 numbers, got "):
            optim.AdamW(betas=betas)  # type: ignore[arg-type]
    for clip in (clipping.clip_by_global_norm, clipping.clip_by_value):
        with pytest.raises(
            TypeError, match=r"clip_by_.*: max_.* must be a number above 0, got '1'"
        ):
            clip(np.ones(2), "1")  # type: ignore[operator]


def test_clipping_by_global_norm_scales_only_what_is_too_long() -> None:
    gradients = np.array([3.0, 4.0])
    assert clipping.clip_by_global_norm(gradients, 10.0) == 5.0
    assert gradients.tolist() == [3.0, 4.0]
    assert clipping.clip_by_global_norm(gradients, 2.5) == 5.0
    assert_close(gradients, [1.5, 2.0], "rounding")
    for wrong in (0, np.nan):
        with pytest.raises(ValueError, match=f"max_norm must be above 0, got {wrong}"):
            clipping.clip_by_global_norm(gradients, wrong)


def test_clipping_by_global_norm_survives_what_cannot_be_squared() -> None:
    gradients = np.array([3e30, 4e30], np.float32)
    assert clipping.clip_by_global_norm(gradients, 1.0) == pytest.approx(5e30)
    assert_close(gradients, [0.6, 0.8], "rounding")
    gradients = np.array([3e200, 4e200])
    assert clipping.clip_by_global_norm(gradients, 1.0) == pytest.approx(5e200)
    assert_close(gradients, [0.6, 0.8], "rounding")
    tiny = np.array([2e-154, 1e-154, 1e-154])  # only the first one's square is no denormal
    assert clipping.clip_by_global_norm(tiny, 1.0) == pytest.approx(6**0.5 * 1e-154, 1e-9, abs=0)
    for bad in (np.nan, np.inf):
        broken = np.array([bad, 1.0])
        assert np.array_equal(clipping.clip_by_global_norm(broken, 1.0), bad, equal_nan=True)
        assert np.array_equal(broken, [bad, 1.0], equal_nan=True)


def test_clipping_by_value() -> None:
    gradients = np.array([3.0, -0.5, -7.0])
    clipping.clip_by_value(gradients, 2.0)
    assert gradients.tolist() == [2.0, -0.5, -2.0]
    with pytest.raises(ValueError, match="max_value must be above 0, got -1"):
        clipping.clip_by_value(gradients, -1)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop"])
def test_the_decay_of_a_mean_may_change_between_steps(name: str) -> None:
    params, gradients = draw(3, 6)
    plain, m, v = params.copy(), np.zeros(3), np.zeros(3)
    optimizer = MAKERS[name]()
    for t, g in enumerate(gradients, start=1):
        beta_1, beta_2 = (0.8, 0.95) if t < 4 else (0.5, 0.7)
        if isinstance(optimizer, optim.RMSprop):
            optimizer.alpha = beta_2
            beta_1, rate, eps = 0.0, 0.01, 1e-3
        else:
            optimizer.betas = (beta_1, beta_2)
            rate, eps = 0.01, optimizer.eps
            plain -= rate * getattr(optimizer, "weight_decay", 0.0) * plain
        optimizer.step(params, g)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        m_hat, v_hat = (m, v) if name == "RMSprop" else (m / (1 - beta_1**t), v / (1 - beta_2**t))
        plain -= rate * m_hat / (np.sqrt(v_hat) + eps)
    assert_close(params, plain, "reference")


def test_a_switch_is_checked_whenever_it_is_set() -> None:
    optimizer = optim.SGD(0.1, momentum=0.9)
    with pytest.raises(TypeError, match=r"^SGD: nesterov must be True or False, got 'no'$"):
        optimizer.nesterov = "no"  # type: ignore[assignment]
    optimizer.nesterov = True
    assert optimizer.state_dict()["nesterov"] is True


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_norm_whose_squares_vanish_is_seen(dtype: Any) -> None:
    small = 1e-25 if dtype == np.float32 else 1e-200
    grads = np.full(4, small, dtype)
    assert_close(clipping.clip_by_global_norm(grads, small / 10), 2 * small, "rounding")
    assert_close(np.abs(grads / dtype(small)).max(), 0.05, "rounding")
    for size in (3, 0):
        assert clipping.clip_by_global_norm(np.zeros(size, dtype), 1.0) == 0.0


def test_a_type_that_is_no_name_is_told() -> None:
    state = optim.Adam().state_dict() | {"type": np.array(["Adam", "Adam"])}
    with pytest.raises(ValueError, match=r"state_dict must be of type 'Adam', got array\("):
        optim.Adam().load_state_dict(state)


@pytest.mark.parametrize(
    "make",
    [optim.Adam, optim.AdamW, optim.RMSprop, lambda: optim.SGD(0.1, momentum=0.5, nesterov=True)],
)
def test_the_state_goes_through_a_file_of_numpys_own(make: Any, tmp_path: Any) -> None:
    first, second, params = make(), make(), np.ones(3)
    first.lr = 0.03125
    first.step(params, np.arange(3.0))
    np.savez(tmp_path / "state.npz", **first.state_dict())
    with np.load(tmp_path / "state.npz") as file:
        second.load_state_dict(dict(file))
    assert repr(second.state_dict()) == repr(first.state_dict())
