# SPDX-License-Identifier: MIT
"""How wide the vectors are that a module reads and gives: the last axis of x and of y."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["ANY", "SAME", "Widths", "chained"]


class Widths(NamedTuple):
    """What a module says of its vectors, None where it says nothing."""

    reads: int | None = None
    gives: int | None = None
    same: bool = False  # it gives what it reads, however wide
    classes: bool = False  # it reads integers


ANY = Widths()
SAME = Widths(same=True)


def chained(modules: Iterable[tuple[str, Widths]]) -> Widths:
    """Return the widths of modules in a row, by their labels; refuse two that do not fit.

    Examples
    --------
    >>> chained([("a", Widths(3, 8)), ("b", SAME), ("c", Widths(8, 1))])[:2]
    (3, 1)
    >>> chained([("a", Widths(3, 8)), ("b", SAME), ("c", Widths(4, 1))])
    Traceback (most recent call last):
        ...
    ValueError: c must read what a gives, K = 8, got one that reads 4
    """
    reads = gives = None
    giver, same, classes = "", True, False
    for label, widths in modules:
        if None not in (gives, widths.reads) and gives != widths.reads:
            raise ValueError(
                f"{label} must read what {giver} gives, K = {gives}, got one that reads "
                f"{widths.reads}"
            )
        if widths.classes and gives is not None:
            raise ValueError(f"{label} must come first, as it reads integers, got it after {giver}")
        if same:  # so far
            reads, classes = widths.reads, widths.classes
        if not widths.same:
            giver, gives, same = label, widths.gives, False
    return Widths(reads, gives, same, classes)
