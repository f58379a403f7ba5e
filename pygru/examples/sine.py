# SPDX-License-Identifier: MIT
"""Learn the next value of a sine wave from the five before it, then continue the wave alone.

As published: 10,000 samples of sin over 0..100 to train on and 1,000 over 100..200, ten times
coarser, to test with; 64 units, the reset gate before the product, one bias (1 for the gates),
Glorot uniform weights; mean absolute error, Adam, 120 epochs of 156 steps on 64 neighbours.

Bettered: the same network on every tenth sample, spaced as the test wave is, with a learning rate
that falls to zero. A tenth of the steps, a fraction of the error, and it can go on alone.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

import pygru
from pygru.data import ContiguousBatches, Sampler
from pygru.examples import BLUE, GREY, ORANGE, add_common, begin, save_model, save_picture
from pygru.schedules import CosineDecay, Schedule

__all__ = ["add_arguments", "forecast", "run"]

WINDOW, BATCH = 5, 64
SHOWN, PERIODS = 64, 5  # test windows in the first panel, periods in the forecast
SPACING = 100 / 999  # of the test wave
TOP = 1.6  # of the panels with a wave, above it the legend

Array = npt.NDArray[np.floating[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pygru example sine``."""
    add_common(parser, epochs=120, of="epochs of 156 steps each", hidden=64, lr=1e-3)
    parser.add_argument(
        "--reset",
        choices=("before", "after"),
        default="before",
        help="where the reset gate acts: before or after its product (default: before)",
    )


def run(args: argparse.Namespace) -> None:
    """Train, test, save, better it, draw."""
    plt = begin(args)

    series = pygru.sine(0, 100, 10_000)  # (10000,)
    X, Y = pygru.windows(series, WINDOW)  # (N, 5, 1), (N, 1)
    X_test, Y_test = pygru.windows(pygru.sine(100, 200, 1_000), WINDOW)
    print(f"train: X {X.shape}, Y {Y.shape}   test: X {X_test.shape}, Y {Y_test.shape}")

    rng = np.random.default_rng(args.seed)
    sampler = ContiguousBatches(steps=156, choices=155)  # as published
    model, history = _train(args, X, Y, rng, sampler=sampler, verbose=12)

    prediction = model(X_test)  # (N, 1)
    error, _ = pygru.losses.mae(prediction, Y_test)
    print(f"mean absolute error on the test wave: {error:.4f}")
    print(f"training took {history.seconds:.1f} s with {pygru.get_num_threads()} thread(s)")
    save_model(model, args.output / "sine.safetensors")
    if plt is None or history.interrupted:
        return

    windows = pygru.windows(series[::10], WINDOW)
    coarse, _ = _train(args, *windows, rng, schedule=CosineDecay(args.epochs))
    bettered, _ = pygru.losses.mae(coarse(X_test), Y_test)
    print(f"trained on every tenth sample instead, with a falling rate: {bettered:.4f}")
    steps = round(PERIODS * 2 * np.pi / SPACING)
    curves = [forecast(m, X_test[0], steps) for m in (model, coarse)]
    figure = _draw(plt, prediction[:SHOWN, 0], Y_test[:SHOWN, 0], history.loss, curves, error)
    save_picture(plt, figure, args.output / "sine.png")


def _train(
    args: argparse.Namespace,
    X: Array,
    Y: Array,
    rng: np.random.Generator,
    sampler: Sampler | None = None,
    schedule: Schedule | None = None,
    verbose: int = 0,
) -> tuple[Any, pygru.History]:
    H, init = args.hidden, "tensorflow1"
    gru = pygru.GRU(1, H, batch_first=True, reset=args.reset, init=init, rng=rng)
    model = pygru.Sequential(gru, pygru.LastStep(), pygru.Linear(H, 1, init=init, rng=rng))

    def train_one_bias(_: Array) -> None:
        # As published there is one bias. Here b_x and b_h act as their sum, which would move twice.
        if args.reset == "before":
            model.grads["0.bias_hh_l0"].fill(0)

    history = pygru.fit(
        model, X, Y, loss="mae", optimizer=pygru.Adam(args.lr), epochs=args.epochs,
        batch_size=BATCH, on_gradient=train_one_bias, schedule=schedule, sampler=sampler,
        verbose=verbose, rng=rng,
    )  # fmt: skip
    return model, history


def forecast(model: pygru.Sequential, window: Array, steps: int) -> Array:
    """Continue a series, (length, 1) -> (steps,), with nothing but the model's own predictions."""
    series = np.concatenate((window[:, 0], np.empty(steps, window.dtype)))
    for t in range(len(window), len(series)):
        series[t] = model(series[None, t - len(window) : t, None])[0, 0]
    return series[len(window) :]


def _draw(
    plt: Any, predicted: Array, real: Array, loss: list[float], curves: list[Array], error: float
) -> Any:
    figure, axes = plt.subplot_mosaic("ab;cc", figsize=(10, 6.4), layout="tight")
    true = {"color": GREY, "linewidth": 4, "alpha": 0.4}
    ax = axes["a"]
    ax.plot(real, **true, label="real")
    ax.plot(predicted, color=BLUE, marker=".", linewidth=1, label="predicted")
    ax.set(title=f"Next value of the test wave (mean error {error:.4f})")
    ax.set(xlabel="test window", ylabel="sin t")
    ax = axes["b"]
    ax.plot(range(1, len(loss) + 1), loss, color=BLUE)
    ax.set(title="Training", xlabel="epoch", ylabel="mean absolute error", yscale="log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax = axes["c"]
    t = 100 + SPACING * (WINDOW + np.arange(len(curves[0])))
    ax.plot(t, np.sin(t), **true, label="true curve")
    label = "as published" + (" (runs away)" if np.abs(curves[0]).max() > TOP else "")
    ax.plot(t, curves[0], color=BLUE, linewidth=1, linestyle="--", label=label)
    ax.plot(t, curves[1], color=ORANGE, label="trained on every tenth sample, falling rate")
    ax.set(title=f"{PERIODS} periods alone, from a window of {WINDOW}", xlabel="t", ylabel="sin t")
    for name in "ac":
        axes[name].set_ylim(-1.3, TOP)
        axes[name].legend(loc="upper right", frameon=False, ncols=3)
    for ax in axes.values():
        ax.spines[["top", "right"]].set_visible(False)
    return figure
