# SPDX-License-Identifier: MIT
"""How fast is pygru, and how fast is everyone else, on this machine, today?

    python benchmarks/speed.py                        # everything, on one thread
    python benchmarks/speed.py --threads 1 2 --plot ratios.png --json results.json

Every contender gets the same weights and input, has its answer checked against `pygru.reference`,
and is then timed in turn with the others in one process, from Python call to Python result. The
ratio is the best rival's median over pygru's: absolute times move with the machine, ratios less.

Each thread count runs in a process of its own, pinned to as many cores, because most frameworks
read their thread count once, when they are imported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import experiment
import numpy as np
import report
from contender import Contender, Pygru
from machine import available_cores, cpu_name, limits
from peers import PEERS
from shapes import CELLS, SHAPES, Problem, check, make_problem
from timing import CASE_SECONDS, time_in_turn

import pygru
from pygru import _core

MODES = ("inference", "training", "streaming", "experiment")
RIVALS = [name for name in PEERS if name != "numpy"]


def main(args: argparse.Namespace) -> None:
    results: list[dict[str, Any]] = []
    for threads in args.threads:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.json"
            command = [sys.executable, __file__, *sys.argv[1:]]
            command += ["--worker", str(threads), "--json", str(path)]
            subprocess.run(command, check=True, env=os.environ | environment(threads))
            results.append(json.loads(path.read_text()))
    if args.markdown:
        print("\n" + report.markdown(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
        print(f"results: {args.json}")
    if args.plot:
        report.plot(results, args.plot)
        print(f"picture: {args.plot}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0],
        epilog="shapes: " + "; ".join(f"{s.name} ({s.stands_for})" for s in SHAPES.values()),
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="S")
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--cell", choices=CELLS, default="gru_after", help="default: gru_after")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N")
    parser.add_argument("--rivals", nargs="*", choices=PEERS, default=RIVALS)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no shape above speech")
    parser.add_argument(
        "--seconds", type=float, help=f"of timing for one mode and shape, default: {CASE_SECONDS}"
    )
    parser.add_argument(
        "--epochs", type=int, metavar="N",
        help="of the sine experiment: 120 are the whole; default: 3, scaled to 120",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios by shape")
    parser.add_argument("--markdown", action="store_true", help="print the README's table")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    cores = len(available_cores())
    if not all(1 <= n <= cores for n in args.threads):
        parser.error(f"--threads must lie in 1..{cores}, the cores of this process")
    if args.epochs is not None and args.epochs < 1:
        parser.error(f"--epochs must be at least 1, got {args.epochs}")
    for option, path in (("--json", args.json), ("--plot", args.plot)):
        if path is not None and not path.parent.is_dir():
            parser.error(f"{option} must lie in a folder that exists, got {path}")
    if args.epochs is None:
        args.epochs = 2 if args.quick else 3
    if args.seconds is None:
        args.seconds = 0 if args.quick else CASE_SECONDS
    if args.quick:
        args.shapes = [name for name in args.shapes if name not in ("h512", "h1024")]
    return args


def environment(threads: int) -> dict[str, str]:
    """Return the variables that hold every framework to a thread count, and quiet."""
    n = str(threads)
    variables = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), n
    )
    if threads == 1:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return variables | {
        "PYGRU_NUM_THREADS": n,
        "JAX_PLATFORMS": "cpu",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }


def work(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Time everything that was asked for at one thread count, in this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, available_cores()[:threads])

    print(f"pygru {pygru.__version__}, {_core.isa()}, {threads} thread(s); {cpu_name()}")
    own = Pygru(threads)
    contenders: list[Contender] = [own]
    for name in args.rivals:
        try:
            contenders.append(PEERS[name](threads))
        except ImportError as error:
            print(f"  {name}: skipped, not installed ({error})")
    versions = {c.name: c.version for c in contenders}
    print(
        "  against " + (", ".join(f"{k} {v}" for k, v in versions.items() if k != "pygru") or "-")
    )

    peak, bandwidth = limits(threads)
    print(
        f"  {args.cell}; multiply-add peak {peak:.0f} GFLOP/s, reading {bandwidth:.0f} GB/s "
        f"(measured on {threads} thread(s) at once)"
    )

    cases = []
    for mode, name in ((m, s) for m in args.mode if m != "experiment" for s in args.shapes):
        shape = SHAPES[name]
        if shape.streaming != (mode == "streaming"):
            continue
        case = time_case(contenders, mode, make_problem(shape, args.cell), args.seconds)
        case |= rates(case, args.cell, peak, bandwidth)
        cases.append(case)
        print(report.line(case), flush=True)
    if "experiment" in args.mode and args.cell != "rnn":
        case = experiment.run(own, contenders[1:], args.epochs)
        case["overhead"] = experiment.overhead(own)
        cases.append(case)
        print(report.line(case), flush=True)
    return {
        "machine": cpu_name(),
        "isa": _core.isa(),
        "threads": threads,
        "cell": args.cell,
        "dtype": "float32",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "versions": versions,
        "build": _core.build_info(),
        "peak_gflops": peak,
        "read_gb_per_s": bandwidth,
        "cases": cases,
    }


def time_case(
    contenders: list[Contender], mode: str, problem: Problem, seconds: float
) -> dict[str, Any]:
    """Return mode, shape and times by contender."""
    with ExitStack() as stack:
        if mode != "training":
            for contender in contenders:
                stack.enter_context(contender.inferring())
        times = time_in_turn(prepare(contenders, mode, problem), seconds)
    return {"mode": mode, "shape": problem.shape.name, "times": times}


def prepare(
    contenders: list[Contender], mode: str, problem: Problem
) -> dict[str, Callable[[], Any]]:
    """Return what to time by contender, each after its answer has been checked."""
    expected = problem.expected(training=mode == "training")
    calls: dict[str, Callable[[], Any]] = {}
    for contender in contenders:
        if mode == "streaming":
            step = contender.streaming(problem)
            if step is None:
                continue
            xs = [np.ascontiguousarray(x_t[0]) for x_t in problem.x]  # (I,) each
            ys = np.stack([np.array(step(x_t)) for x_t in xs])  # (T, H)
            answer = {"y": ys[:, None]}
            call: Callable[[], Any] = partial(step, xs[0])
        else:
            run = getattr(contender, mode)(problem)
            if run is None:
                continue
            call, answer = run.call, run.answer(run.call())
        try:
            check(answer, expected)
        except ValueError as error:
            if contender.name == "pygru":
                raise
            print(f"  {mode:9} {problem.shape.name:9} {contender.name} left out: {error}")
            continue
        calls[contender.name] = call
    return calls


def rates(case: dict[str, Any], cell: str, peak: float, bandwidth: float) -> dict[str, float]:
    """Return how near pygru comes to the machine's limits; a lone step's limit is its weights."""
    mode, shape, gates = case["mode"], SHAPES[case["shape"]], CELLS[cell]
    seconds = case["times"]["pygru"]["median"]
    if mode == "streaming":
        return {"of_bandwidth": shape.weight_bytes(gates) / seconds / 1e9 / bandwidth}
    flop = shape.forward_flop(gates) * (3 if mode == "training" else 1)
    return {"gflops": flop / seconds / 1e9, "of_peak": flop / seconds / 1e9 / peak}


if __name__ == "__main__":
    arguments = parse()
    if arguments.worker is None:
        main(arguments)
    else:
        found = work(arguments, arguments.worker)
        arguments.json.write_text(json.dumps(found))
