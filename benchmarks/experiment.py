# SPDX-License-Identifier: MIT
"""The training loop of the sine example, as it is written in each framework, timed as a whole.

GRU(1, 64) over windows of five samples, its last state through Linear(64, 1), mean absolute error,
Adam: 156 steps an epoch, each on 64 consecutive windows at a random place. A time is that of all
steps after a first epoch that compiles and warms up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from shapes import Array

import pygru

STEPS, BATCH, HIDDEN, RATE = 156, 64, 64, 1e-3
TRAINED = 0.1  # mean absolute error that a loop reaches within an epoch or two when it works

Batches = list[slice]  # into the windows X (N, 5, 1) and Y (N, 1)
Epoch = Callable[[Batches], float]  # -> mean loss


def run(threads: int, rivals: list[str], epochs: int) -> dict[str, Any]:
    """Return the case of `speed.py`: seconds for `epochs` epochs, by contender."""
    series = np.sin(np.linspace(0, 100, 10_000, dtype=np.float32))
    windows = np.lib.stride_tricks.sliding_window_view(series, 6)
    X, Y = windows[:, :5, None].copy(), windows[:, 5:].copy()
    rng = np.random.default_rng(0)
    starts = BATCH * rng.integers(0, len(X) // BATCH - 1, (epochs + 1, STEPS))
    batches = [[slice(k, k + BATCH) for k in row] for row in starts.tolist()]

    loops: dict[str, Callable[[Array, Array, int], Epoch]] = {"pygru": _pygru}
    loops |= {name: loop for name, loop in {"torch": _torch, "jax": _jax}.items() if name in rivals}
    times: dict[str, dict[str, float]] = {}
    for name, make in loops.items():
        try:
            epoch = make(X, Y, threads)
        except ImportError:
            continue
        epoch(batches[0])
        start = time.perf_counter()
        losses = [epoch(row) for row in batches[1:]]
        median = time.perf_counter() - start
        if not losses[-1] < TRAINED:
            raise ValueError(f"{name} did not learn: mean absolute error {losses[-1]:.3f}")
        times[name] = {"median": median, "low": median, "high": median, "samples": 1}
    return {"mode": "experiment", "shape": f"{epochs} epochs", "times": times}


def _pygru(X: Array, Y: Array, threads: int) -> Epoch:
    pygru.set_num_threads(threads)
    model = pygru.Sequential(
        pygru.GRU(1, HIDDEN, batch_first=True, rng=0),
        pygru.LastStep(),
        pygru.Linear(HIDDEN, 1, rng=1),
    )
    optimizer = pygru.Adam(RATE)

    def epoch(batches: Batches) -> float:
        history = pygru.fit(
            model, X, Y, loss="mae", optimizer=optimizer, epochs=1, batch_size=BATCH,
            sampler=lambda *_: batches, verbose=0,
        )  # fmt: skip
        return history.loss[0]

    return epoch


def _torch(X: Array, Y: Array, threads: int) -> Epoch:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    gru, linear = torch.nn.GRU(1, HIDDEN, batch_first=True), torch.nn.Linear(HIDDEN, 1)
    parameters = [*gru.parameters(), *linear.parameters()]
    optimizer = torch.optim.Adam(parameters, RATE)

    def epoch(batches: Batches) -> float:
        total = 0.0
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            y = linear(gru(torch.from_numpy(X[batch]))[1][0])
            loss = torch.nn.functional.l1_loss(y, torch.from_numpy(Y[batch]))
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(batches)

    return epoch


def _jax(X: Array, Y: Array, threads: int) -> Epoch:  # noqa: ARG001
    import jax
    from jax import numpy as jnp

    keys = iter(jax.random.split(jax.random.key(0), 6))
    a = HIDDEN**-0.5
    sizes = [(1, 3 * HIDDEN), (HIDDEN, 3 * HIDDEN), (3 * HIDDEN,), (HIDDEN,), (HIDDEN, 1), (1,)]
    parameters = [jax.random.uniform(next(keys), size, minval=-a, maxval=a) for size in sizes]

    def loss(parameters: Any, x: Any, target: Any) -> Any:
        W, U, b, b_hn, V, c = parameters
        h = jnp.zeros((BATCH, HIDDEN))
        inputs = x @ W + b
        for t in range(x.shape[1]):
            recurrent = h @ U
            gates = jax.nn.sigmoid((inputs[:, t] + recurrent)[:, : 2 * HIDDEN])
            r, z = jnp.split(gates, 2, axis=1)
            n = jnp.tanh(inputs[:, t, 2 * HIDDEN :] + r * (recurrent[:, 2 * HIDDEN :] + b_hn))
            h = z * h + (1 - z) * n
        return jnp.abs(h @ V + c - target).mean()

    @jax.jit  # type: ignore[untyped-decorator]
    def update(state: Any, x: Any, target: Any) -> Any:
        step, parameters, first, second = state
        value, gradients = jax.value_and_grad(loss)(parameters, x, target)
        step = step + 1
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        rate = RATE * jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        parameters = [
            p - rate * m / (jnp.sqrt(v) + 1e-8)
            for p, m, v in zip(parameters, first, second, strict=True)
        ]
        return (step, parameters, first, second), value

    zeros = [jnp.zeros_like(p) for p in parameters]
    state = [(jnp.zeros(()), parameters, zeros, zeros)]

    def epoch(batches: Batches) -> float:
        values = []
        for batch in batches:
            state[0], value = update(state[0], X[batch], Y[batch])
            values.append(value)
        return float(np.mean(values))

    return epoch
