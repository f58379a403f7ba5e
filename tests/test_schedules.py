# SPDX-License-Identifier: MIT
"""Schedules go where they say, and remember what they must."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from affine import Affine, fit, make_data

from pygru import schedules


def test_cosine_goes_smoothly_from_one_to_its_end_and_stays_there() -> None:
    schedule = schedules.CosineDecay(epochs=10, final=0.2)
    factors = [schedule(epoch) for epoch in np.linspace(0, 10, 50)]
    assert factors[0] == pytest.approx(1)
    assert factors[-1] == schedule(99) == pytest.approx(0.2)
    assert np.all(np.diff(factors) < 0)


def test_warm_up_hands_over_time_and_losses() -> None:
    schedule = schedules.WarmUp(4, then=schedules.ReduceOnPlateau(factor=0.5, patience=0))
    assert [schedule(epoch) for epoch in (0, 1, 3, 4)] == [0, 0.25, 0.75, 1]
    for loss in (1.0, 1.0):
        schedule.observe(loss)
    assert schedule(4) == 0.5
    other = schedules.WarmUp(4, then=schedules.ReduceOnPlateau(factor=0.5, patience=0))
    other.load_state_dict(schedule.state_dict())
    assert other(4) == 0.5


def test_a_first_loss_is_an_improvement_whatever_the_threshold() -> None:
    for threshold in (0.0, 1.0):
        schedule = schedules.ReduceOnPlateau(factor=0.5, patience=0, threshold=threshold)
        for loss in (-1.0, -3.0, -7.0):  # each below twice the one before
            schedule.observe(loss)
        assert schedule.state_dict() == {"best": -7.0, "waited": 0, "current": 1.0}
        schedule.observe(-7.0)
        assert schedule(4) == 0.5


def test_plateau_waits_for_its_patience_and_stops_at_its_minimum() -> None:
    schedule = schedules.ReduceOnPlateau(factor=0.1, patience=2, minimum=0.05)
    factors = []
    for loss in [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4]:
        schedule.observe(loss)
        factors.append(schedule(0))
    assert factors == [1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]


@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_a_loss_below_zero_can_stand_still_too(loss: float) -> None:
    schedule = schedules.ReduceOnPlateau(factor=0.5, patience=0, threshold=0.01)
    factors = []
    for part in [1, 1, 0.999, 1.001, 1.5]:
        schedule.observe(part * loss)
        factors.append(schedule(0))
    assert factors == [1, 0.5, 0.25, 0.125, 0.125 if loss else 0.0625]


def test_a_state_that_does_not_fit_is_named() -> None:
    where = "ReduceOnPlateau.load_state_dict: state_dict must"
    names = "['best', 'current', 'waited']"
    for schedule in (schedules.ReduceOnPlateau(), schedules.WarmUp(1, schedules.ReduceOnPlateau())):
        with pytest.raises(TypeError, match=f"^{where} map names to values, got NoneType$"):
            schedule.load_state_dict(None)  # type: ignore[arg-type]
        told = f"{where} hold {names}, got one with missing {names}, unknown []"
        with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
            schedule.load_state_dict({})


def test_a_best_loss_that_is_no_number_is_refused() -> None:
    schedule = schedules.ReduceOnPlateau()
    with pytest.raises(ValueError, match=r"load_state_dict: best must be a number, got nan"):
        schedule.load_state_dict({"best": float("nan"), "waited": 0, "current": 1.0})
    assert schedule.state_dict()["best"] == np.inf


@pytest.mark.parametrize("factor, limit", [(0.5, 0.0), (1.0, 1.0), (2.0, np.inf)])
def test_steps_beyond_a_float_end_at_their_limit(factor: float, limit: float) -> None:
    assert schedules.StepDecay(every=1, factor=factor)(1e5) == limit
    assert schedules.StepDecay(every=1e-300, factor=factor)(1e10) == limit


@pytest.mark.parametrize(
    "factor, error",
    [
        *((value, TypeError) for value in (None, "x", [1.0], True)),
        *((value, ValueError) for value in (np.nan, np.inf, -0.5)),
    ],
)
def test_a_schedule_that_gives_no_factor_is_named_and_no_step_is_taken(
    factor: Any, error: type[Exception]
) -> None:
    class Mine(schedules.Schedule):
        def __call__(self, epoch: float) -> float:
            return factor if epoch >= 1 else np.float32(0.5)

    model, other = Affine(), Affine()
    wanted = re.escape("fit: what schedule gives in epoch 2 must be a finite number >= 0, got ")
    with pytest.raises(error, match=wanted + re.escape(repr(factor))):
        fit(model, *make_data(), schedule=Mine())
    fit(other, *make_data(), schedule=Mine(), epochs=1)
    assert np.array_equal(model.flat_params, other.flat_params)


def test_a_factor_may_be_an_array_without_axes() -> None:
    class Mine(schedules.Schedule):
        def __call__(self, epoch: float) -> Any:
            return np.where(epoch < 1, 0.5, 0.1)

    assert fit(Affine(), *make_data(), schedule=Mine(), epochs=1).epochs[0].lr > 0


def test_a_schedule_is_printed_as_it_is_made() -> None:
    plateau = schedules.ReduceOnPlateau(0.5, patience=2)
    plateau.observe(1.0)
    for schedule, told in (
        (schedules.Constant(), "Constant()"),
        (schedules.WarmUp(2, schedules.StepDecay(10)),
         "WarmUp(epochs=2.0, then=StepDecay(every=10.0, factor=0.1))"),
        (plateau, "ReduceOnPlateau(factor=0.5, patience=2, threshold=0.0001, minimum=0.0)"),
    ):  # fmt: skip
        assert repr(schedule) == told


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"StepDecay: every must be above 0, got 0"):
        schedules.StepDecay(every=0)
    with pytest.raises(ValueError, match=r"ReduceOnPlateau: factor must be above 0, got -1"):
        schedules.ReduceOnPlateau(factor=-1)
    with pytest.raises(ValueError, match=r"ReduceOnPlateau: factor must be below 1, got 2.0"):
        schedules.ReduceOnPlateau(2.0)
    with pytest.raises(ValueError, match=r"ReduceOnPlateau: patience must be an integer >= 0, got"):
        schedules.ReduceOnPlateau(patience=-3)
    with pytest.raises(ValueError, match=r"CosineDecay: final must be a number from 0 to 1, got"):
        schedules.CosineDecay(3, final=-5)
    with pytest.raises(TypeError, match=r"WarmUp: then must be a Schedule or None, got 0.5"):
        schedules.WarmUp(1, then=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"WarmUp: epochs must be a number above 0, got '1'"):
        schedules.WarmUp("1")  # type: ignore[arg-type]
