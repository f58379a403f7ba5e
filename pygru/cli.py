# SPDX-License-Identifier: MIT
"""The ``pygru`` command: one row of `COMMANDS` per subcommand.

A subcommand adds its arguments to a parser and runs on what was parsed; whatever it needs is
imported then, so that ``pygru --help`` stays instant. Mistakes of the user end with one line and
exit code 2, failures with one line and exit code 1; neither shows a traceback. (An environment
variable that makes no sense does: it is an error of ``import pygru``.)
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pygru.examples import EXAMPLES

__all__ = ["main"]


class Command(NamedTuple):
    """A subcommand: what it is for, its arguments, its work."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``pygru``; those of the process when None.

    Examples
    --------
    >>> main(["example"])
    Examples, each run with `pygru example NAME`, and roughly how long on two cores:
      addition  2 min ...
      waveform ...
    0
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("pygru: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads has enough; nothing may be written at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, TypeError, ValueError, FloatingPointError) as error:
        print("pygru:", *map(str.strip, str(error).splitlines()), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pygru", description="Recurrent networks on the CPU.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.summary, description=command.summary)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def _version() -> str:
    import pygru

    return f"pygru {pygru.__version__}"


def _add_example(parser: argparse.ArgumentParser) -> None:
    names = parser.add_subparsers(title="examples", metavar="NAME")
    for name, (_, summary) in EXAMPLES.items():
        example = importlib.import_module(f"pygru.examples.{name}")
        sub = names.add_parser(name, help=summary, description=summary)
        example.add_arguments(sub)
        sub.set_defaults(run=example.run)


def _list_examples(args: argparse.Namespace) -> None:  # noqa: ARG001
    print("Examples, each run with `pygru example NAME`, and roughly how long on two cores:")
    for name, (duration, summary) in EXAMPLES.items():
        print(f"  {name:<9} {duration:>5}  {summary}")


def _add_file(parser: argparse.ArgumentParser, name: str = "file") -> None:
    parser.add_argument(
        name, type=Path, help="a model that pygru saved, or of a format told by the end of its name"
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="MODEL",
        help="a model saved by pygru, for files that hold weights alone: what they are weights of",
    )


def _read(path: Path, into: Path | None, *, check: bool = False) -> Any:
    import pygru
    from pygru.interop import formats

    return formats.read(path, None if into is None else pygru.load(into), check=check)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    _add_file(parser, "source")
    parser.add_argument("target", type=Path, help="the file to write; its name tells the format")
    parser.add_argument(
        "--check",
        action="store_true",
        help="run both files on random input, in their own frameworks where these are installed",
    )


def _convert(args: argparse.Namespace) -> None:
    """Read a model in one format and write it in another."""
    from pygru.interop import formats

    formats.writable(args.target)  # before any work
    model = _read(args.source, args.into, check=args.check)
    formats.write(model, args.target, check=args.check)
    print(f"{args.target}: {model.flat_params.size:,} parameters of {model.dtype}")


def _info(args: argparse.Namespace) -> None:
    """Print what a model is made of, or how far a training has come."""
    from pygru.checkpoint import summary
    from pygru.files import CHECKPOINT
    from pygru.interop import formats

    kind = formats.kind_of(args.file)
    if kind == CHECKPOINT:
        if args.into is not None:
            raise ValueError(f"{args.file}: --into must be left out for a checkpoint")
        print(summary(args.file))
    else:
        model = _read(args.file, args.into)
        print(f"{model}\n{model.flat_params.size:,} parameters of {model.dtype}")
    print(f"{kind}, {args.file.stat().st_size:,} bytes on disk")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument(
        "--seconds", type=_seconds, default=1.0, help="time for each measurement (default 1)"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < 3600.0:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and below 3600, got {text}")
    return value


def _bench(args: argparse.Namespace) -> None:
    """Print how long one step takes, and how many steps a second a batch does.

    A model that reads a sequence and then writes one does as many steps of both; one that makes
    steps of a vector, those that it makes; a cell, one.
    """
    import pygru
    from pygru.cells import RecurrentCell
    from pygru.interop.blocks import modules_of
    from pygru.interop.checking import random_input
    from pygru.samples import reads_vectors

    model = _read(args.file, args.into)
    print(f"pygru {pygru.__version__}, {pygru.get_num_threads()} threads")
    try:
        stream = pygru.Stream(model)
    except TypeError as error:
        print(f"one step: cannot be streamed ({error})")
    else:
        x_t = random_input(model, B=1, vectors=True)[0]
        out = stream.step(x_t)
        _print_time("one step, through Stream", lambda: stream.step(x_t, out), 1, args.seconds)
    call, steps, each = model, 100, "100 steps"
    if isinstance(model, pygru.EncoderDecoder):
        model.end = None  # every sequence is written to its last step
        call, steps, each = partial(model.generate, steps=100), 200, "100 steps read, 100 written"
    elif reads_vectors(model):
        steps = next(m.n for _, m in modules_of(model) if isinstance(m, pygru.RepeatVector))
        each = f"{steps} steps written"
    elif isinstance(model, RecurrentCell):
        steps, each = 1, "1 step"
    for B, what in ((1, "one sequence"), (100, "100 sequences")):
        x = random_input(model, T=100, B=B)
        _print_time(f"{what} of {each}", partial(call, x), B * steps, args.seconds)


def _print_time(what: str, call: Callable[[], object], steps: int, seconds: float) -> None:
    """Time a call again and again; print the median, the 99th percentile and steps per second."""
    from time import perf_counter_ns

    times: list[int] = []
    end = perf_counter_ns() + int(seconds * 1e9)
    call()
    while not times or perf_counter_ns() < end:
        start = perf_counter_ns()
        call()
        times.append(perf_counter_ns() - start)
    times.sort()
    median, late = times[len(times) // 2] / 1e3, times[len(times) * 99 // 100] / 1e3
    rate = steps / median * 1e6
    print(f"{what}: {median:,.1f} us (99 of 100 within {late:,.1f} us), {rate:,.0f} steps/s")


COMMANDS = {
    "example": Command("run an example, or list them", _add_example, _list_examples),
    "convert": Command("read a model in one format, write it in another", _add_convert, _convert),
    "info": Command("print what a model is made of, or how far a training came", _add_file, _info),
    "bench": Command("measure step latency and throughput of a model", _add_bench, _bench),
}
