# SPDX-License-Identifier: MIT
"""Play a note nobody taught: from one number, the pitch, to a whole waveform.

One to many. `pygru.RepeatVector` holds the number in front of the network at every step, as one
holds down a key, and the network has to swing at that pitch by itself: no sample of a wave ever
goes in, neither in training nor after it. It learns the whole tones of two octaves and is tested on
the semitones between them. There is no published number for this; it has to beat what can be had
without a network: the nearest note it was taught, and the mean of the two neighbours.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

import pygru
from pygru.examples import BLUE, GREY, ORANGE, add_common, begin, save_model, save_picture
from pygru.schedules import CosineDecay

__all__ = ["add_arguments", "play", "run", "wave"]

SAMPLES = 100  # of a note in training: one period of the lowest, four of the highest
SEMITONES = 24  # two octaves
LONGER = 3  # times the training's length, in the last panel

Array = npt.NDArray[np.floating[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pygru example waveform``."""
    add_common(parser, epochs=1500, of="of one step each", hidden=64, lr=1e-2)


def run(args: argparse.Namespace) -> None:
    """Train, test on the notes between, save, draw."""
    plt = begin(args)

    notes = np.arange(SEMITONES + 1)
    taught, between = notes[::2], notes[1::2]
    print(f"train: {len(taught)} notes   test: the {len(between)} between them")

    rng = np.random.default_rng(args.seed)
    model = pygru.Sequential(
        pygru.RepeatVector(SAMPLES),
        pygru.GRU(1, args.hidden, batch_first=True, rng=rng),
        pygru.Linear(args.hidden, 1, rng=rng),
    )
    history = pygru.fit(
        model, _key(taught), wave(taught), loss="mse", optimizer=pygru.Adam(args.lr),
        epochs=args.epochs, batch_size=len(taught), schedule=CosineDecay(args.epochs),
        clip_norm=1.0, verbose=150, rng=rng,
    )  # fmt: skip

    true, played = wave(between), model(_key(between))  # (N, SAMPLES, 1)
    below, above = wave(between - 1), wave(between + 1)
    errors = [_error(y, true) for y in (played, below, (below + above) / 2)]
    print(f"error on the notes between, in parts of the waves' power: {errors[0]:.5f}")
    print(f"  nearest note taught: {errors[1]:.5f}")
    print(f"  mean of the two neighbours: {errors[2]:.5f}")
    print(f"training took {history.seconds:.1f} s with {pygru.get_num_threads()} thread(s)")
    save_model(model, args.output / "waveform.safetensors")
    if plt is None:
        return

    figure = _draw(plt, model, between, errors)
    save_picture(plt, figure, args.output / "waveform.png")


def wave(notes: npt.ArrayLike, samples: int = SAMPLES) -> Array:
    """Return the waveforms of notes, in semitones above the lowest: a tone and its octave.

    Examples
    --------
    >>> y = wave([0, 12])
    >>> y.shape, bool(np.allclose(y[0, ::2], y[1, :50]))  # an octave up, twice as fast
    ((2, 100, 1), True)
    """
    periods = 2.0 ** (np.asarray(notes) / 12)  # (N,)  in SAMPLES samples
    phase = 2 * np.pi * np.multiply.outer(periods, np.arange(samples) / SAMPLES)
    y: Array = np.sin(phase) + 0.5 * np.sin(2 * phase)
    return y[..., np.newaxis].astype(np.float32)  # (N, samples, 1)


def play(model: pygru.Sequential, notes: npt.ArrayLike, samples: int) -> Array:
    """Return what a model plays for notes, for as long as one likes: (N, samples, 1).

    Examples
    --------
    >>> model = pygru.Sequential(
    ...     pygru.RepeatVector(100), pygru.GRU(1, 8, batch_first=True, rng=0), pygru.Linear(8, 1)
    ... )
    >>> play(model, [3, 5], 250).shape
    (2, 250, 1)
    """
    gru: Any
    linear: Any
    _, gru, linear = model  # the network without the layer that knows how long a note is
    y, _ = gru(pygru.RepeatVector(samples, batch_first=True)(_key(notes)))
    sound: Array = linear(y)
    return sound


def _key(notes: npt.ArrayLike) -> Array:
    """Return the number that the network is given: (N, 1), from -1 to 1."""
    return (np.asarray(notes)[:, np.newaxis] / (SEMITONES / 2) - 1).astype(np.float32)


def _error(y: Array, true: Array) -> float:
    return float(np.mean((y - true) ** 2) / np.mean(true**2))


def _draw(plt: Any, model: pygru.Sequential, notes: npt.NDArray[Any], errors: list[float]) -> Any:
    figure, axes = plt.subplot_mosaic("abc;ddd", figsize=(10, 6), layout="constrained")
    network, nearest, mean = (f"(error {error:.2g} of the power)" for error in errors)
    shown = notes[[1, len(notes) // 2, -1]]
    for name, note in zip("abcd", [*shown, shown[1]], strict=True):
        ax, n = axes[name], LONGER * SAMPLES if name == "d" else SAMPLES
        below, true, above = wave([note - 1, note, note + 1], n)  # (n, 1)
        ax.plot(true, color=GREY, linewidth=4, alpha=0.4, label="true wave")
        if name != "d":
            ax.plot(below, ":", color=ORANGE, label=f"nearest note taught {nearest}")
            ax.plot((below + above) / 2, "--", color=ORANGE, label=f"mean of neighbours {mean}")
        ax.plot(play(model, [note], n)[0], color=BLUE, linewidth=1.5, label=f"network {network}")
        ax.set(title=f"{note} semitones above the lowest", xlabel="sample", ylim=(-1.6, 1.6))
        ax.margins(x=0.01)
        ax.spines[["top", "right"]].set_visible(False)
    axes["a"].set_ylabel("amplitude")
    axes["d"].set_title(f"{shown[1]} semitones, held {LONGER} times as long as in training")
    axes["d"].set_ylabel("amplitude")
    axes["d"].axvline(SAMPLES, color=GREY, linewidth=1)
    axes["d"].text(SAMPLES + 1, 1.6, "longer than any note in training", va="top")
    figure.suptitle("Notes it was never taught, from their pitch alone")
    handles, labels = axes["a"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=2)
    return figure
