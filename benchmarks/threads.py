# SPDX-License-Identifier: MIT
"""What more threads give: the same call with one thread and with more, in turn, in one process.

    python benchmarks/threads.py             # two threads
    python benchmarks/threads.py --threads 4 --shapes forecast speech

Both give the same bits, which is checked first. A ratio is the median over rounds of the time with
one thread over the time with more, each round timing both. Beside it stands what the machine gives
as many threads of pure arithmetic in the same rounds: two CPUs of a virtual machine may be one
core. Small sizes follow, from a tenth of the work that is worth a thread to thirty times it: the
worst ratio. Then, on one thread, what the 65th unit costs; a bidirectional layer on all threads
beside one direction on one; and what more threads give where calls are far apart, so that threads
must be woken, and beside processes that keep one core busy, or as many as the threads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
from contender import Pygru, Run
from machine import available_cores, cpu_name
from shapes import CELLS, SHAPES, Problem, Shape, make_problem
from timing import BLOCK_SECONDS, CASE_SECONDS, block_size, timed

import pygru
from pygru import _core

Call = tuple[int, Callable[[], Any]]  # how many threads, and what to call

WORTH = 1e6  # operations that are worth a thread (kLeastWork in csrc/runtime/plan.h)
SWEEP_SHARE = 0.1  # of the seconds of a large shape: what one of the many small ones gets
DISTURBED = 5  # times the seconds of a large shape: what comes and goes takes longer to average
TURN = 0.05  # seconds of each before the other's turn, there
ARITHMETIC = 500_000  # rounds of multiply-adds: about a millisecond


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    whole = [name for name, shape in SHAPES.items() if not shape.streaming]
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--shapes", nargs="+", choices=whole, default=whole, metavar="S")
    parser.add_argument("--cell", choices=CELLS, default="gru_after", help="default: gru_after")
    parser.add_argument(
        "--seconds", type=float, default=CASE_SECONDS, help="for one line, default: %(default)s"
    )
    args = parser.parse_args()
    if not 2 <= args.threads <= len(available_cores()):
        parser.error(f"--threads must lie in 2..{len(available_cores())}, the cores there are")
    if not args.seconds > 0:
        parser.error(f"--seconds must be greater than 0, got {args.seconds:g}")
    print(f"pygru {pygru.__version__}, {_core.isa()}, {args.cell}; {cpu_name()}")

    whole_shapes(args)
    for mode in ("inference", "training"):
        print_worst(mode, args)
        print_tail(mode, args)
    if args.cell != "rnn":
        both_directions(args)
    disturbed(args)


def whole_shapes(args: argparse.Namespace) -> None:
    cores: list[float] = []
    with ThreadPoolExecutor(args.threads) as pool:
        for mode, name in product(("inference", "training"), args.shapes):
            call = call_of(mode, SHAPES[name], args)
            cores.clear()
            ratio, seconds = compare(
                (1, call),
                (args.threads, call),
                args.seconds,
                lambda: cores.append(cores_worth(args.threads, pool)),
            )
            print(
                f"  {mode:9} {name:9} {args.threads} threads: {ratio:.2f}x, "
                f"arithmetic {np.median(cores):.2f}x  ({report(seconds)})"
            )


def cores_worth(threads: int, pool: ThreadPoolExecutor) -> float:
    """Return what so many threads of pure multiply-adds do beside one."""

    def spent(_: int = 0) -> float:
        return timed(lambda: _core.multiply_adds(ARITHMETIC, "float32"))

    one = spent()
    return threads * one / max(pool.map(spent, range(threads)))


def print_worst(mode: str, args: argparse.Namespace) -> None:
    """Print the least that more threads give at any small size.

    The least of many ratios is the unluckiest, too, so the worst five are timed again, for longer.
    """
    seconds = SWEEP_SHARE * args.seconds
    calls = {shape: call_of(mode, shape, args) for shape in small_shapes(args.cell)}

    def ratio_of(shape: Shape, seconds: float) -> float:
        return compare((1, calls[shape]), (args.threads, calls[shape]), seconds)[0]

    ratios = {shape: ratio_of(shape, seconds) for shape in calls}
    suspects = sorted(calls, key=ratios.__getitem__)[:5]
    ratio, name = min((ratio_of(shape, 5 * seconds), shape.name) for shape in suspects)
    print(
        f"  {mode:9} worst of {len(calls)} small sizes, {args.threads} threads: {ratio:.2f}x  "
        f"({name})"
    )


def small_shapes(cell: str) -> Iterator[Shape]:
    for B, T, H in product((1, 4, 16, 64), (1, 5, 20), (16, 32, 64, 128, 256)):
        shape = Shape(f"B={B} T={T} I=8 H={H}", B, T, 8, H, "a small call")
        if 0.1 <= shape.forward_flop(CELLS[cell]) / WORTH <= 30:
            yield shape


def print_tail(mode: str, args: argparse.Namespace) -> None:
    """Print what H = 65 costs beside H = 64, where a register's worth of units is full."""
    full, tail = (call_of(mode, Shape(f"H={H}", 32, 20, 16, H, "a tail"), args) for H in (64, 65))
    ratio, seconds = compare((1, full), (1, tail), args.seconds)
    print(f"  {mode:9} H=65 beside H=64, one thread: {1 / ratio:.2f} of it  ({report(seconds)})")


def both_directions(args: argparse.Namespace) -> None:
    for name in args.shapes:
        one, two = directions(make_problem(SHAPES[name], args.cell))
        ratio, seconds = compare((1, one), (args.threads, two), args.seconds)
        print(f"  inference {name:9} both directions: {1 / ratio:.2f} of one  ({report(seconds)})")


def disturbed(args: argparse.Namespace) -> None:
    cases = (
        ("1 ms between calls", 0.001, 0),
        ("20 ms between calls", 0.02, 0),
        ("beside a busy process", 0.0, 1),
        (f"beside {args.threads} of them", 0.0, args.threads),
    )
    for (what, pause, busy), name in product(cases, ("sine", "sequence")):
        call = call_of("inference", SHAPES[name], args)
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            one, more = means(call, args.threads, pause, DISTURBED * args.seconds)
        finally:
            for process in others:
                process.kill()
                process.wait()
        print(
            f"  inference {name:9} {args.threads} threads, {what}: {one / more:.2f}x  "
            f"(means {report((one, more))})"
        )


def means(
    call: Callable[[], Any], threads: int, pause: float, seconds: float
) -> tuple[float, float]:
    """Return the mean times of a call with one thread and with more, each call after a pause."""
    spent = np.zeros((2, 2))  # by contender: seconds, calls
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, count in enumerate((1, threads)):
            pygru.set_num_threads(count)
            until = time.perf_counter() + TURN
            while time.perf_counter() < until:
                time.sleep(pause)
                spent[i] += timed(call), 1
    one, more = spent[:, 0] / spent[:, 1]
    return float(one), float(more)


def call_of(mode: str, shape: Shape, args: argparse.Namespace) -> Callable[[], Any]:
    """Return a call that gives the same bits with one thread and with more."""
    run: Run = getattr(Pygru(1), mode)(make_problem(shape, args.cell))
    answers = []
    for threads in (1, args.threads):
        pygru.set_num_threads(threads)
        answers.append({name: array.copy() for name, array in run.answer(run.call()).items()})
    for name, array in answers[0].items():
        if not np.array_equal(array, answers[1][name]):
            raise ValueError(f"{mode} {shape.name}: {name} depends on the number of threads")
    return run.call


def directions(problem: Problem) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return a layer's inference with one direction, and with two."""
    shape, x = problem.shape, problem.x
    reset: Any = problem.cell.removeprefix("gru_")
    one, two = (
        pygru.GRU(shape.I, shape.H, bidirectional=both, reset=reset, rng=0)
        for both in (False, True)
    )
    return lambda: one(x), lambda: two(x)


def compare(
    first: Call, second: Call, budget: float, between: Callable[[], None] = lambda: None
) -> tuple[float, tuple[float, float]]:
    """Return the median ratio of two calls' times, and the median times, in `budget` seconds.

    `between` is called in every round.
    """
    blocks = []
    for threads, call in (first, second):
        pygru.set_num_threads(threads)
        call()
        blocks.append(block_size(call, min(BLOCK_SECONDS, budget / 10)))
    per_round = sum(count * seconds for count, seconds in blocks)
    times = []
    for k in range(int(min(101, max(5, budget / per_round)))):
        between()
        row = [0.0, 0.0]
        for i in (k % 2, 1 - k % 2):
            threads, call = (first, second)[i]
            pygru.set_num_threads(threads)
            call()
            row[i] = timed(call, blocks[i][0])
        times.append(row)
    rounds = np.array(times)  # (rounds, 2)
    medians = np.median(rounds, axis=0)
    return float(np.median(rounds[:, 0] / rounds[:, 1])), (float(medians[0]), float(medians[1]))


def report(seconds: tuple[float, float]) -> str:
    return " and ".join(f"{1e3 * s:.3g} ms" for s in seconds)


if __name__ == "__main__":
    main()
