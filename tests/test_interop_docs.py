# SPDX-License-Identifier: MIT
"""The page "From X to pygru" runs as printed, as far as the systems it speaks of are installed."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from pygru import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "interop.md"
TEXT = PAGE.read_text() if PAGE.is_file() else ""  # the source distribution has no docs/
SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
BLOCKS = [
    pytest.param(block, id=f"{section.partition(chr(10))[0]}-{i}".replace(" ", "-"))
    for section in SECTIONS
    for i, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_page_runs_as_printed(block, tmp_path, monkeypatch, capsys):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for package in ("torch", "keras", "onnx"):
        if f"import {package}\n" in block:
            pytest.importorskip(package)
    if ".keras" in block:
        pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/interop.md", "exec"), {})
    for line in capsys.readouterr().out.splitlines():
        assert "largest absolute difference" in line or "not checked" in line


def test_the_commands_run_as_printed_on_the_files_that_the_page_makes(
    tmp_path, monkeypatch, capsys
):
    if not TEXT:
        pytest.skip("the source distribution has no docs/")
    pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        if re.search(r'Path\("model\.(onnx|json)"\)', block):
            exec(compile(block, "docs/interop.md", "exec"), {})
    (commands,) = re.findall(r"^```bash\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert "the first line prints two." in TEXT
    for line in commands.splitlines():
        program, *argv = shlex.split(line, comments=True)
        assert program == "pygru"
        quick = ["--seconds", "0.01"] if argv[0] == "bench" else []
        capsys.readouterr()
        assert cli.main([*argv, *quick]) == 0, capsys.readouterr().err
        if "--check" in argv:
            *checks, _ = capsys.readouterr().out.splitlines()
            assert len(checks) == 2


def test_the_page_has_an_example_for_every_system():
    if not TEXT:
        pytest.skip("the source distribution has no docs/")
    for system in ("PyTorch", "Keras 3", "TensorFlow 1", "ONNX", "RTNeural"):
        (section,) = (s for s in SECTIONS if s.startswith(f"{system}\n"))
        assert "```python" in section
