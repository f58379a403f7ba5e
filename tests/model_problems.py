# SPDX-License-Identifier: MIT
"""Models to compose, to save and to give samples, and how one may reach another process."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

import pygru

T, B, I, H = 7, 5, 3, 8  # noqa: E741
LENGTHS = [7, 0, 1, 4, 6]

# A model that answers every step, and samples for it.
BATCHED: dict[str, Any] = {"batch_first": True, "rng": 0}
PER_STEP = pygru.Sequential(pygru.GRU(2, 3, **BATCHED), pygru.Linear(3, 1, rng=0))
X_STEPS = np.zeros((6, 4, 2))
X_LIST = [np.zeros((n, 2)) for n in (4, 2, 3, 4, 1, 2)]


def make_model(dtype=np.float64, rng=0, reset="after", H=H):
    """Build a model with every kind of module that takes real numbers."""
    rng = np.random.default_rng(rng)
    options = {"batch_first": True, "dtype": dtype, "rng": rng}
    return pygru.Sequential(
        pygru.Linear(I, 4, dtype=dtype, rng=rng),
        pygru.GRU(4, H, 2, dropout=0.3, reset=reset, **options),
        pygru.LayerNorm(H, dtype=dtype),
        pygru.RNN(H, 3, bidirectional=True, **options),
        pygru.Dropout(0.2, rng=rng),
        pygru.LastStep(),
        pygru.Linear(6, 2, dtype=dtype, rng=rng),
    )


def through_shared_memory(thing, *, frozen=True, odd=True):
    """Pickle with the buffers apart; they come back read-only, at an odd address, or both."""
    buffers = []
    content = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    kind = bytes if frozen else bytearray
    shared = [memoryview(kind(b"-" * odd + bytes(buffer)))[odd:] for buffer in buffers]
    return pickle.loads(content, buffers=shared)
