# SPDX-License-Identifier: MIT
"""The benchmarks run in a small setting and print what they promise; nothing is timed here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run(script, *options):
    """Run a benchmark as a user does; return what it prints."""
    command = [sys.executable, str(FOLDER / script), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def speed(tmp_path_factory):
    """What `speed.py` prints and writes, of two shapes beside the reference and, if here, torch."""
    path = tmp_path_factory.mktemp("speed") / "results.json"
    out = run(
        "speed.py", "--quick", "--shapes", "sine", "step16", "--rivals", "numpy", "torch",
        "--seconds", 0.01, "--epochs", 1, "--markdown", "--json", path,
    )  # fmt: skip
    return out, json.loads(path.read_text())


ROWS = {
    ("inference", "sine"): r"\dx of \w+ \| \d+ GFLOP/s, \d+ % of peak",
    ("training", "sine"): r"\dx of \w+ \| \d+ GFLOP/s, \d+ % of peak",
    ("streaming", "step16"): r"\d+ % of read bandwidth",
    ("experiment", "120 epochs"): r"scaled from 1; reset before.* % Python around the kernels",
}


@pytest.mark.parametrize("row", ROWS)
def test_speed_prints_every_row(speed, row):
    mode, shape = row
    out, (result,) = speed
    (line,) = re.findall(rf"^  {mode} +{shape} .*", out, re.MULTILINE)
    assert re.search(r" pygru [\d.]+ [mun]?s \(", line)
    assert re.search(ROWS[row], line)
    assert re.search(rf"^\| {mode} {shape}.*\|$", out, re.MULTILINE)
    assert row in [(case["mode"], case["shape"]) for case in result["cases"]]


def test_a_rival_is_timed_or_its_absence_said(speed):
    out, (result,) = speed
    assert "numpy" in result["versions"]
    assert ("torch" in result["versions"]) == (find_spec("torch") is not None)
    assert ("torch: skipped, not installed" in out) == (find_spec("torch") is None)
    assert "left out" not in out


def test_accelerate_says_in_a_line_that_torch_is_missing(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')")
    command = [sys.executable, str(FOLDER / "accelerate.py")]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["torch: not installed (No module named torch)"]


def test_every_cell_is_checked_against_the_reference():
    for cell in ("gru_before", "rnn"):
        out = run(
            "speed.py", "--quick", "--shapes", "sine", "--rivals", "numpy", "--cell", cell,
            "--mode", "inference", "training", "--seconds", 0.01,
        )  # fmt: skip
        assert "left out" not in out
        assert re.search(r"training +sine .*x of numpy", out)


@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_threads_prints_every_line():
    out = run("threads.py", "--shapes", "sine", "--seconds", 0.01)
    for mode in ("inference", "training"):
        assert re.search(rf"  {mode} +sine +2 threads: [\d.]+x", out)
        assert re.search(rf"  {mode} +worst of \d\d small sizes, 2 threads: [\d.]+x", out)
        assert re.search(rf"  {mode} +H=65 beside H=64, one thread: [\d.]+ of it", out)
    assert re.search(r"inference sine +both directions: [\d.]+ of one", out)


@pytest.mark.parametrize(
    "script, options, message",
    [
        ("speed.py", ["--epochs", "0"], "--epochs must be at least 1, got 0"),
        ("speed.py", ["--plot", "nowhere/a.png"], "--plot must lie in a folder"),
        ("speed.py", ["--threads", "0"], r"--threads must lie in 1\.\.\d+"),
        ("threads.py", ["--threads", "1"], r"--threads must lie in 2\.\.\d+"),
        pytest.param(
            "threads.py", ["--seconds", "0"], "--seconds must be greater than 0, got 0",
            marks=pytest.mark.skipif(CORES < 2, reason="needs two cores"),
        ),
        pytest.param(
            "accelerate.py", ["--steps", "0"], "--steps must be at least 1, got 0",
            marks=pytest.mark.skipif(find_spec("torch") is None, reason="needs torch"),
        ),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused(script, options, message):
    command = [sys.executable, str(FOLDER / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(message, done.stderr)


def test_a_contender_waits_for_threads_that_spin(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from timing import settle

    def spin():
        end = time.perf_counter() + 0.15
        while time.perf_counter() < end:
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    settle()
    assert not thread.is_alive()
    started = time.perf_counter()
    settle()
    assert time.perf_counter() - started < 0.1
