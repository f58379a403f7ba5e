# SPDX-License-Identifier: MIT
"""The ``pygru`` command: one row of `COMMANDS` per subcommand.

A subcommand adds its arguments to a parser and runs on what was parsed; whatever it needs is
imported then, so that ``pygru --help`` stays instant. Mistakes of the user end with one line and
exit code 2, failures with one line and exit code 1; neither shows a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

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
    Examples, each run with `pygru example NAME`:
      sine ...
    0
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("pygru: interrupted", file=sys.stderr)
        return 130
    except (ImportError, OSError, TypeError, ValueError, FloatingPointError) as error:
        print(f"pygru: {error}", file=sys.stderr)
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
    for name, summary in EXAMPLES.items():
        example = importlib.import_module(f"pygru.examples.{name}")
        sub = names.add_parser(name, help=summary, description=summary)
        example.add_arguments(sub)
        sub.set_defaults(run=example.run)


def _list_examples(args: argparse.Namespace) -> None:  # noqa: ARG001
    print("Examples, each run with `pygru example NAME`:")
    for name, summary in EXAMPLES.items():
        print(f"  {name:<10} {summary}")


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a model saved with model.save")


def _info(args: argparse.Namespace) -> None:
    """Print what a saved model is made of."""
    import pygru

    model = pygru.load(args.file)
    size = args.file.stat().st_size
    print(model)
    print(f"{model.flat_params.size:,} parameters of {model.dtype}, {size:,} bytes on disk")


COMMANDS = {
    "example": Command("run an example, or list them", _add_example, _list_examples),
    "info": Command("print what a saved model is made of", _add_info, _info),
}
