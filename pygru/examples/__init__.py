# SPDX-License-Identifier: MIT
"""Examples that ship with the library: one job each, from data to picture.

An example is a module with ``add_arguments(parser)`` and ``run(args)``, and one row in `EXAMPLES`;
``pygru example NAME`` runs it. What several of them need is here.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import pygru

__all__ = [
    "BLUE",
    "EXAMPLES",
    "GREY",
    "ORANGE",
    "Example",
    "add_common",
    "begin",
    "integer",
    "rate",
    "save_model",
    "save_picture",
]


class Example(NamedTuple):
    """How long an example takes on two cores, roughly, and what it shows, in one line."""

    duration: str
    summary: str


EXAMPLES = {  # by the name of the module
    "addition": Example("2 min", "learn to add from written sums: read 535+61, write 596"),
    "chars": Example(
        "4 min", "learn to write Python's documentation, character by character, beside xz -9"
    ),
    "memory": Example(
        "1 min", "why gates: a GRU remembers over 200 steps, an RNN of its size does not"
    ),
    "sine": Example("15 s", "learn the next value of a sine wave, then continue the wave alone"),
    "sunspots": Example("3 s", "forecast next year's sunspots, then fifty years alone"),
    "vowels": Example("10 s", "tell nine speakers apart by how they say two vowels"),
    "waveform": Example(
        "10 s", "from one number, the pitch, to a whole waveform, for notes never taught"
    ),
}

# Colours that everybody can tell apart: Okabe and Ito (2008), "Color Universal Design".
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.35"


def add_common(
    parser: argparse.ArgumentParser, *, epochs: int, of: str, hidden: int, lr: float
) -> None:
    """Declare the options that every example has; ``of`` says what an epoch is."""
    add = parser.add_argument
    add("--epochs", type=integer(1), default=epochs, help=f"{of} (default: {epochs})")
    add("--hidden", type=integer(1), default=hidden, help=f"hidden units (default: {hidden})")
    add("--lr", type=rate, default=lr, help=f"learning rate at the start (default: {lr})")
    add("--seed", type=integer(0), default=0, help="of all random numbers (default: 0)")
    add("--threads", type=integer(1), help="threads to use (default: all cores)")
    add(
        "--output", type=Path, default=Path(), metavar="FOLDER",
        help="folder to write to (default: the current one)",
    )  # fmt: skip
    add("--no-plot", action="store_true", help="draw no picture")


def begin(args: argparse.Namespace) -> Any:
    """Set the threads, make the output folder; return matplotlib's pyplot, or None for no picture.

    It draws into files, on machines without a screen too.

    Raises
    ------
    ImportError, OSError
        Without matplotlib, or a folder to write to: better before the training than after it. The
        message says what to do.
    """
    plt = None if args.no_plot else _pyplot()
    if args.threads is not None:
        pygru.set_num_threads(args.threads)
    try:  # now, not when there is something to lose
        args.output.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=args.output):
            pass
    except OSError as error:
        raise OSError(
            f"cannot write into {args.output}: {error.strerror}; give another folder with --output"
        ) from None
    return plt


def _pyplot() -> Any:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "the picture needs matplotlib: `pip install matplotlib`, or pass --no-plot"
        ) from error
    return plt


def save_model(model: Any, path: Path) -> None:
    """Save a trained model and say where."""
    model.save(path)
    print(f"model: {path}")


def save_picture(plt: Any, figure: Any, path: Path) -> None:
    """Save a picture, free it, and say where."""
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"picture: {path}")


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads an option that is an integer of at least and, where given, at most so much.

    Examples
    --------
    >>> integer(1)("12")
    12
    """
    valid = f"at least {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"must be an integer, {valid}, got {text}")
        return value

    return read


def rate(text: str) -> float:
    """Read a learning rate: a finite number above 0.

    Examples
    --------
    >>> rate("1e-3")
    0.001
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value
