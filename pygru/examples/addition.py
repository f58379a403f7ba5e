# SPDX-License-Identifier: MIT
"""Learn to add from written sums alone: read "535+61", then write "596".

Delayed many to many: an `EncoderDecoder` of two GRUs, taught with the right answers, tested alone.
The task is Keras' ``addition_rnn``, after Zaremba and Sutskever (2014), "Learning to Execute". The
sum is read backwards, which brings what is read closer to what is written (Sutskever, Vinyals and
Le, 2014). Published for numbers of up to three digits: an LSTM of 128 units and 50,000 sums give
99 % of the characters right after 100 epochs, blanks included.

The two figures are not of one test: here both numbers are drawn evenly from 0 .. 999, there one,
two and three digits come equally often, which is harder: short numbers are where it errs.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

import pygru
from pygru.examples import BLUE, GREY, ORANGE, add_common, begin, integer, save_model, save_picture
from pygru.schedules import CosineDecay

__all__ = ["add_arguments", "decode", "draw_sums", "encode", "exact", "run"]

DIGITS, BATCH = 3, 128
SYMBOLS = "0123456789 +"
END, START = SYMBOLS.index(" "), SYMBOLS.index("+")  # no answer holds a "+"
MOST = 10**DIGITS * (10**DIGITS + 1) // 2  # different sums
READ, WRITTEN = 2 * DIGITS + 1, DIGITS + 2  # characters, the end included

Array = npt.NDArray[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pygru example addition``."""
    add_common(parser, epochs=15, of="times through the sums", hidden=128, lr=0.01)
    text = "a tenth to test with (default: 50000)"
    parser.add_argument("--sums", type=integer(2, MOST), default=50_000, help=text)


def run(args: argparse.Namespace) -> None:
    """Train, let it add alone, save, draw."""
    plt = begin(args)

    rng = np.random.default_rng(args.seed)
    sums = draw_sums(args.sums, rng)  # (N, 2)
    X = encode([f"{a}+{b}"[::-1] for a, b in sums], READ)  # (N, 7)
    Y = encode([f"{a + b}" for a, b in sums], WRITTEN)  # (N, 5)
    lengths = (X != END).sum(1)
    test, train = np.split(np.arange(len(sums)), [max(1, len(sums) // 10)])
    print(f"train: X {X[train].shape}, Y {Y[train].shape}   test: X {X[test].shape}")

    I, H, O = len(SYMBOLS), args.hidden, END + 1  # noqa: E741  digits and END are written
    encoder = pygru.Sequential(pygru.OneHot(I), pygru.GRU(I, H, batch_first=True, rng=rng))
    decoder = pygru.Sequential(
        pygru.OneHot(I), pygru.GRU(I, H, batch_first=True, rng=rng), pygru.Linear(H, O, rng=rng)
    )
    model = pygru.EncoderDecoder(encoder, decoder, start=START, end=END)
    history = pygru.fit(
        model, X[train], Y[train], lengths=lengths[train], loss="cross_entropy",
        optimizer=pygru.Adam(args.lr), schedule=CosineDecay(args.epochs), epochs=args.epochs,
        batch_size=BATCH, clip_norm=1.0, validation=(X[test], Y[test], lengths[test]),
        metrics=["accuracy", exact], rng=rng,
    )  # fmt: skip

    answers = model.generate(X[test], WRITTEN, lengths=lengths[test])  # (N, 5)
    right = (answers == Y[test]).all(1)
    print(f"new sums exactly right: {right.mean():.4f} of {len(right):,}, written alone")
    characters = (answers == Y[test])[:, :-1].mean()  # the published measure
    print(f"characters right: {characters:.4f} after epoch {len(history.epochs)}")
    print("published: 0.99 of the characters after 100 epochs, on sums with more short numbers")
    print(f"training took {history.seconds:.1f} s with {pygru.get_num_threads()} thread(s)")
    save_model(model, args.output / "addition.safetensors")
    if plt is not None and history.epochs:
        figure = _draw(plt, history, sums[test], decode(answers), right)
        save_picture(plt, figure, args.output / "addition.png")


def draw_sums(n: int, rng: np.random.Generator) -> Array:
    """Draw n different sums (n, 2) of two numbers; a + b and b + a are the same sum."""
    smaller, larger = np.triu_indices(10**DIGITS)
    pick = rng.choice(len(smaller), n, replace=False)
    return rng.permuted(np.stack((smaller[pick], larger[pick]), axis=1), axis=1)


def encode(texts: list[str], length: int) -> Array:
    """Return the classes of the characters (N, length), filled up with END."""
    for text in texts:
        if len(text) > length or not set(text) <= set(SYMBOLS):
            raise ValueError(
                f"encode: texts must have at most {length} characters of {SYMBOLS!r}, got {text!r}"
            )
    classes = [SYMBOLS.index(symbol) for text in texts for symbol in text.ljust(length)]
    return np.array(classes).reshape(-1, length)


def decode(classes: Array) -> list[str]:
    """Return what was written up to the first END."""
    return ["".join(SYMBOLS[k] for k in row).split(" ")[0] for row in classes]


def exact(y: Array, target: Array, lengths: Array, *, batch_first: bool) -> float:  # noqa: ARG001
    """Return the part of the sequences without a mistake: a metric.

    The same taught or alone: up to its first mistake a model reads the right answer either way.
    """
    valid = np.arange(target.shape[1]) < lengths[:, np.newaxis]
    return float(((y.argmax(-1) == target) | ~valid).all(1).mean())


def _draw(plt: Any, history: pygru.History, sums: Array, answers: list[str], right: Array) -> Any:
    figure, axes = plt.subplot_mosaic("aabc", figsize=(11, 4.6), layout="tight")
    a, b, c = axes.values()
    share = f"{100 * right.mean():.1f} %"
    figure.suptitle(f"Sums it has never seen, read and written as text: {share} are right")
    characters, whole = (100 * np.array(history[f"validation_{m}"]) for m in ("accuracy", "exact"))
    a.axhline(99, color=GREY, linestyle=":", label="characters, published for other sums")
    epochs, label = history["epoch"], "characters, given those before"
    a.plot(epochs, characters, color=BLUE, alpha=0.4, label=label)
    a.plot(epochs, whole, color=BLUE, label="whole answers")
    a.set(title="While it learns", xlabel="epoch", ylabel="right, in %", ylim=(0, 103))
    a.xaxis.get_major_locator().set_params(integer=True)
    a.legend(frameon=False)

    digits = np.char.str_len(sums.min(1).astype(str))  # of the smaller number
    for k in range(1, DIGITS + 1):
        wrong = ~right[digits == k]
        bar = b.bar(str(k), 100 * wrong.mean() if wrong.size else 0, color=ORANGE, width=0.6)
        b.bar_label(bar, [f"{wrong.sum()}\nof {len(wrong):,}"], padding=2)
    b.set(title="Where it errs", xlabel="digits of the smaller number", ylabel="wrong, in %")
    b.margins(y=0.15)

    c.set_title("What it writes", loc="left")
    c.axis("off")
    shown = np.concatenate((np.flatnonzero(right)[:7], np.flatnonzero(~right)[:5]))
    for y, n in zip(np.linspace(0.95, 0.03, 12), shown, strict=False):
        text = f"{sums[n, 0]:>3}+{sums[n, 1]:<3} = {answers[n]:<4}"
        text += "" if right[n] else f" not {sums[n].sum()}"
        c.text(0, y, text, color=BLUE if right[n] else ORANGE, family="monospace", fontsize=11)
    for ax in (a, b):
        ax.spines[["top", "right"]].set_visible(False)
    return figure
