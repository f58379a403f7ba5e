# SPDX-License-Identifier: MIT
"""`import pygru` that can't work says why, and gives advice only where it helps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pygru


def test_sources_without_the_extension_say_how_to_build_it(python, tmp_path):
    package = Path(pygru.__file__).parent
    shutil.copytree(package, tmp_path / "pygru", ignore=shutil.ignore_patterns("_core*"))
    process = python("import pygru", PYTHONPATH=str(tmp_path))
    last = process.stderr.splitlines()[-1]
    assert last.startswith("ImportError: pygru: the compiled extension is missing (No module named")
    assert "pip install ." in last


@pytest.mark.parametrize("name", ["PYGRU_NUM_THREADS", "PYGRU_ISA"])
def test_a_nonsense_variable_is_no_reason_to_build(name, python):
    process = python("import pygru", **{name: "x"})
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(f"ValueError: {name}=x: ")
    assert "pip" not in process.stderr
