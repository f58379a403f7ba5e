# SPDX-License-Identifier: MIT
"""The guide's examples run as printed, and every figure beside a print is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guide.md"
TEXT = PAGE.read_text() if PAGE.is_file() else ""  # the source distribution has no docs/
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PRINT = re.compile(r"^ *print\(.*\) +# at (least|most) ([-\d.e]+)$", re.MULTILINE)

pytestmark = pytest.mark.skipif(not TEXT, reason="the source distribution has no docs/")


def example(section):
    (block,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return block


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path, monkeypatch):
    """Examples save models; they do it here."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_keeps_its_promises(title, capsys):
    block = example(SECTIONS[title])
    exec(compile(block, "docs/guide.md", "exec"), {})
    printed = capsys.readouterr().out.split()
    promises = PRINT.findall(block)
    assert len(printed) == len(promises) == block.count("print(")
    for value, (side, bound) in zip(printed, promises, strict=True):
        kept = float(value) >= float(bound) if side == "least" else float(value) <= float(bound)
        assert kept, f"{value} should be at {side} {bound}"


def test_without_clipping_the_gradient_explodes():
    block = example(SECTIONS["Exploding gradients"])
    assert block.count(" clip_norm=1.0,") == 1
    with pytest.raises(FloatingPointError, match="epoch 1, step 3"):
        exec(compile(block.replace(" clip_norm=1.0,", ""), "docs/guide.md", "exec"), {})


def test_every_link_within_the_guide_leads_somewhere():
    titles = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in SECTIONS}
    links = re.findall(r"\]\(#(.*?)\)", TEXT)
    assert links
    assert set(links) <= titles
