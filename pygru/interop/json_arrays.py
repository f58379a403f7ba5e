# SPDX-License-Identifier: MIT
"""JSON whose nested lists of numbers are arrays, read in memory in proportion to the file.

Python's own reader makes an object of 24 bytes of every number and one of 56 of every list. Here
all numbers of a file go into one array, and a regular nest of lists becomes a view into it. The
file itself is mapped, not read. It is JSON as programs write weights: strings have no escapes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["read_json"]

NUMBER = rb"-?\d{1,64}(?:\.\d{1,64})?(?:[eE][+-]?\d{1,4})?"
COMMA = rb"[ \t\r\n]*,[ \t\r\n]*"
# What is read in one go: some numbers, or some short lists of numbers.
NUMBERS = re.compile(rb"%b(?:%b%b){0,4095}" % (NUMBER, COMMA, NUMBER))
_ROW = rb"\[[ \t\r\n]*%b(?:%b%b){0,511}[ \t\r\n]*\]" % (NUMBER, COMMA, NUMBER)
ROWS = re.compile(rb"%b(?:%b%b){0,31}" % (_ROW, COMMA, _ROW))
STRING = re.compile(rb'"([^"\\\x00-\x1f]{0,256})"')
LITERALS = {b"null": None, b"true": True, b"false": False}
DEEPEST = 16
CHUNK = 1 << 16
MOST = 4096  # members of objects, and of lists that are no array, in one file


class _Numbers(NamedTuple):
    """A regular nest of lists: where its numbers lie in the one array."""

    start: int
    shape: tuple[int, ...]


def read_json(path: Path, dtype: npt.DTypeLike) -> Any:
    """Return what a JSON file holds: dicts, lists, strings, None, bools, and arrays of a dtype.

    Raises
    ------
    ValueError
        With the place of what is no JSON, or is more than a file of weights holds.
    """
    import mmap

    size = path.stat().st_size
    if size == 0:
        raise ValueError("must be JSON, got an empty file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        reader = _Reader(text, np.empty(_at_most(text), dtype))
        value = reader.value(0)
        if reader.peek() != b"":
            raise reader.wrong("the end")
        return reader.resolve(value)


def _each(start: int, count: int, shape: tuple[int, ...]) -> list[_Numbers]:
    size = int(np.prod(shape))
    return [_Numbers(start + i * size, shape) for i in range(count)]


def _at_most(text: Any) -> int:
    """Return how many numbers a text can hold: one after each comma, bracket and colon."""
    count = 1
    for at in range(0, len(text), CHUNK):
        piece: bytes = text[at : at + CHUNK]
        count += piece.count(b",") + piece.count(b"[") + piece.count(b":")
    return count


class _Reader:
    """One pass over one text."""

    def __init__(self, text: Any, numbers: npt.NDArray[Any]) -> None:
        self.text, self.at = text, 0
        self.numbers, self.count = numbers, 0
        self.left = MOST

    def wrong(self, expected: str) -> ValueError:
        found = bytes(self.text[self.at : self.at + 12])
        return ValueError(f"must be JSON with {expected} at byte {self.at}, got {found!r}")

    def peek(self) -> bytes:
        """Return the next byte that is not white space, b"" at the end."""
        while (byte := self.text[self.at : self.at + 1]) in (b" ", b"\n", b"\r", b"\t"):
            self.at += 1
        return bytes(byte)

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise self.wrong(f"nothing nested deeper than {DEEPEST}")
        byte = self.peek()
        if byte == b"{":
            return self.members(depth)
        if byte == b"[":
            return self.nest(depth)
        if byte == b'"':
            return self.string()
        for word, value in LITERALS.items():
            if self.text[self.at : self.at + len(word)] == word:
                self.at += len(word)
                return value
        found = re.compile(NUMBER).match(self.text, self.at)
        if found is None:
            raise self.wrong("a value")
        self.keep([found.group()])
        self.at = found.end()
        return _Numbers(self.count - 1, ())

    def members(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        self.at += 1
        while self.peek() != b"}":
            if made:
                self.expect(b",")
                self.peek()
            key = self.string()
            if key in made:
                raise self.wrong(f"each name once, not {key!r} again")
            self.spend(1)
            self.expect(b":")
            made[key] = self.value(depth + 1)
        self.at += 1
        return made

    def nest(self, depth: int) -> Any:
        """Return a list, or the numbers in it when it is a regular nest of nothing else."""
        self.at += 1
        start, count = self.count, 0
        shape: tuple[int, ...] = ()
        made: list[Any] | None = None  # from the first member on that breaks the rule
        while self.peek() != b"]":
            if count:
                self.expect(b",")
                self.peek()
            at = self.count
            many, inner = self.bulk() or (1, None)
            item = _Numbers(at, inner) if inner is not None else self.value(depth + 1)
            regular = isinstance(item, _Numbers) and item.shape == (shape if count else item.shape)
            if made is None and regular:
                shape = item.shape
            else:
                self.spend(many + (count if made is None else 0))
                made = _each(start, count, shape) if made is None else made
                made += [item] if inner is None else _each(at, many, inner)
            count += many
        self.at += 1
        self.spend(count == 0)
        return _Numbers(start, (count, *shape)) if made is None else made

    def bulk(self) -> tuple[int, tuple[int, ...]] | None:
        """Read some numbers, or some lists of equally many; return how many of what shape."""
        if found := NUMBERS.match(self.text, self.at):
            self.keep(found.group().split(b","))
            self.at = found.end()
            return found.group().count(b",") + 1, ()
        found = ROWS.match(self.text, self.at)
        if found is None:
            return None
        rows = found.group().split(b"]")[:-1]
        length = rows[0].count(b",") + 1
        equal = [row.count(b",") == length for row in rows[1:]]  # one comma is before the row
        many = 1 + (equal.index(False) if False in equal else len(equal))
        text = b"]".join(rows[:many])
        self.keep(text.translate(None, b"[]").split(b","))
        self.at += len(text) + 1
        return many, (length,)

    def keep(self, texts: list[bytes]) -> None:
        values = np.array([float(text) for text in texts])
        if not np.abs(values).max() <= float(np.finfo(self.numbers.dtype).max):
            raise self.wrong(f"numbers that {self.numbers.dtype} can hold")
        self.numbers[self.count : self.count + len(values)] = values
        self.count += len(values)

    def spend(self, members: int) -> None:
        self.left -= members
        if self.left < 0:
            raise self.wrong(f"arrays, and at most {MOST} other members of objects and lists")

    def string(self) -> str:
        found = STRING.match(self.text, self.at)
        if found is None:
            raise self.wrong("a plain string")
        self.at = found.end()
        return found.group(1).decode()

    def expect(self, byte: bytes) -> None:
        if self.peek() != byte:
            raise self.wrong(repr(byte.decode()))
        self.at += 1

    def resolve(self, value: Any) -> Any:
        """Return a value with arrays in place of the numbers' places."""
        if isinstance(value, _Numbers):
            start, shape = value
            return self.numbers[start : start + int(np.prod(shape))].reshape(shape)
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        return value
