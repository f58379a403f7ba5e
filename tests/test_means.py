# SPDX-License-Identifier: MIT
"""Losses and metrics of the user's: what they are given, what they must give, and their means."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from affine import Affine, make_data

import pygru
from pygru import losses, means


def test_a_mean_over_batches_is_in_full_precision_whatever_the_loss_gives() -> None:
    tenth = np.float32(0.1)

    def own(y: Any, _target: Any) -> Any:
        return tenth, np.zeros_like(y)

    model, x = pygru.Linear(1, 1), np.zeros((1000, 1))
    found = pygru.evaluate(
        model, x, x, loss=own, metrics=lambda y, target: own(y, target)[0], batch_size=1
    )
    assert found == pytest.approx({"loss": float(tenth), "<lambda>": float(tenth)}, rel=1e-12)
    history = pygru.fit(
        model, x, x, loss=own, optimizer=pygru.Adam(), epochs=1, batch_size=7, verbose=0
    )
    assert type(history.loss[0]) is float


@pytest.mark.parametrize(
    "answer, message",
    [
        (0.5, r"loss: must return \(value, dy\), got 0.5"),
        ([1.0, np.zeros(99)], r"loss: must return \(value, dy\), got .{,50}$"),
        ((1.0, 2.0, 3.0), r"loss: must return \(value, dy\), got \(1.0, 2.0, 3.0\)"),
        ((np.ones(1), 0.0), r"loss: value must be one real number, got array\(\[1.\]\)"),
        ((1j, 0.0), "loss: value must be one real number, got 1j"),
        (("0.5", 0.0), "loss: value must be one real number, got '0.5'"),
    ],
)
def test_a_loss_that_gives_something_else_is_named(answer: Any, message: str) -> None:
    model, x = pygru.Linear(1, 1), np.zeros((3, 1))
    with pytest.raises(TypeError, match=message):
        pygru.evaluate(model, x, x, loss=lambda _y, _target: answer)


@pytest.mark.parametrize("model", [pygru.Linear(2, 1), pygru.RNN(2, 1, batch_first=True)])
@pytest.mark.parametrize(
    "dy, error, message",
    [
        (None, TypeError, "loss: dy must hold real numbers, got dtype object"),
        (np.zeros((3, 4, 1), complex), TypeError, "loss: dy must hold .* got dtype complex128"),
        (0.5, ValueError, r"loss: dy must have the shape of y, \(3, 4, 1\), got \(\)"),
        (np.zeros((3, 4)), ValueError, r"loss: dy must have .* \(3, 4, 1\), got \(3, 4\)"),
        ([[1.0], [1.0, 2.0]], ValueError, "loss: dy must be one array, got nested sequences"),
    ],
)
def test_a_loss_whose_gradient_does_not_fit_is_named_before_anything_learns_from_it(
    model: Any, dy: Any, error: Any, message: str
) -> None:
    before, X, Y = model.flat_params.copy(), np.ones((3, 4, 2)), np.ones((3, 4, 1))
    own: Any = lambda _y, _target: (1.0, dy)  # noqa: E731
    settings: Any = {"optimizer": pygru.Adam(), "epochs": 1, "verbose": 0}
    with pytest.raises(error, match=message):
        pygru.fit(model, X, Y, loss=own, **settings)
    assert np.array_equal(model.flat_params, before)
    assert pygru.evaluate(model, X, Y, loss=own) == 1  # where no gradient is needed
    pygru.fit(model, X, Y, loss=lambda _y, _target: (1.0, Y.astype(int).tolist()), **settings)


class Own:
    func = staticmethod(losses.mae)  # as a functools.partial has one

    def __call__(self, y: Any, target: Any) -> Any:
        return self.func(y, target)


@pytest.mark.parametrize("metrics", [(), "mae"])
@pytest.mark.parametrize(
    ("loss", "own"),
    [
        ("mae", 0),
        (partial(losses.huber, delta=0.1), 0),
        (lambda *of: losses.mae(*of), 1),
        (Own(), 1),
    ],
    ids=["ours", "ours with a setting", "a function", "an object"],
)
def test_views_to_be_read_are_for_metrics_and_losses_of_the_users(
    loss: Any, own: int, metrics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, view = [], means._to_be_read
    monkeypatch.setattr(means, "_to_be_read", lambda array: (made.append(0), view(array))[1])
    X, Y = make_data(8)
    pygru.evaluate(Affine(), X, Y, loss=loss, metrics=metrics, batch_size=4)
    assert len(made) == 2 * 2 * (own + (metrics == "mae"))  # y and target of two batches


@pytest.mark.parametrize(
    "write", ["loss to y", "loss to target", "metric to y", "metric to target"]
)
def test_a_loss_or_metric_cannot_write_to_the_tape_or_the_data(write: str) -> None:
    def own(kind: str, y: Any, target: Any) -> None:
        if write.startswith(kind):
            written = y if write.endswith("y") else target
            written -= 1

    model, x = pygru.Sequential(pygru.Linear(1, 1, rng=0), pygru.Tanh()), np.ones((4, 1), "f")
    before, target = model.flat_params.copy(), np.ones((4, 1), np.float32)
    with pytest.raises(ValueError, match="read-only"):
        pygru.fit(
            model, x, target, optimizer=pygru.Adam(), epochs=1, sampler=lambda *_: [slice(0, 4)],
            loss=lambda y, target: own("loss", y, target) or losses.mse(y, target),
            metrics=lambda y, target: own("metric", y, target) or 0.0,
        )  # fmt: skip
    assert np.array_equal(model.flat_params, before)
    assert target.tolist() == [[1.0]] * 4


def test_a_loss_or_metric_that_takes_no_lengths_is_told_to() -> None:
    X, model = [np.ones((3, 1)), np.ones((2, 1))], pygru.Linear(1, 1, rng=0)

    def own(y: Any, target: Any) -> Any:
        return losses.mse(y, target)

    of_own: Any = {"loss": {"loss": own}, "metric own": {"loss": "mse", "metrics": own}}
    for what, given in of_own.items():
        with pytest.raises(TypeError, match=f"^{what}: must take lengths= and batch_first= where"):
            pygru.evaluate(model, X, X, **given)

    def broken(y: Any, target: Any, lengths: Any = None, *, batch_first: bool = False) -> Any:
        raise TypeError("of its own")

    with pytest.raises(TypeError, match=r"^of its own$"):
        pygru.evaluate(model, X, X, loss=broken)
