# SPDX-License-Identifier: MIT
"""The interface of everything that is timed, and the two contenders of the house.

A contender is made with the number of threads it may use; making it imports its framework
(ImportError when absent). Then, for a `Problem`,

* ``inference(problem)`` and ``training(problem)`` give a `Run`: the call to time, from arrays in
  the contender's own layout to NumPy arrays of its results, and what turns a result into the
  reference's layout to be checked (not timed);
* ``streaming(problem)`` gives a function from one input (I,) to one output (H,) that carries the
  state.

What a contender cannot do is None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from shapes import Array, Problem


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

    def inference(self, problem: Problem) -> Run | None:
        """From x to y."""
        raise NotImplementedError

    def training(self, problem: Problem) -> Run | None:
        """From x and dy to y, the gradient of every parameter, and dx."""

    def streaming(self, problem: Problem) -> Step | None:
        """One step per call, the state carried."""


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

    def _layer(self, problem: Problem) -> Any:
        sizes = (problem.shape.I, problem.shape.H)
        reset: Any = problem.cell.removeprefix("gru_")
        layer: Any = (
            self.pygru.RNN(*sizes, rng=0)
            if problem.cell == "rnn"
            else self.pygru.GRU(*sizes, reset=reset, rng=0)
        )
        layer.load_state_dict(problem.state_dict())
        return layer

    def inference(self, problem: Problem) -> Run:
        layer, x = self._layer(problem), problem.x
        return Run(lambda: layer(x)[0], lambda y: {"y": y})

    def training(self, problem: Problem) -> Run:
        layer, x, dy = self._layer(problem), problem.x, problem.dy
        names = {
            "dW": "weight_ih_l0",
            "dU": "weight_hh_l0",
            "db_x": "bias_ih_l0",
            "db_h": "bias_hh_l0",
        }

        def call() -> tuple[Array, Array, dict[str, Array]]:
            layer.zero_grad()
            y, _, tape = layer.forward(x)
            dx, _ = layer.backward(tape, dy)
            return y, dx, layer.grads

        def answer(result: tuple[Array, Array, dict[str, Array]]) -> dict[str, Array]:
            y, dx, grads = result
            return {"y": y, "dx": dx} | {name: grads[key] for name, key in names.items()}

        return Run(call, answer)

    def streaming(self, problem: Problem) -> Step | None:
        if not hasattr(self.pygru, "Stream"):
            return None
        stream = self.pygru.Stream(self.pygru.Sequential(self._layer(problem)))
        out = np.empty(problem.shape.H, np.float32)
        return partial(stream.step, out=out)


class NumPy(Contender):
    """The reference itself: what the equations cost without kernels."""

    name = "numpy"
    version = np.__version__

    def inference(self, problem: Problem) -> Run:
        return Run(lambda: problem.expected(training=False), lambda answer: answer)

    def training(self, problem: Problem) -> Run:
        return Run(lambda: problem.expected(training=True), lambda answer: answer)
