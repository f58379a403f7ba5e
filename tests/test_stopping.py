# SPDX-License-Identifier: MIT
"""Ways for a training to end before its last epoch: patience, Ctrl-C once, Ctrl-C twice."""

from __future__ import annotations

import signal
import threading
from typing import Any

import numpy as np
import pytest

import pygru
from pygru import optim, schedules
from pygru.interrupts import Interrupts


def fit(model: Any, **changes: Any) -> Any:
    X = np.random.default_rng(0).standard_normal((30, 1))
    settings: dict[str, Any] = {
        "loss": "mse",
        "optimizer": optim.SGD(0.1),
        "epochs": 9,
        "batch_size": 10,
        "verbose": 0,
        "rng": 0,
    }
    return pygru.fit(model, X, 3 * X, **(settings | changes))


def build() -> Any:
    return pygru.Linear(1, 1, dtype=np.float64, init="zeros")


def worsen_after(epoch: int) -> Any:
    """A callback that keeps the parameters of each epoch, then spoils them from one epoch on."""

    def callback(record: Any, model: Any) -> None:
        callback.kept.append(model.flat_params.copy())  # type: ignore[attr-defined]
        if record.epoch >= epoch:
            model.flat_params[:] -= 10 * record.epoch

    callback.kept = []  # type: ignore[attr-defined]
    return callback


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_ends_the_training_and_restores_the_best_epoch(patience: int) -> None:
    model, spoil = build(), worsen_after(2)
    history = fit(model, patience=patience, callbacks=[spoil], optimizer=optim.SGD(0.001))
    assert history.best.epoch == 2
    assert len(history.epochs) == 2 + patience
    assert np.array_equal(model.flat_params, spoil.kept[1])
    assert not history.interrupted


def test_the_best_epoch_is_restored_when_patience_was_not_needed() -> None:
    model, spoil = build(), worsen_after(7)
    history = fit(model, patience=8, callbacks=[spoil], optimizer=optim.SGD(0.001))
    assert len(history.epochs) == 9
    assert np.array_equal(model.flat_params, spoil.kept[6])


def test_a_loss_that_stays_the_same_does_not_improve() -> None:
    in_order = pygru.data.ContiguousBatches(choices=1)
    history = fit(build(), patience=2, optimizer=optim.SGD(0.0), sampler=in_order)
    assert len(history.epochs) == 3
    assert history.best.epoch == 1


def test_patience_watches_the_validation_loss() -> None:
    model = build()
    validation = (np.ones((4, 1)), np.zeros((4, 1)))  # the better the training, the worse this
    history = fit(model, patience=2, validation=validation)
    assert len(history.epochs) == 3
    assert history.best.epoch == 1
    assert history.best.validation == min(history.validation)
    schedule = schedules.ReduceOnPlateau(0.5, patience=0)
    history = fit(build(), validation=validation, schedule=schedule, epochs=3)
    assert history["lr"] == [0.1, 0.1, 0.05]
    with pytest.raises(ValueError, match="fit: patience must be an integer >= 1, got 0"):
        fit(model, patience=0)


def test_ctrl_c_ends_after_the_step_and_keeps_the_best_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps: list[int] = []

    def press(grads: Any) -> None:
        steps.append(1)
        if len(steps) == 8:  # the second of three in epoch 3
            signal.raise_signal(signal.SIGINT)

    model, spoil = build(), worsen_after(99)
    history = fit(model, on_gradient=press, callbacks=[spoil], verbose=1)
    assert len(steps) == 8
    assert history.interrupted
    assert [record.epoch for record in history.epochs] == [1, 2]
    assert np.array_equal(model.flat_params, spoil.kept[1])
    said = capsys.readouterr().out
    assert "stopping after this step; Ctrl-C again stops at once\n" in said
    assert "interrupted: the model keeps the parameters of epoch 2" in said


@pytest.mark.parametrize("last", [1, 2, 3])
def test_ctrl_c_in_the_first_epoch_keeps_the_step_that_it_waited_for(
    last: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(grads: Any) -> None:
        if optimizer.steps == last - 1:
            signal.raise_signal(signal.SIGINT)

    model, optimizer, reference = build(), optim.SGD(0.1), build()
    history = fit(model, optimizer=optimizer, on_gradient=press, verbose=1)
    assert history.interrupted
    assert history.epochs == []
    assert optimizer.steps == last
    shuffled = pygru.data.ShuffledBatches()
    fit(reference, epochs=1, sampler=lambda *of: list(shuffled(*of))[:last])
    assert np.array_equal(model.flat_params, reference.flat_params)
    assert "the model keeps its latest parameters, as no epoch" in capsys.readouterr().out


def test_ctrl_c_after_a_step_that_broke_the_parameters_keeps_those_before_it() -> None:
    class Broken(optim.SGD):
        def step(self, flat_params: Any, flat_grads: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            super().step(flat_params, np.full_like(flat_grads, np.inf))

    model = build()
    assert fit(model, optimizer=Broken(0.1)).interrupted
    assert not model.flat_params.any()


def test_ctrl_c_after_an_epoch_does_not_lose_it() -> None:
    def press(record: Any, model: Any) -> None:
        if record.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    optimizer = optim.SGD(0.1)
    history = fit(build(), callbacks=[press], optimizer=optimizer)
    assert history.interrupted
    assert len(history.epochs) == 2
    assert optimizer.steps == 6


def test_a_second_ctrl_c_stops_at_once_and_leaves_whole_parameters() -> None:
    model, optimizer = build(), optim.SGD(0.1)
    kept: list[Any] = []

    def press(grads: Any) -> None:
        if len(kept) == 1:
            model.flat_params[0] = np.nan  # in the middle of something
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("went on")

    def keep(record: Any, model: Any) -> None:
        kept.append(model.flat_params.copy())

    with pytest.raises(KeyboardInterrupt):
        fit(model, optimizer=optimizer, on_gradient=press, callbacks=[keep])
    assert np.array_equal(model.flat_params, kept[0])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_is_left_alone() -> None:
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        with Interrupts(print) as interrupts:
            signal.raise_signal(signal.SIGINT)
        assert pressed == [1]
        assert interrupts.count == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_can_train() -> None:
    histories: list[Any] = []
    thread = threading.Thread(target=lambda: histories.append(fit(build())))
    thread.start()
    thread.join()
    assert len(histories[0].epochs) == 9


@pytest.mark.parametrize("hook", ["callbacks", "on_gradient"])
def test_a_model_that_is_put_into_another_meanwhile_goes_on_learning(hook: str) -> None:
    X, Y = np.arange(6.0).reshape(6, 1) / 6, np.array([0, 0, 0, 1, 1, 1])

    def train(wraps: bool) -> tuple[Any, Any]:
        model = pygru.Sequential(pygru.Linear(1, 2, rng=0))
        wrapped: list[Any] = []

        def wrap(*_: Any) -> None:
            if wraps and not wrapped:
                wrapped.append(pygru.Sequential(model, pygru.Softmax()))

        history = pygru.fit(
            model, X, Y, loss="cross_entropy", optimizer=pygru.Adam(0.1), epochs=5, patience=5,
            clip_norm=1.0, verbose=0, rng=0, **{hook: wrap},
        )  # fmt: skip
        return history.loss, (wrapped[0] if wraps else model).flat_params.copy()

    for plain, with_wrap in zip(train(False), train(True), strict=True):
        assert np.array_equal(plain, with_wrap)
