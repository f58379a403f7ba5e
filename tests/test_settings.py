# SPDX-License-Identifier: MIT
"""How many threads and which instruction set: who decides, and what an error says is valid."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import pytest

import pygru
from pygru import _core

VALID = "must be an integer from 1 to 1024"

# How many


def test_the_number_that_is_set_is_the_number_in_use(keep_threads):
    for n in (1, 2, np.int64(3), 1024):
        pygru.set_num_threads(n)
        assert pygru.get_num_threads() == n


@pytest.mark.parametrize("wrong", [0, -1, 2000, 1025, 2**31, 2**70])
def test_a_nonsense_number_is_an_error_that_says_what_is_valid(wrong, keep_threads):
    pygru.set_num_threads(2)
    with pytest.raises(ValueError, match=rf"set_num_threads: n must be .*, got {wrong}"):
        pygru.set_num_threads(wrong)
    if wrong < 2**63:
        with pytest.raises(ValueError, match=VALID):
            _core.set_num_threads(wrong)
    assert pygru.get_num_threads() == 2


@pytest.mark.parametrize("wrong", ["x", "2", 1.0, None, True, [2]], ids=repr)
def test_what_is_no_number_is_a_type_error(wrong, keep_threads):
    with pytest.raises(TypeError, match="set_num_threads: n must be an integer"):
        pygru.set_num_threads(wrong)


@pytest.mark.parametrize("wrong", ["0", "2000", "abc", "1.5", "1e2", "2x", "4,2", "-1", " "])
def test_a_nonsense_variable_is_an_error_that_says_what_is_valid(wrong, python):
    process = python("import pygru", PYGRU_NUM_THREADS=wrong)
    assert process.returncode == 1
    assert process.stderr.endswith(f"\nValueError: PYGRU_NUM_THREADS={wrong}: {VALID}\n")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PYGRU_NUM_THREADS": "3"}, 3),
        ({"PYGRU_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3),
        ({"PYGRU_NUM_THREADS": "", "OMP_NUM_THREADS": "3"}, 3),
        ({"PYGRU_NUM_THREADS": " 3 "}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),  # for nested teams
        ({"OMP_NUM_THREADS": " 4 , 2 "}, 4),
    ],
    ids=str,
)
def test_variables_say_how_many(variables, expected, succeed):
    code = "import pygru; print(pygru.get_num_threads())"
    assert succeed(code, **variables) == [str(expected)]


@pytest.mark.parametrize(
    "wrong", ["1e9", "2x", "2000", "-3", "0", "4,", "4,x", ",4", "4;2", "\udcff"]
)
def test_what_is_no_list_of_counts_is_left_to_openmp(wrong, python):
    code = "import pygru; print(pygru.get_num_threads())"
    assert python(code, OMP_NUM_THREADS=wrong).stdout == python(code).stdout


def test_bytes_that_are_no_text_are_shown_in_the_error(python):
    told = {
        "PYGRU_NUM_THREADS": VALID,
        "PYGRU_ISA": f"no such instruction set (available: {', '.join(_core.available_isas())})",
    }
    for name, why in told.items():
        process = python("import pygru", **{name: "\udcffx"})
        assert process.stderr.endswith(f"\nValueError: {name}=\\xffx: {why}\n"), process.stderr


# What the kernel says of a process in a group two deep, by the version of its interface.
GROUPS = {  # version -> /proc/self/cgroup, folder below /sys/fs/cgroup
    "v2": ("0::/a/b\n", ""),
    "v1": ("5:memory:/x\n4:cpu,cpuacct:/a/b\n", "cpu,cpuacct"),
    "v1, by its short name": ("4:cpuacct,cpu:/a/b\n3:cpuset:/a/other\n", "cpu"),
}


@pytest.mark.parametrize("version", GROUPS)
@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, 0),
        ({"": 300}, 3),
        ({"a": 300}, 3),
        ({"a/b": 300}, 3),
        ({"": 500, "a": 200, "a/b": 300}, 2),  # the smallest counts
        ({"a": 200, "a/b": None}, 2),
        ({"a/b": 150}, 2),  # rounded up
        ({"a/b": 10}, 1),
        ({"a/other": 100}, 0),  # another process's
    ],
    ids=str,
)
def test_the_groups_of_a_process_say_how_many(version, quotas, expected, tmp_path):
    listed, mount = GROUPS[version]
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(listed)
    for group, percent in quotas.items():
        folder = tmp_path / "sys" / "fs" / "cgroup" / mount / group
        folder.mkdir(parents=True, exist_ok=True)
        if version == "v2":
            quota = "max" if percent is None else str(percent * 1000)
            (folder / "cpu.max").write_text(f"{quota} 100000\n")
        else:
            quota = "-1" if percent is None else str(percent * 1000)
            (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert _core.cpus_of_cgroup(str(tmp_path)) == expected


def test_a_process_without_groups_has_no_limit(tmp_path):
    assert _core.cpus_of_cgroup(str(tmp_path)) == 0


def test_a_group_without_a_folder_is_none(tmp_path):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::abc\n")
    assert _core.cpus_of_cgroup(str(tmp_path)) == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_affinity_says_how_many(succeed):
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import pygru
assert pygru.get_num_threads() == 1, pygru.get_num_threads()
"""
    succeed(code, OMP_NUM_THREADS="abc")  # for OpenMP to complain about


# Which instruction set


def test_the_instruction_set_can_be_forced(succeed):
    code = "from pygru import _core; print(_core.isa())"
    for name in _core.available_isas():
        assert succeed(code, PYGRU_ISA=name) == [name]
    assert succeed(code, PYGRU_ISA="") == [_core.available_isas()[-1]]


def test_an_unknown_instruction_set_is_an_error_that_lists_the_others(python, keep_isa):
    available = ", ".join(_core.available_isas())
    told = f"PYGRU_ISA=mmx: no such instruction set (available: {available})"
    process = python("import pygru", PYGRU_ISA="mmx")
    assert process.returncode == 1
    assert process.stderr.endswith(f"\nValueError: {told}\n")
    before = _core.isa()
    with pytest.raises(ValueError, match=r"^use_isa: name=mmx: no such instruction set \(avail"):
        _core.use_isa("mmx")
    assert _core.isa() == before


def test_an_unsupported_instruction_set_is_an_error_that_lists_the_others(python):
    known = {"baseline", "avx2", "avx512"} if platform.machine() in {"x86_64", "AMD64"} else set()
    missing = known - {*_core.available_isas()}
    if not missing:
        pytest.skip("this CPU supports all that were built")
    for name in missing:
        process = python("import pygru", PYGRU_ISA=name)
        assert process.returncode == 1
        assert f"PYGRU_ISA={name}: this CPU does not support it (available: " in process.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks into /proc")
def test_a_call_may_be_allowed_fewer_threads_than_the_process(succeed):
    succeed("""
import os
from functools import partial
from types import SimpleNamespace
import numpy as np
import pygru
from pygru import _core, stack

pygru.set_num_threads(4)
alone = len(os.listdir("/proc/self/task"))  # with those of NumPy
layer, large = pygru.GRU(8, 64, bidirectional=True), pygru.GRU(512, 512)
for most in (1, 2, 3):
    calls = {name: partial(getattr(_core, name), most=most) for name in ("forward", "backward")}
    stack._core = SimpleNamespace(**calls)
    if most < 3:
        large(np.zeros((1, 1, 512)))  # a step from weights that are not packed first
    y, _, tape = layer.forward(np.zeros((5, 32, 8)))
    layer.backward(tape, y)
    started = len(os.listdir("/proc/self/task")) - alone
    assert started == most // 2 * 2 - (most > 1), (most, started)  # two directions share evenly
assert pygru.get_num_threads() == 4
""")


@pytest.mark.parametrize("call", [_core.forward, _core.backward])
def test_a_call_must_be_allowed_a_thread(call):
    with pytest.raises(ValueError, match="_core: most must be at least 1, got 0"):
        call("gru_after", np.zeros((1, 1, 1)), None, [], most=0)
