# SPDX-License-Identifier: MIT
"""`import pygru` that can't work says why, and gives advice only where it helps."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

import pygru


@pytest.mark.parametrize("code", ["import pygru", "import runpy; runpy.run_module('pygru')"])
def test_sources_without_the_extension_say_what_they_are_and_what_to_type(code, python, tmp_path):
    package = Path(pygru.__file__).parent
    shutil.copytree(package, tmp_path / "pygru", ignore=shutil.ignore_patterns("_core*"))
    process = python(code, PYTHONPATH=str(tmp_path))
    last = process.stderr.splitlines()[-1]
    told = f"ImportError: pygru: {tmp_path / 'pygru'} holds the sources, without the compiled ext"
    assert last.startswith(told)
    assert sysconfig.get_path("platlib") in last
    assert "`pip install .`" in last


@pytest.mark.parametrize("name", ["PYGRU_NUM_THREADS", "PYGRU_ISA"])
def test_a_nonsense_variable_is_no_reason_to_build(name, python):
    process = python("import pygru", **{name: "x"})
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(f"ValueError: {name}=x: ")
    assert "pip" not in process.stderr
