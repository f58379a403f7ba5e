# SPDX-License-Identifier: MIT
"""A loss, gradient or parameter that becomes NaN, infinite or too large ends a training, named."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from affine import Affine, fit, make_data
from tolerances import assert_close

from pygru import losses, optim, schedules
from pygru.clipping import clip_by_global_norm


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_breaks_names_epoch_and_step_and_restores(bad: float) -> None:
    calls: list[Any] = []

    def loss(y: Any, target: Any) -> Any:
        value, dy = losses.mse(y, target)
        calls.append(model.flat_params.copy())
        return (bad, dy) if len(calls) == 14 else (value, dy)

    model, optimizer = Affine(), optim.SGD(0.1)
    schedule = schedules.StepDecay(every=1)
    with pytest.raises(FloatingPointError, match=rf"the loss became {bad} in epoch 2, step 4;"):
        fit(model, *make_data(), loss=loss, optimizer=optimizer, schedule=schedule)
    assert np.array_equal(model.flat_params, calls[12])
    assert optimizer.lr == 0.1


def test_divergence_is_found_and_leaves_finite_parameters() -> None:
    model = Affine(dtype=np.float32)
    with pytest.raises(FloatingPointError, match=r"epoch \d+, step \d+"):
        fit(model, *make_data(), optimizer=optim.SGD(1e6), epochs=20)
    assert np.isfinite(model.flat_params).all()


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("make", [optim.Adam, optim.RMSprop, lambda: optim.SGD(0.1, momentum=0.9)])
def test_a_gradient_that_breaks_is_found_and_does_not_reach_the_optimiser(
    make: Any, bad: float, clip_norm: float | None
) -> None:
    def spoil(flat_grads: Any) -> None:
        if optimizer.steps == 4:
            before.extend([optimizer.state_dict(), model.flat_params.copy()])
            flat_grads[-1] = bad

    model, optimizer, before = Affine(), make(), []
    with pytest.raises(FloatingPointError, match=r"the gradient became NaN .* epoch 1, step 5;"):
        fit(model, *make_data(), optimizer=optimizer, on_gradient=spoil, clip_norm=clip_norm)
    after = optimizer.state_dict()
    assert all(np.array_equal(after[name], value) for name, value in before[0].items())
    assert np.array_equal(model.flat_params, before[1])
    fit(model, *make_data(), optimizer=optimizer)  # goes on


@pytest.mark.parametrize("large, momentum", [(1e30, 0.9), (1e38, 0.0)])  # the latter: no state
def test_a_gradient_too_large_for_its_square_is_still_a_gradient(
    large: float, momentum: float
) -> None:
    def enlarge(flat_grads: Any) -> None:
        flat_grads[:] = large

    model, optimizer = Affine(dtype=np.float32), optim.SGD(1 / large, momentum)
    fit(model, *make_data(10), optimizer=optimizer, on_gradient=enlarge, epochs=1)
    assert_close(model.flat_params, [-1.0, -1.0], "rounding")


@pytest.mark.parametrize("make", [optim.Adam, optim.AdamW, optim.RMSprop])
@pytest.mark.parametrize("clip_norm", [None, 1e25])
@pytest.mark.parametrize("large", [2e19, 1.5e19])  # the second: not at once, but with those before
def test_a_gradient_too_large_for_the_moments_does_not_reach_the_optimiser(
    make: Any, clip_norm: float | None, large: float
) -> None:
    def enlarge(flat_grads: Any) -> None:
        before[:] = [optimizer.state_dict(), model.flat_params.copy()]
        flat_grads[0] = large

    model, optimizer, before = Affine(dtype=np.float32), make(), []
    name = make.__name__
    with pytest.raises(FloatingPointError, match=f"the gradient became too large for {name} in ep"):
        fit(model, *make_data(), optimizer=optimizer, on_gradient=enlarge, clip_norm=clip_norm)
    after = optimizer.state_dict()
    assert all(np.array_equal(after[name], value) for name, value in before[0].items())
    assert np.array_equal(model.flat_params, before[1])
    fit(model, *make_data(), optimizer=optimizer, on_gradient=enlarge, clip_norm=1.0)  # clipped


def test_an_optimiser_is_called_once_a_step_however_large_the_gradient() -> None:
    class Counting(optim.SGD):
        def __init__(self) -> None:
            super().__init__(1e-30)
            self.lock, self.calls = threading.Lock(), 0  # which no copy can be made of

        def step(self, flat_params: Any, flat_grads: Any) -> None:
            self.calls += 1
            super().step(flat_params, flat_grads)

    def enlarge(flat_grads: Any) -> None:
        flat_grads[0] = 1e25

    optimizer = Counting()
    history = fit(Affine(dtype=np.float32), *make_data(), optimizer=optimizer, on_gradient=enlarge)
    assert optimizer.calls == sum(epoch.steps for epoch in history.epochs)


def test_a_parameter_that_breaks_in_the_last_step_is_found() -> None:
    class Broken(optim.SGD):
        def step(self, flat_params: Any, flat_grads: Any) -> None:
            super().step(flat_params, np.full_like(flat_grads, np.inf))

    model = Affine()
    with pytest.raises(FloatingPointError, match=r"a parameter became NaN .* epoch 1, step 1;"):
        fit(model, *make_data(10), optimizer=Broken(), epochs=1)
    assert np.isfinite(model.flat_params).all()


def test_a_hook_that_returns_another_gradient_is_refused() -> None:
    model, optimizer = Affine(), optim.SGD(0.1)
    before = model.flat_params.copy()
    told = "^fit: on_gradient must change the gradient in place, got one that returns another$"
    with pytest.raises(TypeError, match=told):
        fit(model, *make_data(), optimizer=optimizer, on_gradient=lambda grads: grads * 0)
    assert np.array_equal(model.flat_params, before)
    for hook in (
        lambda grads: np.clip(grads, -1, 1, out=grads),
        lambda grads: clip_by_global_norm(grads, 1.0),
        lambda grads: grads[:],
        np.linalg.norm,
    ):
        fit(model, *make_data(), optimizer=optimizer, on_gradient=hook)
