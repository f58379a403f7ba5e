# SPDX-License-Identifier: MIT
"""Targets that do not fit: `fit` and `evaluate` say what change of them, or the model, would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from affine import fit
from model_problems import BATCHED, PER_STEP, X_LIST, X_STEPS

import pygru


def test_targets_that_lack_their_last_axis_are_told_how_to_get_it():
    model, X, Y = pygru.Linear(2, 1, rng=0), np.zeros((6, 2)), np.zeros(6)
    settings = {"loss": "mse", "optimizer": pygru.SGD(0.1), "epochs": 1, "verbose": 0}
    way = r"Y of shape \(6,\) would fit as np\.asarray\(Y\)\[\.\.\., np\.newaxis\]$"
    with pytest.raises(ValueError, match=way):
        pygru.fit(model, X, Y, **settings)
    with pytest.raises(ValueError, match=rf"^evaluate: Y must fit the loss: .* {way}"):
        pygru.evaluate(model, X, Y, loss="mse")
    pygru.fit(model, X, Y[..., np.newaxis], **settings)
    assert pygru.evaluate(model, X, Y[..., np.newaxis], loss="mse") >= 0.0


@pytest.mark.parametrize(
    "outputs, Y, changes, hint",
    [
        (1, np.zeros((6, 4)), {}, "np.newaxis"),
        (1, np.zeros((6, 4)), {"bptt": 2}, "np.newaxis"),
        (1, np.zeros((6, 4)), {"lengths": [4] * 6}, "np.newaxis"),
        (1, np.zeros((6, 1)), {}, "LastStep"),
        (1, np.zeros((6, 1)), {"lengths": [4] * 6}, "LastStep"),
        (1, np.zeros(6), {}, "np.newaxis LastStep"),
        (2, np.zeros((6, 2)), {}, "LastStep"),
        (2, np.zeros((6, 4)), {"bptt": 2}, ""),
        (2, np.zeros((6, 3)), {}, ""),
        (1, np.zeros((6, 3)), {}, ""),
        (3, np.arange(6) % 3, {"loss": "cross_entropy"}, "LastStep"),
        (1, np.arange(6) % 2, {"loss": "cross_entropy"}, ""),
        (1, np.arange(24).reshape(6, 4) % 2, {"loss": "cross_entropy"}, ""),
        (1, np.zeros((6, 4)), {"loss": "cross_entropy"}, ""),
        (1, np.full((6, 4), 2.0), {"loss": "binary_cross_entropy"}, ""),
    ],
)
def test_a_hint_about_targets_is_true(
    outputs: int, Y: Any, changes: dict[str, Any], hint: str
) -> None:
    def build(*pooling: Any) -> Any:
        return pygru.Sequential(pygru.GRU(2, 3, **BATCHED), *pooling, pygru.Linear(3, outputs))

    with pytest.raises((TypeError, ValueError), match="fit: Y must fit the loss") as caught:
        fit(build(), X_STEPS, Y, **changes)
    message = str(caught.value)
    for word in ("LastStep", "np.newaxis"):
        assert (word in message) == (word in hint)
    if hint:
        fitting = Y[..., np.newaxis] if "newaxis" in hint else Y
        model = build(pygru.LastStep()) if "LastStep" in hint else build()
        assert fit(model, X_STEPS, fitting, epochs=1, **changes).loss


def test_a_model_that_reads_its_targets_is_not_told_to_answer_one_step_alone() -> None:
    parts = [pygru.GRU(2, 4, **BATCHED)], [pygru.Embedding(4, 3), pygru.GRU(3, 4, **BATCHED)]
    model = pygru.EncoderDecoder(*(pygru.Sequential(*part) for part in parts), start=0)
    message = r"Y must fit the loss: .*, \(1, 4, 4\), got \(1, 4\)$"
    with pytest.raises(ValueError, match=message):
        fit(model, X_STEPS, np.zeros((6, 4), int), loss="mse")


def test_what_makes_targets_fit_is_said_in_words_that_work_for_a_list() -> None:
    for model, X, Y in (
        (pygru.Linear(2, 1), np.ones((4, 2)), [0.0, 1.0, 2.0, 1.0]),
        (PER_STEP, X_LIST, [x[:, 0] for x in X_LIST]),
    ):
        with pytest.raises(ValueError, match="would fit as") as refused:
            fit(model, X, Y)
        fit(model, X, eval(str(refused.value).split("would fit as ")[1], {"np": np, "Y": Y}))


@pytest.mark.parametrize("loss, change, way", [
    ("cross_entropy", lambda Y: Y[:, np.newaxis], r"np\.asarray\(Y\)\[\.\.\., 0\]"),
    ("cross_entropy", lambda Y: np.eye(3)[Y], r"np\.asarray\(Y\)\.argmax\(-1\)"),
])  # fmt: skip
def test_targets_that_nearly_fit_are_told_how(loss: str, change: Any, way: str) -> None:
    X, Y = np.ones((4, 2)), np.array([0, 1, 2, 1])
    with pytest.raises((TypeError, ValueError), match=rf"; Y of shape .* would fit as {way}$"):
        fit(pygru.Linear(2, 3), X, change(Y), loss=loss, optimizer=pygru.Adam(), epochs=1)


def test_one_target_each_of_a_list_is_told_of_the_last_step() -> None:
    wanted = r"fit: Y must be a list of sequences as X is, .*, got shape \(6, 1\)"
    way = r"; Y of shape \(6, 1\) would fit a model with a LastStep \(this one answers every step\)"
    with pytest.raises(ValueError, match=f"^{wanted}{way}$"):
        fit(PER_STEP, X_LIST, np.zeros((6, 1)))
    with pytest.raises(ValueError, match=f"^{wanted.replace('6, 1', '6, 3')}$"):
        fit(PER_STEP, X_LIST, np.zeros((6, 3)))
    pooled = pygru.GRU(2, 3, **BATCHED), pygru.LastStep(), pygru.Linear(3, 1)
    assert fit(pygru.Sequential(*pooled), X_LIST, np.zeros((6, 1)), epochs=1).loss
