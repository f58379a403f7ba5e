# SPDX-License-Identifier: MIT
"""How things are timed: in turn, in an order that rotates, all with the same warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

CASE_SECONDS = 0.4  # of timing for one mode and shape, where a few rounds take less
BLOCK_SECONDS = 0.01  # one sample is the mean over a block of calls at least this long
FEW = 5  # samples: below this, quartiles mean nothing
# By the seconds of a round: long calls are less easily disturbed.
FEWEST_ROUNDS = {2.0: 2, 0.5: 3, 0.0: FEW}


def time_in_turn(
    calls: dict[str, Callable[[], Any]], seconds: float
) -> dict[str, dict[str, float]]:
    """Alternate blocks of calls for some seconds; return a `summary` by name.

    Every call has been made once before. Where all blocks are lone calls, a long call warms itself,
    and the one that was timed to find this out counts as a first round. Otherwise each block begins
    with a call that is not timed.
    """
    blocks = {name: block_size(call) for name, call in calls.items()}
    per_round = sum(count * each for count, each in blocks.values())
    lone = all(count == 1 for count, _ in blocks.values())
    fewest = next(n for least, n in FEWEST_ROUNDS.items() if per_round >= least)
    rounds = int(min(21, max(fewest, seconds / per_round)))
    samples = {name: [each] if lone else [] for name, (_, each) in blocks.items()}
    for k in range(lone, rounds):
        for name in rotated(list(calls), k):
            settle()
            if not lone:
                calls[name]()
            samples[name].append(timed(calls[name], blocks[name][0]))
    return {name: summary(values) for name, values in samples.items()}


def settle(window: float = 0.006, most: float = 0.5) -> None:
    """Wait until the last contender's threads have stopped spinning: ONNX Runtime's take 60 ms.

    What a running thread has used is known to the process after a tick of the system, of 4 ms.
    """
    end = time.perf_counter() + most
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(window)
        if time.process_time() - before < window / 4:
            break


def rotated(names: list[str], k: int) -> list[str]:
    """Return the order of round k: everybody is first, and last, equally often."""
    k %= len(names)
    return names[k:] + names[:k]


def block_size(call: Callable[[], Any], least: float = BLOCK_SECONDS) -> tuple[int, float]:
    """Return how many calls make a block of at least so many seconds, and the seconds of one."""
    seconds = timed(call)
    if seconds < least:
        seconds = timed(call, max(1, int(least / seconds)))
    return max(1, int(least / seconds)), seconds


def timed(call: Callable[[], Any], count: int = 1) -> float:
    """Return the mean seconds of a call over `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def summary(samples: list[float]) -> dict[str, float]:
    """Return median, count, and the spread: quartiles, or with `FEW` samples least and most."""
    edges = (0.25, 0.75) if len(samples) >= FEW else (0, 1)
    low, median, high = (float(q) for q in np.quantile(samples, (edges[0], 0.5, edges[1])))
    return {"median": median, "low": low, "high": high, "samples": len(samples)}
