# SPDX-License-Identifier: MIT
"""The `pygru` command answers plainly: a line and an exit code, never a traceback."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig

import pytest

import pygru
from pygru import cli
from pygru.examples import EXAMPLES


def test_example_alone_lists_what_there_is(capsys):
    assert cli.main(["example"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, summary in EXAMPLES.items():
        assert sum(name in line and summary in line for line in lines) == 1


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["example", "nonsense"],
        ["example", "sine", "--epochs", "0"],
        ["example", "sine", "--epochs", "many"],
        ["example", "sine", "--reset", "sometimes"],
        ["info"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_says_why(argv, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(argv)
    assert exit_.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_info_tells_layers_variant_parameters_dtype_and_size(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    model = pygru.Sequential(pygru.GRU(3, 8, reset="before", rng=0), pygru.Linear(8, 2, rng=0))
    model.save(path)
    assert cli.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    count, size = model.flat_params.size, path.stat().st_size
    for expected in ("GRU", "before", "Linear", f"{count:,}", "float32", f"{size:,}"):
        assert expected in out


def test_a_file_that_is_absent_or_not_ours_is_one_line_and_exit_1(tmp_path, capsys):
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not a model")
    for path in (tmp_path / "absent.safetensors", garbage):
        assert cli.main(["info", str(path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("pygru: ")
        assert path.name in err
        assert err.count("\n") == 1


def test_version_is_the_package_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.split() == ["pygru", pygru.__version__]


def test_the_command_is_installed_and_works_from_any_folder(tmp_path):
    command = shutil.which("pygru", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("pygru is not installed in this environment")
    done = subprocess.run([command, "example"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sine" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_needs_nothing_optional(python):
    code = "import sys; from pygru.cli import main; main(['example']); print(*sys.modules)"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "matplotlib" not in done.stdout.split()
