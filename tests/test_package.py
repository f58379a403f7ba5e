# SPDX-License-Identifier: MIT
"""What the package says of itself."""

from __future__ import annotations

import pytest

import pygru


def test_show_config_prints_version_instruction_set_and_threads(capsys):
    pygru.show_config()
    printed = capsys.readouterr().out
    for what in (
        pygru.__version__,
        "instruction set",
        f"threads          {pygru.get_num_threads()}",
    ):
        assert what in printed


def test_a_nonsense_thread_count_is_refused():
    before = pygru.get_num_threads()
    expected = "set_num_threads: n must be an integer from 1 to 1024, got"
    with pytest.raises(ValueError, match=f"{expected} 0"):
        pygru.set_num_threads(0)
    with pytest.raises(TypeError, match=rf"{expected} 1\.5"):
        pygru.set_num_threads(1.5)
    assert pygru.get_num_threads() == before


def test_every_public_name_is_there():
    assert len(set(pygru.__all__)) == len(pygru.__all__)
    for name in pygru.__all__:
        assert hasattr(pygru, name)


def test_other_systems_are_loaded_when_they_are_first_named(python):
    code = "import sys, pygru; early = {'pygru.interop', 'pygru.torch', 'torch'} & {*sys.modules}; "
    assert python(code + "print(early, pygru.interop.to_onnx.__name__)").stdout == "set() to_onnx\n"
    with pytest.raises(AttributeError, match=r"^module 'pygru' has no attribute 'LSTM'$"):
        _ = pygru.LSTM


def test_the_drop_in_is_loaded_when_it_is_first_named(python):
    pytest.importorskip("torch")
    assert python("import pygru; print(pygru.torch.GRU.__module__)").stdout == "pygru.torch\n"
