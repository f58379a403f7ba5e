# SPDX-License-Identifier: MIT
"""Schedules go where they say, and remember what they must."""

from __future__ import annotations

import re

import numpy as np
import pytest

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


def test_plateau_waits_for_its_patience_and_stops_at_its_minimum() -> None:
    schedule = schedules.ReduceOnPlateau(factor=0.1, patience=2, minimum=0.05)
    factors = []
    for loss in [1.0, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4]:
        schedule.observe(loss)
        factors.append(schedule(0))
    assert factors == [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]


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
