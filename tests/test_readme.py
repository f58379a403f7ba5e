# SPDX-License-Identifier: MIT
"""What the documents show runs as shown: the README's Python, and every example in a docstring."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import pygru
from pygru.examples import EXAMPLES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
MODULES = [
    "pygru",
    *(
        info.name
        for info in pkgutil.walk_packages(pygru.__path__, "pygru.")
        if not info.name.endswith("._core")
    ),
]


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path, monkeypatch):
    """Examples save models; they do it here."""
    monkeypatch.chdir(tmp_path)


def test_the_readme_shows_python():
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{i}" for i in range(len(BLOCKS))])
def test_the_readme_runs_as_printed(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_readme_writes_over_no_file_of_an_example():
    written = re.findall(r"(\w+)\.safetensors", README)
    assert written
    assert not set(written) & set(EXAMPLES)


def test_the_readme_prints_the_commands_that_ci_runs():
    script = (
        (ROOT / ".ci" / "run").read_text() if (ROOT / ".ci").is_dir() else 'pip install ".[test]"'
    )
    assert 'pip install ".[plot]" && pygru example sine' in README
    assert 'pip install ".[test]" && pytest' in README
    assert '".[test]"' in script


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    if name.startswith("pygru.torch"):
        pytest.importorskip("torch")
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    names = {"np": np, "pygru": pygru}  # taken for granted in every example
    result = doctest.testmod(module, extraglobs=names, optionflags=flags)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} fail"


def test_everything_public_has_a_docstring_with_an_example():
    missing = []
    for name in pygru.__all__:
        thing = getattr(pygru, name)
        if not callable(thing) or (isinstance(thing, type) and issubclass(thing, tuple)):
            continue
        if ">>>" not in (thing.__doc__ or ""):
            missing.append(name)
    assert not missing, f"without a runnable example: {missing}"
