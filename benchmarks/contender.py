# SPDX-License-Identifier: MIT
"""The interface of everything that is timed, and the two contenders of the house.

A contender is made with the number of threads it may use; making it imports its framework
(ImportError when absent). Then, for a `Problem`,

* ``inference(problem)`` and ``training(problem)`` give a `Run`: the call to time, from arrays in
  the contender's own layout to NumPy arrays of its results, and what turns a result into the
  reference's layout to be checked (not timed);
* ``streaming(problem)`` gives a function from one input (I,) to one output (H,) that carries the
  state;
* ``experiment(task)`` gives a function that trains one epoch of an `Experiment`, in the loop that
  its users would write.

What a contender cannot do is None.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from shapes import Array, Batches, Epoch, Experiment, Problem


class Run(NamedTuple):
    """A call to time, and how to read its result."""

    call: Callable[[], Any]
    answer: Callable[[Any], dict[str, Array]]


Step = Callable[[Array], Array]

# What a training call answers, in this order where it is a sequence.
ANSWER = ("y", "dx", "dW", "dU", "db_x", "db_h")


class Contender:
    """What can be asked of everyone; a subclass replaces what its framework can do."""

    name: str
    version: str

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def inferring(self) -> AbstractContextManager[Any]:
        """Return what is entered, once, around everything that needs no gradient."""
        return nullcontext()

    def inference(self, problem: Problem) -> Run | None:
        """From x to y."""
        raise NotImplementedError

    def training(self, problem: Problem) -> Run | None:
        """From x and dy to y, the gradient of every parameter, and dx."""

    def streaming(self, problem: Problem) -> Step | None:
        """One step per call, the state carried."""

    def experiment(self, task: Experiment) -> Epoch | None:
        """From batches to their mean loss, the model trained on each."""


def swap_gates(problem: Problem, weights: Array) -> Array:
    """Exchange the first two gates of a GRU: r, z, n <-> z, r, n."""
    if problem.cell == "rnn":
        return weights
    r, z, n = np.split(weights, 3)
    return np.concatenate((z, r, n))


class Pygru(Contender):
    """The library at hand."""

    name = "pygru"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import pygru

        self.pygru, self.version = pygru, pygru.__version__
        pygru.set_num_threads(threads)

    def _layer(self, problem: Problem, *, batch_first: bool = False) -> Any:
        sizes = (problem.shape.I, problem.shape.H)
        reset: Any = problem.cell.removeprefix("gru_")
        options: Any = {"batch_first": batch_first, "init": "zeros"}
        layer: Any = (
            self.pygru.RNN(*sizes, **options)
            if problem.cell == "rnn"
            else self.pygru.GRU(*sizes, reset=reset, **options)
        )
        layer.load_state_dict(problem.state_dict())
        return layer

    def inference(self, problem: Problem) -> Run:
        layer, x = self._layer(problem), problem.x
        return Run(lambda: layer(x)[0], lambda y: {"y": y})

    def training(self, problem: Problem) -> Run:
        layer, x, dy = self._layer(problem), problem.x, problem.dy
        gradients = list(layer.grads.values())  # views, which every call fills anew

        def call() -> list[Array]:
            layer.zero_grad()
            y, _, tape = layer.forward(x)
            dx, _ = layer.backward(tape, dy)
            return [y, dx, *gradients]

        return Run(call, lambda result: dict(zip(ANSWER, result, strict=True)))

    def streaming(self, problem: Problem) -> Step:
        stream = self.pygru.Stream(self.pygru.Sequential(self._layer(problem)))
        out = np.empty(problem.shape.H, np.float32)
        return lambda x: stream.step(x, out=out)

    def _model(self, task: Experiment) -> Any:
        head = self.pygru.Linear(task.problem.shape.H, 1, init="zeros")
        head.load_state_dict({"weight": task.V, "bias": task.c})
        gru = self._layer(task.problem, batch_first=True)
        return self.pygru.Sequential(gru, self.pygru.LastStep(), head)

    def experiment(self, task: Experiment, *, clip_norm: float | None = None) -> Epoch:
        model, optimizer = self._model(task), self.pygru.Adam(task.rate)
        second_bias = model.grads["0.bias_hh_l0"]

        def train_one_bias(_: Array) -> None:  # b_x and b_h act as their sum, and would move twice
            second_bias.fill(0)

        def epoch(batches: Batches) -> float:
            history = self.pygru.fit(
                model, task.X, task.Y, loss="mae", optimizer=optimizer, epochs=1,
                batch_size=task.problem.shape.B, sampler=lambda *_: batches, clip_norm=clip_norm,
                on_gradient=train_one_bias if task.problem.cell == "gru_before" else None,
                verbose=0,
            )  # fmt: skip
            return float(history.loss[0])

        return epoch

    def passes_of(self, task: Experiment) -> Callable[[Batches], None]:
        """Return the passes of `experiment` forward and backward, and nothing else."""
        model, B = self._model(task), task.problem.shape.B
        dout = np.full((B, 1), 1 / B, np.float32)

        def call(batches: Batches) -> None:
            for batch in batches:
                _, tape = model.forward(task.X[batch])
                model.backward(tape, dout, input_gradient=False)

        return call

    def kernels_of(self, task: Experiment) -> Callable[[Batches], None]:
        """Return the kernel calls of `experiment` and nothing else, on arrays made beforehand."""
        model, shape, core = self._model(task), task.problem.shape, self.pygru._core
        W, U, b_x, b_h, V, c = model.params.values()
        dW, dU, db_x, db_h, dV, dc = model.grads.values()
        B, T, H = shape.B, shape.T, shape.H
        y = np.empty((B, T, H), np.float32).swapaxes(0, 1)  # (T, B, H), as with batch_first
        h_n, dh_n = np.empty((2, B, H), np.float32)
        tape = np.empty((T, B, 4, H), np.float32)
        out, dout = np.empty((B, 1), np.float32), np.full((B, 1), 1 / B, np.float32)
        forward = [(False, W, U, b_x, b_h, None, y, h_n, tape)]
        backward = [(False, W, U, None, y, tape, None, dh_n, None, None, dW, dU, db_x, db_h)]

        def call(batches: Batches) -> None:
            for batch in batches:
                x = task.X[batch].swapaxes(0, 1)
                core.forward(task.problem.cell, x, None, forward)
                core.linear_forward(h_n, V, c, out)
                core.linear_backward(h_n, V, dout, dh_n, dV, dc)
                core.backward(task.problem.cell, x, None, backward)

        return call


class NumPy(Contender):
    """The reference itself: what the equations cost without kernels."""

    name = "numpy"
    version = np.__version__

    def inference(self, problem: Problem) -> Run:
        return Run(lambda: problem.expected(training=False), lambda answer: answer)

    def training(self, problem: Problem) -> Run:
        return Run(lambda: problem.expected(training=True), lambda answer: answer)
