# SPDX-License-Identifier: MIT
"""Why gates: what a GRU remembers over hundreds of steps, and an RNN of the same size does not.

The adding problem of Hochreiter and Schmidhuber (1997), "Long Short-Term Memory": at each step come
a number in 0 .. 1 and a marker, which is 1 at one step of either half; after the last step the sum
of the two marked numbers is to be told. Always answering 1 has a squared error of 1/6, the variance
of that sum; published as 0.1767 by Le, Jaitly and Hinton (2015), "A Simple Way to Initialize
Recurrent Networks of Rectified Linear Units". With the same data and steps the RNN learns no more.

The picture shows why: the gradient of the loss with respect to the state at step t, dh_t, is all
that learning knows of step t. On its way back it vanishes in an RNN; a gate can let it through.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

import pygru
from pygru.data import ContiguousBatches
from pygru.examples import BLUE, GREY, ORANGE, add_common, begin, integer, save_model, save_picture
from pygru.schedules import CosineDecay

__all__ = ["add_arguments", "adding_problem", "run", "state_gradients"]

BATCH, STEPS = 32, 100  # sequences in a step, steps in an epoch
TESTED, PROBED = 2_000, 100  # new sequences, and those of them whose gradients are shown

Array = npt.NDArray[np.floating[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pygru example memory``."""
    add_common(parser, epochs=20, of="of 100 steps each", hidden=64, lr=0.005)
    parser.add_argument(
        "--length", type=integer(2), default=200, help="steps of a sequence, T (default: 200)"
    )
    parser.add_argument(
        "--sequences", type=integer(BATCH), default=30_000, help="to train on (default: 30000)"
    )


def run(args: argparse.Namespace) -> None:
    """Train both with the same data and steps, look at their gradients, save the GRU, draw."""
    plt = begin(args)

    rng, H = np.random.default_rng(args.seed), args.hidden
    X, Y = adding_problem(args.sequences, args.length, rng)
    X_test, Y_test = adding_problem(TESTED, args.length, rng)
    print(f"train: X {X.shape}, Y {Y.shape}   test: X {X_test.shape}")

    results = {}
    for cell in (pygru.RNN, pygru.GRU):
        name = cell.__name__
        print(f"{name} of {H} units")
        layer, linear = cell(2, H, batch_first=True, rng=rng), pygru.Linear(H, 1, rng=rng)
        model = pygru.Sequential(layer, pygru.LastStep(), linear)
        before = state_gradients(layer, linear, X_test[:PROBED], Y_test[:PROBED])
        history = pygru.fit(
            model, X, Y, loss="mse", optimizer=pygru.Adam(args.lr), epochs=args.epochs,
            schedule=CosineDecay(args.epochs), batch_size=BATCH, clip_norm=1.0,
            sampler=ContiguousBatches(steps=STEPS), validation=(X_test, Y_test), verbose=5, rng=rng,
        )  # fmt: skip
        if history.interrupted:
            save_model(model, args.output / "memory.safetensors")
            return
        after = state_gradients(layer, linear, X_test[:PROBED], Y_test[:PROBED])
        results[name] = (history, model(X_test), before, after)

    always_1, _ = pygru.losses.mse(np.ones_like(Y_test), Y_test)
    print(f"squared error on new sequences: {always_1:.4f} always answering 1 (published: 0.1767)")
    for name, (history, *_) in results.items():
        print(f"  {name} {history.validation[-1]:.4f}, trained in {history.seconds:.1f} s")
    save_model(model, args.output / "memory.safetensors")
    if plt is not None:
        figure = _draw(plt, results, Y_test, always_1)
        save_picture(plt, figure, args.output / "memory.png")


def adding_problem(n: int, steps: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw n sequences of numbers and markers (n, T, 2) and the sums of the marked ones (n, 1)."""
    values = rng.random((n, steps), np.float32)
    markers = np.zeros_like(values)
    half, rows = steps // 2, np.arange(n)
    for first, last in ((0, half), (half, steps)):  # as Arjovsky, Shah and Bengio (2016) draw them
        markers[rows, rng.integers(first, last, n)] = 1
    return np.stack((values, markers), axis=2), (values * markers).sum(1, keepdims=True)


def state_gradients(layer: Any, linear: pygru.Linear, x: Array, target: Array) -> Array:
    """Return |dh_t| of linear(h_T) for t = 0 .. T (T+1,), the mean over the sequences.

    The sequence is run in pieces of one step, each from the state that the piece before it ended
    with, so that going back gives the gradient of every state between two pieces.
    """
    h = np.zeros((1, len(x), layer.hidden_size), layer.dtype)  # (1, B, H)
    tapes = []
    for t in range(x.shape[1]):
        _, h, tape = layer.forward(x[:, t : t + 1], h)
        tapes.append(tape)
    y, tape = linear.forward(h[0])
    _, dy = pygru.losses.mse(y, target)
    dh: Any = linear.backward(tape, dy)  # (B, H)
    norms, dh = [np.linalg.norm(dh, axis=-1).mean()], dh[np.newaxis]
    for tape in reversed(tapes):
        _, dh = layer.backward(tape, dh_n=dh, input_gradient=False)
        norms.append(np.linalg.norm(dh, axis=-1).mean())
    return np.array(norms[::-1])


def _draw(plt: Any, results: dict[str, Any], real: Array, always_1: float) -> Any:
    figure, axes = plt.subplot_mosaic("ab;cc", figsize=(10, 7), layout="tight")
    a, b, c = axes.values()
    last = len(results["GRU"][-1]) - 1  # T
    figure.suptitle(f"Two of {last} numbers are marked: what is their sum?")
    a.axhline(always_1, color=GREY, linestyle=":", label="always answering 1")
    b.plot((0, 2), (0, 2), color=GREY, linewidth=4, alpha=0.4, label="right answer")
    for (name, result), colour in zip(results.items(), (ORANGE, BLUE), strict=True):
        history, told, before, after = result
        a.plot(history["epoch"], history.validation, color=colour, label=name)
        b.plot(real[:, 0], told[:, 0], ".", color=colour, markersize=2, label=name)
        c.plot(before / before[-1], "--", color=colour, label=f"{name} before training")
        c.plot(after / after[-1], color=colour, label=f"{name} after training")
    a.set(title="Error on new sequences", xlabel=f"epoch of {STEPS} steps", yscale="log")
    a.set_ylabel("mean squared error")
    a.xaxis.get_major_locator().set_params(integer=True)
    b.set(title="Answers to new sequences", xlabel="true sum", ylabel="answer")
    c.set(title="How much of the gradient gets back to each step", xlabel="step", yscale="log")
    c.set(ylabel="gradient, last step = 1", xlim=(0, last), ylim=(1e-8, 3))
    for ax in (a, b, c):
        ax.legend(frameon=False, markerscale=4)
        ax.spines[["top", "right"]].set_visible(False)
    return figure
