# SPDX-License-Identifier: MIT
"""Tell nine speakers apart by how they say two vowels: sequences of unequal lengths, one answer.

Many to one. The recordings are those of Kudo, Toyama and Shimbo (1999): 270 utterances of /ae/ to
train on and 370 to test with, 7 to 29 frames of 12 cepstral coefficients each. They go in as a list
of arrays; batches are padded only as far as they have to be, and the padding counts nowhere.

A network that reads both ways and averages over time; with so few recordings, noise is what keeps
it from learning them by heart: dropout on the coefficients and on the mean. Rates and dropout were
chosen by cross-validation on the training set.
"""

from __future__ import annotations

import argparse
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import pygru
from pygru.examples import BLUE, GREY, ORANGE, add_common, begin, save_model, save_picture
from pygru.optim import AdamW
from pygru.schedules import CosineDecay

__all__ = ["add_arguments", "recordings", "run"]

SPEAKERS, FRAMES = 9, 29  # frames of the longest utterance, 6.4 ms from one to the next

# As published, accuracy on the same test set.
PUBLISHED = {
    "nearest neighbour with time warping, Bagnall et al. (2018)": 0.949,
    "hidden Markov models, Kudo et al. (1999)": 0.962,
    "ensemble of 11 LSTM networks, resampled to equal lengths": 0.989,
}

Array = npt.NDArray[Any]
Utterances: TypeAlias = "tuple[list[Array], Array]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pygru example vowels``."""
    add_common(parser, epochs=60, of="of 9 steps each", hidden=64, lr=1e-2)


def run(args: argparse.Namespace) -> None:
    """Train, test, save, draw."""
    (X, Y), (X_test, Y_test) = recordings()
    plt = begin(args)
    print(f"train: {len(X)} utterances   test: {len(X_test)}   frames: up to {FRAMES} of 12")

    rng, H = np.random.default_rng(args.seed), args.hidden
    model = pygru.Sequential(
        pygru.Dropout(0.2, rng=rng),
        pygru.GRU(12, H, batch_first=True, bidirectional=True, rng=rng),
        pygru.MeanOverTime(),
        pygru.Dropout(0.5, rng=rng),
        pygru.Linear(2 * H, SPEAKERS, rng=rng),
    )
    history = pygru.fit(
        model, X, Y, loss="cross_entropy", optimizer=AdamW(args.lr), epochs=args.epochs,
        batch_size=30, metrics="accuracy", clip_norm=1.0, schedule=CosineDecay(args.epochs),
        validation=(X_test, Y_test),  # for the curves in the picture; nothing is chosen by it
        verbose=6, rng=rng,
    )  # fmt: skip

    result = pygru.evaluate(model, X_test, Y_test, loss="cross_entropy", metrics="accuracy")
    print(f"accuracy on the test utterances: {result['accuracy']:.3f}")
    for name, value in PUBLISHED.items():
        print(f"  {name}: {value:.3f}")
    print(f"training took {history.seconds:.1f} s with {pygru.get_num_threads()} thread(s)")
    save_model(model, args.output / "vowels.safetensors")
    if plt is None:
        return

    beginnings = ([x[:n] for x in X_test] for n in range(1, FRAMES + 1))
    answers = np.stack([pygru.predict(model, X) for X in beginnings])  # (FRAMES, N, SPEAKERS)
    figure = _draw(plt, history, answers, X_test, Y_test)
    save_picture(plt, figure, args.output / "vowels.png")


def recordings() -> tuple[Utterances, Utterances]:
    """Return training and test utterances (T_n, 12) in units of the training set's spread."""
    try:
        from aeon.datasets import load_japanese_vowels
    except ImportError as error:
        raise ImportError("vowels needs the recordings in aeon: `pip install aeon`") from error
    (X, Y), (X_test, Y_test) = (load_japanese_vowels(split=s) for s in ("train", "test"))
    frames = np.concatenate(X, axis=1)  # (12, S)
    mean, spread = frames.mean(1), frames.std(1)

    def prepare(X: list[Array], Y: Array) -> Utterances:
        return [(x.T - mean) / spread for x in X], Y.astype(np.int64) - 1

    return prepare(X, Y), prepare(X_test, Y_test)


def _draw(plt: Any, history: pygru.History, answers: Array, X: list[Array], Y: Array) -> Any:
    figure, axes = plt.subplot_mosaic("ab;cd", figsize=(10, 8), layout="constrained")
    a, b, c, d = (axes[name] for name in "abcd")
    right = answers.argmax(-1) == Y  # (FRAMES, N)
    share = f"{100 * right[-1].mean():.1f} %"
    figure.suptitle(f"Which of {SPEAKERS} speakers is it? Right for {share} of the test utterances")
    names, frames = np.arange(1, SPEAKERS + 1), np.arange(1, FRAMES + 1)
    for color, column, label in ((BLUE, "loss", "training"), (ORANGE, "validation", "test")):
        a.plot(history["epoch"], history[column], color=color, label=f"{label} utterances")
    a.set(title="While it learns", xlabel="epoch", ylabel="cross-entropy in nats", yscale="log")

    table = np.zeros((SPEAKERS, SPEAKERS), np.int64)
    np.add.at(table, (Y, answers[-1].argmax(-1)), 1)
    shares = table / table.sum(1, keepdims=True)
    b.pcolormesh(names, names, shares, cmap="Blues", vmin=0, vmax=1)
    for (y, x), n in np.ndenumerate(table):
        color = "w" if shares[y, x] > 0.5 else "k"
        b.text(x + 1, y + 1, n or "", ha="center", va="center", color=color)
    b.set(title="Who is taken for whom, number of test utterances", xlabel="taken for speaker")
    b.set(ylabel="speaker", xticks=names, yticks=names, ylim=(SPEAKERS + 0.5, 0.5))

    c.plot(frames, 100 * right.mean(1), color=BLUE, label="this network")
    for style, (name, value) in zip((":", "-.", "--"), PUBLISHED.items(), strict=True):
        c.axhline(100 * value, color=GREY, linestyle=style, label=name.partition(",")[0])
    c.set(title="How early it is right (the others: after all frames)", ylabel="right, in %")

    latest = (right[-1] * (frames[:, np.newaxis] * ~right).max(0)).argmax()  # right in the end
    p = pygru.Softmax()(answers[: len(X[latest]), latest])  # (T, SPEAKERS)
    k = Y[latest]
    rival = np.delete(np.arange(SPEAKERS), k)[np.delete(p, k, axis=1).max(0).argmax()]
    for color, who in ((BLUE, k), (ORANGE, rival)):
        d.plot(frames[: len(p)], p[:, who], color=color, label=f"speaker {who + 1}")
    others = np.delete(p, (k, rival), axis=1)
    _, *rest = d.plot(frames[: len(p)], others, color=GREY, linewidth=1, label="the others")
    plt.setp(rest, label="")  # once in the legend
    d.set(title=f"Longest in doubt: an utterance of speaker {k + 1}")
    d.set_ylabel("probability")
    for ax in (c, d):
        ax.set_xlabel("frames heard, 6.4 ms apart")
        ax.margins(x=0.01)
    for ax in (a, c, d):
        ax.legend(frameon=False)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure
