# SPDX-License-Identifier: MIT
"""What more threads give: the same call with one thread and with more, in turn, in one process.

    python benchmarks/threads.py             # two threads
    python benchmarks/threads.py --threads 4 --shapes forecast speech

A ratio is the median over rounds of the time with one thread over the time with more, each round
timing both. The last lines compare a bidirectional layer on all threads with one direction on one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from contender import Pygru
from shapes import CELLS, SHAPES, Problem, make_problem
from speed import CASE_SECONDS, available_cores, block_size, cpu_name, timed

import pygru
from pygru import _core

Call = tuple[int, Callable[[], Any]]  # how many threads, and what to call


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    whole = [name for name, shape in SHAPES.items() if not shape.streaming]
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--shapes", nargs="+", choices=whole, default=whole, metavar="S")
    parser.add_argument("--cell", choices=CELLS, default="gru_after", help="default: gru_after")
    args = parser.parse_args()
    if not 2 <= args.threads <= len(available_cores()):
        parser.error(f"--threads must lie in 2..{len(available_cores())}, the cores there are")
    print(f"pygru {pygru.__version__}, {_core.isa()}, {args.cell}; {cpu_name()}")

    for mode in ("inference", "training"):
        for name in args.shapes:
            problem = make_problem(SHAPES[name], args.cell)
            call = getattr(Pygru(1), mode)(problem).call
            ratio, seconds = compare((1, call), (args.threads, call))
            print(f"  {mode:9} {name:9} {args.threads} threads: {ratio:.2f}x  ({report(seconds)})")
    if args.cell == "rnn":
        return
    for name in args.shapes:
        one, two = directions(make_problem(SHAPES[name], args.cell))
        ratio, seconds = compare((1, one), (args.threads, two))
        print(f"  inference {name:9} both directions: {1 / ratio:.2f} of one  ({report(seconds)})")


def directions(problem: Problem) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return a layer's inference with one direction, and with two."""
    shape, x = problem.shape, problem.x
    reset: Any = problem.cell.removeprefix("gru_")
    one, two = (
        pygru.GRU(shape.I, shape.H, bidirectional=both, reset=reset, rng=0)
        for both in (False, True)
    )
    return lambda: one(x), lambda: two(x)


def compare(first: Call, second: Call) -> tuple[float, tuple[float, float]]:
    """Return the median ratio of two calls' times, and the median times."""
    blocks = []
    for threads, call in (first, second):
        pygru.set_num_threads(threads)
        call()
        blocks.append(block_size(call))
    per_round = sum(count * seconds for count, seconds in blocks)
    times = []
    for _ in range(int(min(101, max(5, CASE_SECONDS / per_round)))):
        row = []
        for (threads, call), (count, _) in zip((first, second), blocks, strict=True):
            pygru.set_num_threads(threads)
            call()
            row.append(timed(call, count))
        times.append(row)
    rounds = np.array(times)  # (rounds, 2)
    medians = np.median(rounds, axis=0)
    return float(np.median(rounds[:, 0] / rounds[:, 1])), (float(medians[0]), float(medians[1]))


def report(seconds: tuple[float, float]) -> str:
    return " and ".join(f"{1e3 * s:.3g} ms" for s in seconds)


if __name__ == "__main__":
    main()
