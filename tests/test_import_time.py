# SPDX-License-Identifier: MIT
"""`import pygru` costs little beyond NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A third of this is usual; the rest is for a busy machine.
MOST_MILLISECONDS = 90
SLOW = {
    "argparse", "csv", "dataclasses", "hashlib", "inspect", "json", "logging", "numpy.random",
    "pathlib", "safetensors", "tqdm",
}  # fmt: skip

CODE = """
import sys, time, numpy
before = set(sys.modules)
started = time.perf_counter()
import pygru
print(1e3 * (time.perf_counter() - started), *(set(sys.modules) - before))
"""


def run(cache: Path) -> tuple[float, set[str]]:
    """Milliseconds, and the modules that came with it."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", CODE]
    out = subprocess.run(
        command, env=environment, cwd=cache, capture_output=True, text=True, check=True
    )
    milliseconds, *modules = out.stdout.split()
    return float(milliseconds), set(modules)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, set[str]]]:
    cache = tmp_path_factory.mktemp("cache")
    return [run(cache) for _ in range(4)]  # the first one compiles


def test_importing_pygru_takes_milliseconds(runs: list[tuple[float, set[str]]]) -> None:
    assert min(milliseconds for milliseconds, _ in runs) < MOST_MILLISECONDS


def test_importing_pygru_waits_for_nothing_that_can_come_later(
    runs: list[tuple[float, set[str]]],
) -> None:
    _, modules = runs[-1]
    assert not modules & SLOW
