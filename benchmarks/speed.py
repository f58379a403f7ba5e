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
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import report
from shapes import CELLS, SHAPES, Problem, check, make_problem

MODES = ("inference", "training", "streaming", "experiment")
RIVALS = ("torch", "onnxruntime", "openvino", "jax", "keras")
BLOCK_SECONDS = 0.01  # one sample is the mean over a block of calls at least this long
CASE_SECONDS = 0.6  # of timing for one mode and shape, where three rounds take less
LONG_ROUND = 2.0  # seconds: two rounds must do, each far longer than what disturbs it
EXPERIMENT_EPOCHS = 4  # of the sine experiment's 120


def main() -> None:
    args = parse()
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
    parser.add_argument("--rivals", nargs="*", choices=(*RIVALS, "numpy"), default=list(RIVALS))
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no shape above speech")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios by shape")
    parser.add_argument("--markdown", action="store_true", help="print the README's table")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    cores = len(available_cores())
    if not all(1 <= n <= cores for n in args.threads):
        parser.error(f"--threads must lie in 1..{cores}, the cores of this process")
    if args.quick:
        args.shapes = [name for name in args.shapes if name not in ("h512", "h1024")]
    return args


def available_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def environment(threads: int) -> dict[str, str]:
    """Return the variables that hold every framework to a thread count, and quiet."""
    n = str(threads)
    limits = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), n
    )
    if threads == 1:
        limits["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return limits | {
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

    import contender
    import machine
    import peers

    import pygru
    from pygru import _core

    print(f"pygru {pygru.__version__}, {_core.isa()}, {threads} thread(s); {cpu_name()}")
    contenders: list[contender.Contender] = [contender.Pygru(threads)]
    for name in args.rivals:
        try:
            contenders.append(peers.PEERS[name](threads))
        except ImportError as error:
            print(f"  {name}: skipped, not installed ({error})")
    versions = {c.name: c.version for c in contenders}
    print(
        "  against " + (", ".join(f"{k} {v}" for k, v in versions.items() if k != "pygru") or "-")
    )

    peak = machine.peak() * threads  # GFLOP/s
    bandwidth = machine.read_bandwidth()  # GB/s, one core
    print(f"  multiply-add peak {peak:.0f} GFLOP/s, reading {bandwidth:.0f} GB/s; {args.cell}")

    cases = []
    for mode, name in ((m, s) for m in args.mode if m != "experiment" for s in args.shapes):
        shape = SHAPES[name]
        if shape.streaming != (mode == "streaming"):
            continue
        problem = make_problem(shape, args.cell)
        calls = prepare(contenders, mode, problem)
        if "pygru" not in calls:
            print(f"  {mode:9} {name:9} skipped, pygru does not offer it")
            continue
        case = {"mode": mode, "shape": name, "times": time_in_turn(calls, args.quick)}
        case |= rates(problem, mode, case["times"]["pygru"]["median"], peak, bandwidth)
        cases.append(case)
        print(report.line(case), flush=True)
    if "experiment" in args.mode and args.cell == "gru_after":
        import experiment

        case = experiment.run(threads, args.rivals, 2 if args.quick else EXPERIMENT_EPOCHS)
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


def prepare(contenders: list[Any], mode: str, problem: Problem) -> dict[str, Callable[[], Any]]:
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


def time_in_turn(calls: dict[str, Callable[[], Any]], quick: bool) -> dict[str, dict[str, float]]:
    """Alternate blocks of calls; return median, quartiles and count of samples, in seconds."""
    blocks = {name: block_size(call) for name, call in calls.items()}
    per_round = sum(count * seconds for count, seconds in blocks.values())
    fewest = 3 if per_round < LONG_ROUND else 2
    rounds = fewest if quick else int(min(21, max(fewest, CASE_SECONDS / per_round)))
    # A lone call that was timed to find this out is a block as good as any other.
    samples = {name: [seconds] if count == 1 else [] for name, (count, seconds) in blocks.items()}
    for _ in range(rounds - all(samples.values())):
        for name, call in calls.items():
            time.sleep(0.002)  # the last contender's threads stop spinning
            count, _ = blocks[name]
            if count > 1:  # a single long call warms itself
                call()
            samples[name].append(timed(call, count))
    return {name: summary(values) for name, values in samples.items()}


def block_size(call: Callable[[], Any]) -> tuple[int, float]:
    """Return how many calls make a block, and the seconds of one."""
    seconds = timed(call, 1)
    if seconds < BLOCK_SECONDS:
        seconds = timed(call, max(1, int(BLOCK_SECONDS / seconds)))
    return max(1, int(BLOCK_SECONDS / seconds)), seconds


def timed(call: Callable[[], Any], count: int) -> float:
    """Return the mean seconds of a call over `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def summary(samples: list[float]) -> dict[str, float]:
    low, median, high = (float(q) for q in np.quantile(samples, (0.25, 0.5, 0.75)))
    return {"median": median, "low": low, "high": high, "samples": len(samples)}


def rates(
    problem: Problem, mode: str, seconds: float, peak: float, bandwidth: float
) -> dict[str, float]:
    """Return how near pygru comes to the machine's limits; a lone step's limit is its weights."""
    shape, gates = problem.shape, CELLS[problem.cell]
    if mode == "streaming":
        return {"of_bandwidth": shape.weight_bytes(gates) / seconds / 1e9 / bandwidth}
    flop = shape.forward_flop(gates) * (3 if mode == "training" else 1)
    return {"gflops": flop / seconds / 1e9, "of_peak": flop / seconds / 1e9 / peak}


def cpu_name() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


if __name__ == "__main__":
    arguments = parse()
    if arguments.worker is None:
        main()
    else:
        found = work(arguments, arguments.worker)
        arguments.json.write_text(json.dumps(found))
