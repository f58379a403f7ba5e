# SPDX-License-Identifier: MIT
"""The sine experiment as published: the training loop of each framework, timed as a whole.

10,000 samples of a sine wave, windows of five predict the next one: a GRU of 64 units, its last
state through a linear layer, mean absolute error, Adam. 120 epochs of 156 steps, each on 64
neighbouring windows. The reset gate acts before the product and there is one bias, 1 for the gates;
weights are Glorot uniform over the fused matrices. All start from the same weights, see the same
batches and take turns, an epoch each; their losses are compared. Who has only the other GRU runs
that, from the same weights.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from contender import Contender, Pygru
from shapes import SHAPES, Batches, Epoch, Experiment, make_problem
from timing import rotated, settle, summary, timed

import pygru
from pygru.data import ContiguousBatches

EPOCHS = 120
# Relative tolerances of the mean loss, of the first ten steps and of all epochs. After ten steps
# the other reset variant is off by 4e-4 and more, the same function by 5e-5 at most (Keras, whose
# Adam adds eps before it corrects the bias). Then training amplifies rounding: single epochs are
# off by 10 %, and their mean by less.
FIRST_STEPS, FIRST, ALL = 10, 1e-4, 0.25


def run(own: Pygru, rivals: list[Contender], epochs: int) -> dict[str, Any]:
    """Return the case of `speed.py`: seconds for 120 epochs, by contender, and what to note."""
    task, plan = make_experiment(epochs)
    trainings: dict[str, Epoch] = {}
    functions: dict[str, str] = {}
    for contender in (own, *rivals):
        for cell in (task.problem.cell, "gru_after"):
            epoch = contender.experiment(with_cell(task, cell))
            if epoch is not None:
                trainings[contender.name], functions[contender.name] = epoch, cell
                break
    # What those of the other function are checked against; not timed.
    pygru_after = own.experiment(with_cell(task, "gru_after"))
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    losses: dict[str, list[float]] = {name: [] for name in (*trainings, "gru_after")}
    # Compiles and warms up, too.
    first = {name: epoch(plan[0][:FIRST_STEPS]) for name, epoch in trainings.items()}
    first["gru_after"] = pygru_after(plan[0][:FIRST_STEPS])
    for k, batches in enumerate(plan):
        for name in rotated(list(trainings), k):
            settle()
            start = time.perf_counter()
            losses[name].append(trainings[name](batches))
            seconds[name].append(time.perf_counter() - start)
        losses["gru_after"].append(pygru_after(batches))

    for name, cell in functions.items():
        same = "pygru" if cell == task.problem.cell else cell
        try:
            check("first steps", first[name], first[same], FIRST)
            check("all epochs", np.mean(losses[name]), np.mean(losses[same]), ALL)
        except ValueError as error:
            print(f"  experiment {name} left out: {error}")
            del seconds[name]
    after = [name for name in seconds if functions[name] != task.problem.cell]
    return {
        "mode": "experiment",
        "shape": f"{EPOCHS} epochs",
        "times": {name: summary([EPOCHS * s for s in values]) for name, values in seconds.items()},
        "losses": {name: losses[name] for name in seconds},
        "note": note(epochs, after),
    }


def note(epochs: int, after: list[str]) -> str:
    text = "every epoch run" if epochs == EPOCHS else f"scaled from {epochs}"
    return f"{text}; reset before" + "".join(f", {name} after" for name in after)


def make_experiment(epochs: int) -> tuple[Experiment, list[Batches]]:
    """Return data and initial weights, and the batches of each epoch."""
    rng = np.random.default_rng(0)
    shape = SHAPES["sine"]
    X, Y = pygru.windows(pygru.sine(0, 100, 10_000), shape.T)
    gru = pygru.GRU(shape.I, shape.H, reset="before", init="tensorflow1", rng=rng)
    head = pygru.Linear(shape.H, 1, init="tensorflow1", rng=rng)
    W, U, b_x, b_h = (np.ascontiguousarray(a) for a in gru.params.values())
    V, c = (np.ascontiguousarray(a) for a in head.params.values())
    problem = dataclasses.replace(make_problem(shape, "gru_before"), W=W, U=U, b_x=b_x, b_h=b_h)
    sampler = ContiguousBatches(steps=156, choices=155)
    plan = [list(sampler(len(X), shape.B, rng)) for _ in range(epochs)]
    return Experiment(problem, V, c, X.copy(), Y.copy(), rate=1e-3), plan


def with_cell(task: Experiment, cell: str) -> Experiment:
    return dataclasses.replace(task, problem=dataclasses.replace(task.problem, cell=cell))


def check(what: str, loss: Any, expected: Any, tolerance: float) -> None:
    """Raise ValueError where a mean loss is not that of the same function."""
    if not abs(loss / expected - 1) < tolerance:
        raise ValueError(
            f"{what}: the mean loss must agree with pygru's to {tolerance:g}, "
            f"got {loss:.6f} beside {expected:.6f}"
        )


def overhead(own: Pygru) -> dict[str, float]:
    """Return the share of a training step, clipping included, that is not spent in the kernels.

    "training" is optimiser, clipping, loss and bookkeeping: an epoch through `fit` beside the same
    calls of the model's forward and backward. "layers" is what these add to the calls of the
    kernels alone. In turn, the median over rounds.
    """
    task, (batches,) = make_experiment(1)
    runs = own.experiment(task, clip_norm=1.0), own.passes_of(task), own.kernels_of(task)
    calls: list[Callable[[], Any]] = [partial(one, batches) for one in runs]
    for call in calls:
        call()
    shares = []
    for _ in range(5):
        epoch, passes, kernels = map(timed, calls)
        shares.append(((epoch - passes) / epoch, (passes - kernels) / epoch))
    training, layers = np.median(shares, axis=0)
    return {"training": float(training), "layers": float(layers)}
