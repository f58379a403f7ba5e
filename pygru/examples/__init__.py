# SPDX-License-Identifier: MIT
"""Examples that ship with the library: one job each, from data to picture.

An example is a module with ``add_arguments(parser)`` and ``run(args)``, and one row in `EXAMPLES`;
``pygru example NAME`` runs it. What several of them need is here.
"""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["BLUE", "EXAMPLES", "GREY", "ORANGE", "positive", "pyplot"]

EXAMPLES = {
    "addition": "learn to add from written sums: read 535+61, write 596",
    "chars": "learn to write Python's documentation, character by character, beside xz -9",
    "memory": "why gates: a GRU remembers over 200 steps, an RNN of its size does not",
    "sine": "learn the next value of a sine wave, then continue the wave alone",
    "sunspots": "forecast next year's sunspots, then fifty years alone",
    "vowels": "tell nine speakers apart by how they say two vowels",
    "waveform": "from one number, the pitch, to a whole waveform, for notes never taught",
}
"""Name of the module -> what it shows, in one line."""

# Colours that everybody can tell apart: Okabe and Ito (2008), "Color Universal Design".
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.35"


def pyplot() -> Any:
    """Return matplotlib's pyplot for drawing into files, on machines without a screen too.

    Raises
    ------
    ImportError
        Without matplotlib; the message says what to do.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "the picture needs matplotlib: `pip install matplotlib`, or pass --no-plot"
        ) from error
    return plt


def positive(text: str) -> int:
    """Read an option that counts something: an integer of at least 1.

    Examples
    --------
    >>> positive("12")
    12
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
