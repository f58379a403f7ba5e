# SPDX-License-Identifier: MIT
"""Learn to write Python's documentation character by character, and measure how well.

The text comes with Python: the help topics of `pydoc`, in alphabetical order, their last tenth held
out. A model of text is measured in bits per character, the mean of -log2 of the probability it gave
to what came next. An arithmetic coder needs as many bits to pack the text, so that a model can be
measured beside a packer, `xz -9`. Each is measured twice. The packer gets the held-out text alone;
then after the rest, from which the model has learned, and only what is added to the rest is counted
(a fifth of it is there word for word). The model first stays as it is after training; then it does
as packers do, and learns on while it reads.

One GRU reads 32 parts of the rest side by side, by truncated back-propagation through time. Dropout
and a falling learning rate keep it from learning them by heart; the held-out text decides nothing.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

import pygru
from pygru.examples import BLUE, GREY, ORANGE, add_common, begin, integer, save_model, save_picture

__all__ = ["add_arguments", "encode", "in_bits", "run", "surprise", "topics", "xz"]

BITS = 1 / np.log(2)  # in a nat
WARM_UP = 1000  # characters of the training text to be read before the held-out text
LEAST = 3000  # characters of the text, for every part of it to be long enough
PROMPT, PAGE = 'The "gru" statement\n*******************\n\n', 3000  # characters to be written
LINES, COLUMNS = 16, 72  # in the picture; the topics are set in 72 columns

Array = npt.NDArray[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pygru example chars``."""
    add_common(parser, epochs=10, of="times through the text", hidden=384, lr=5e-3)
    add = parser.add_argument
    add("--dropout", type=float, default=0.3, help="of hidden units (default: 0.3)")
    add("--characters", type=integer(LEAST), help=f"of the text, at least {LEAST} (default: all)")


def run(args: argparse.Namespace) -> None:
    """Train, measure, save, write a page, draw."""
    plt = begin(args)

    text = topics()
    # The alphabet is that of the whole text: every character has a probability, seen or not.
    alphabet, codes = np.unique(list(text), return_inverse=True)  # (K,), (S,)
    text, codes = text[: args.characters], codes[: args.characters]
    cut = len(text) * 9 // 10
    unseen = np.count_nonzero(~np.isin(codes[cut:], codes[:cut]))
    rest, alone, whole = (8 * xz(t) / (len(text) - cut) for t in (text[:cut], text[cut:], text))
    print(f"{cut:,} characters to learn from, {len(text) - cut:,} held out ({unseen} of new kinds)")
    print("losses are in bits per character")

    H, M, K, rng = args.hidden, 64, len(alphabet), np.random.default_rng(args.seed)
    embedding, gru = pygru.Embedding(K, M, rng=rng), pygru.GRU(M, H, batch_first=True, rng=rng)
    dropout = pygru.Dropout(args.dropout, rng=rng)
    model = pygru.Sequential(embedding, gru, dropout, pygru.Linear(H, K, rng=rng))
    history = pygru.fit(
        model, pygru.fold(codes[: cut - 1], 32), pygru.fold(codes[1:cut], 32), loss=in_bits,
        optimizer=pygru.Adam(args.lr), schedule=pygru.schedules.CosineDecay(args.epochs),
        epochs=args.epochs, bptt=64, clip_norm=BITS, rng=rng,
        validation=(pygru.fold(codes[cut - 1 : -1], 10), pygru.fold(codes[cut:], 10)),
    )  # fmt: skip
    save_model(model, args.output / "chars.safetensors")
    page = alphabet[model.generate(encode(PROMPT, alphabet), PAGE, temperature=0.7, rng=rng)]
    (args.output / "chars.txt").write_text(PROMPT + "".join(page), encoding="utf-8")
    print(f"page: {args.output / 'chars.txt'}")
    if history.interrupted:
        return

    bits = surprise(model, codes[cut - WARM_UP :])[WARM_UP - 1 :]  # (S - cut,)
    # As xz does: learn on while reading. The loss is that of each piece before it is learned from.
    dropout.p = 0.0
    reading = pygru.fit(
        model, codes[None, cut - 1 : -1], codes[None, cut:], loss=in_bits, epochs=1,
        optimizer=pygru.Adam(args.lr / 10), bptt=32, clip_norm=BITS, verbose=0,
    )  # fmt: skip
    costs = {
        "network, after training": float(bits.mean()),
        "network, learning on while it reads": reading.loss[0],
        "xz -9, held-out text alone": alone,
        "xz -9, after the training text": whole - rest,
    }
    print("bits per held-out character:")
    for name, cost in costs.items():
        print(f"  {name}: {cost:.3f}")
    print(f"training took {history.seconds:.0f} s with {pygru.get_num_threads()} thread(s)")
    if plt is not None:
        figure = _draw(plt, history, text[cut:], bits, costs)
        save_picture(plt, figure, args.output / "chars.png")


def topics() -> str:
    """Return all the help topics of this Python, in alphabetical order."""
    from pydoc_data.topics import topics as texts  # half a megabyte: when it is asked for

    return "".join(texts[name] for name in sorted(texts))


def encode(text: str, alphabet: Array) -> Array:
    """Return the place of each character in a sorted alphabet (K,): (T,)."""
    characters = np.array(list(text))
    unknown = characters[~np.isin(characters, alphabet)]
    if unknown.size:
        raise ValueError(
            f"encode: text must be in the alphabet's characters, got {str(unknown[0])!r}"
        )
    return np.searchsorted(alphabet, characters)


def xz(text: str) -> int:
    """Return how many bytes `xz -9` makes of a text."""
    import lzma  # which not every build of Python has

    return len(lzma.compress(text.encode(), preset=9))


def in_bits(y: Array, target: Array) -> tuple[float, Array]:
    """Return the cross-entropy in bits, and its gradient: a loss."""
    nats, dy = pygru.losses.cross_entropy(y, target)
    return nats * BITS, dy * dy.dtype.type(BITS)


def surprise(model: pygru.Sequential, codes: Array) -> Array:
    """Return the bits each character costs, given all before it: (T,) -> (T - 1,)."""
    p = pygru.Softmax()(model(codes[None, :-1]))[0]  # (T - 1, K)
    return np.asarray(-np.log2(p[np.arange(len(p)), codes[1:]]))


def _draw(plt: Any, history: pygru.History, text: str, bits: Array, costs: dict[str, float]) -> Any:
    size, heights = (10, 8.6), (2, 3)
    figure, axes = plt.subplot_mosaic("ab;cc", figsize=size, height_ratios=heights, layout="tight")
    a, b, page = axes.values()
    epochs = history["epoch"]
    a.plot(epochs, history.loss, ".-", color=ORANGE, label="training text, with dropout")
    a.plot(epochs, history.validation, ".-", color=BLUE, label="held-out text, in ten parts")
    a.set(title="While it learns", xlabel="epoch", ylabel="bits per character")
    a.xaxis.get_major_locator().set_params(integer=True)
    a.legend(frameon=False)
    bars = b.barh(range(4), costs.values(), height=0.5, color=[BLUE, BLUE, GREY, GREY])
    b.bar_label(bars, fmt="%.2f", padding=3)
    for y, name in enumerate(costs):
        b.text(0.02, y - 0.29, name, va="bottom")
    b.set(title="Packing the held-out text: fewer is better", xlabel="bits per character")
    b.set(ylim=(3.4, -0.6), yticks=[])
    b.margins(x=0.15)
    for ax in (a, b):
        ax.spines[["top", "right"]].set_visible(False)

    lines = text.splitlines(keepends=True)
    letters = [sum(map(str.isalpha, line)) for line in lines]  # where most are, there is prose
    first = int(np.convolve(letters, np.ones(LINES))[LINES - 1 :].argmax())
    start, grid = len("".join(lines[:first])), np.full((LINES, COLUMNS + 1), np.nan)
    for row, line in enumerate(lines[first : first + LINES]):
        for column, character in enumerate(line[: COLUMNS + 1].replace("\n", "\u23ce")):
            grid[row, column] = bits[start + column]
            page.text(column, row, character, family="monospace", size=9, ha="center", va="center")
        start += len(line)
    shades = plt.matplotlib.colors.LinearSegmentedColormap.from_list("", ["white", ORANGE])
    image = page.imshow(grid, cmap=shades, vmin=0, vmax=8, aspect="auto")
    figure.colorbar(image, ax=page, label="bits", pad=0.01, fraction=0.02)
    page.set_title("Bits that each character of the held-out text costs, given all before it")
    page.axis("off")
    return figure
