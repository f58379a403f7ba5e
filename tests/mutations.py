# SPDX-License-Identifier: MIT
"""Broken files for readers to refuse: a good file, mutated at random, and what must not happen."""

from __future__ import annotations

import random
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What a reader may take besides twice the file: imports, buffers, error messages.
OVERHEAD = 4 << 20


def mutate(content: bytes, seed: int) -> bytes:
    """Return a file that differs in some bytes, lost its end, or gained some."""
    rng = random.Random(seed)
    broken, kind = bytearray(content), rng.randrange(6)
    start = rng.randrange(len(broken))
    end = min(len(broken), start + rng.randint(1, 64))
    if kind == 0:
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
    elif kind == 1:
        broken[start:end] = rng.randbytes(end - start)
    elif kind == 2:
        del broken[start:]
    elif kind == 3:
        broken[start:end] = bytes([rng.choice((0, 0x7F, 0xFF))]) * (end - start)
    elif kind == 4:
        broken[start:start] = rng.randbytes(rng.randint(1, 16))
    else:  # digits, where sizes are text
        digits = [i for i, byte in enumerate(broken) if chr(byte).isdigit()] or [start]
        i = rng.choice(digits)
        broken[i : i + 1] = str(rng.choice((-1, 0, 9, 10**6, 2**40, 2**64))).encode()
    return bytes(broken)


def assert_refused_or_read(
    read: Callable[[Path], Any], good: Path, seeds: range, *, where: str
) -> None:
    """Hold a reader to its word: a model or a ValueError that names the file, in little memory."""
    content, path = good.read_bytes(), good.with_name(f"broken-{good.name}")
    refused = 0
    tracemalloc.start()
    try:
        for seed in seeds:
            path.write_bytes(broken := mutate(content, seed))
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            told = True
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read(path)
            except ValueError as error:
                told = str(error).startswith(f"{where}: {path}")
                refused += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            assert told, f"seed {seed}: the error does not name function and file"
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak <= 2 * len(broken) + OVERHEAD, f"seed {seed}: {peak} bytes"
    finally:
        tracemalloc.stop()
        path.unlink(missing_ok=True)
    assert refused > len(seeds) // 10
