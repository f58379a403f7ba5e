# SPDX-License-Identifier: MIT
"""The laws of the architecture, held against the `#include` and `import` lines themselves.

The tables below are the laws. A new file gets a row; a test that fails here names a line to move,
or a law to change on purpose.
"""

from __future__ import annotations

import ast
import platform
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

import pygru
from pygru import _core

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "pygru"

# --- C++ ------------------------------------------------------------------------------------------

# What a kernel may take from the standard library: types and compile-time facts. Anything that is a
# function or a container could be merged by the linker between two instruction sets.
LANGUAGE_ONLY = {"cfloat", "climits", "cstddef", "cstdint", "cstring", "limits", "type_traits"}
INTRINSICS = {"immintrin.h", "arm_neon.h"}

# Files of kernels/ by level: each may include the levels before its own.
KERNEL_LEVELS = (
    {"args.h", "cell.h"},
    {"kernel_table.h", "memory.h", "simd.h"},
    {"math.h", "panels.h", "sums.h", "units.h"},
    {"pass.h", "tile.h", "unpacked.h"},
    {"gemm.h"},
    {"gru.h", "rnn.h"},
    {"weights.h"},
    {"sequence.h"},
    {"sequence_backward.h", "few_steps.h", "linear.h", "flat.h", "rows.h"},
    {"kernels.cc"},
)
CELLS = ("gru.h", "rnn.h")

# Per folder: which files of the project it may include, and whether pybind11 and Python.
FOLDERS = {
    "runtime": (("runtime/*", "kernels/args.h", "kernels/kernel_table.h"), False),
    "bindings": (("bindings/*", "runtime/*", "kernels/args.h", "kernels/kernel_table.h"), True),
}

# What kernels/ must not even mention. (Placement of memory, threads and failure are the caller's.)
KERNEL_TABOO = (
    r"\b(?:new|delete|malloc|calloc|realloc|free|aligned_alloc)\b",
    r"\b(?:throw|try|catch)\b",
    r"\b(?:thread_local|std::thread|std::mutex|std::atomic|pthread_\w+)\b",
    r"\b(?:getenv|printf|Py[A-Z]\w*|py::)",
    r"\bstd::(?:vector|array|string|map|function|sort|copy|fill|max|min|exp|tanh)\b",
)
# What a cell must not hold: time loops and pointers. (clang-format writes products as `a * b`.)
CELL_TABOO = (r"\b(?:for|while)\s*\(", r"\w\*")


def cpp_files(folder: str) -> list[Path]:
    return sorted(p for p in (CSRC / folder).rglob("*") if p.suffix in {".h", ".cc"})


def all_cpp_files() -> list[Path]:
    return [path for folder in ("kernels", *FOLDERS) for path in cpp_files(folder)]


def code_of(path: Path) -> str:
    """The text without comments and without the inside of string literals."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r'"[^"\n]*"', '""', text)


def includes(path: Path) -> tuple[set[str], set[str]]:
    """Project files (relative to csrc/) and outside headers that a file includes."""
    project, outside = set(), set()
    for spelling in re.findall(
        r'^\s*#\s*include\s*([<"][^>"]+[>"])', path.read_text(), re.MULTILINE
    ):
        name = spelling[1:-1]
        for base in (path.parent, CSRC):
            if spelling[0] == '"' and (base / name).is_file():
                project.add((base / name).resolve().relative_to(CSRC).as_posix())
                break
        else:
            outside.add(name)
    return project, outside


def kernel_level(name: str) -> int:
    for level, names in enumerate(KERNEL_LEVELS):
        if name in names:
            return level
    raise AssertionError(f"kernels/{name} has no row in KERNEL_LEVELS")


def test_the_sources_are_where_the_tables_look():
    assert {p.name for p in CSRC.iterdir() if p.is_dir()} == {"kernels", *FOLDERS}
    assert len(all_cpp_files()) > 5


def test_the_map_leads_to_every_file():
    told = set(re.findall(r"[\w*]+\.[\w*]+", (CSRC / "README.md").read_text()))
    for path in {*CSRC.rglob("*.*")} - {CSRC / "README.md"}:
        assert told & {path.name, f"{path.stem}.*"}, f"{path.name} is not in csrc/README.md"


def test_kernels_include_only_the_levels_below():
    for path in cpp_files("kernels"):
        level = kernel_level(path.name)
        project, outside = includes(path)
        for name in project:
            folder, _, file = name.partition("/")
            assert folder == "kernels", f"{path.name} includes {name}"
            assert kernel_level(file) < level, f"{path.name} includes {file}, which is not below it"
        extra = outside - LANGUAGE_ONLY - (INTRINSICS if path.name == "simd.h" else set())
        assert not extra, f"kernels/{path.name} includes {sorted(extra)}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_runtime_and_bindings_include_only_what_they_may(folder):
    allowed, python = FOLDERS[folder]
    for path in cpp_files(folder):
        project, outside = includes(path)
        wrong = {name for name in project if not any(fnmatch(name, rule) for rule in allowed)}
        if not python:
            wrong |= {name for name in outside if re.match(r"pybind11/|Python\.h", name)}
        assert not wrong, f"{folder}/{path.name} includes {sorted(wrong)}"


def test_kernels_neither_allocate_nor_throw_nor_lock_nor_look_around():
    for path in cpp_files("kernels"):
        for taboo in KERNEL_TABOO:
            found = re.search(taboo, code_of(path))
            assert found is None, f"kernels/{path.name} holds {found and found.group()!r}"


def test_cells_are_mathematics_on_values():
    for path in cpp_files("kernels"):
        if path.name in CELLS:
            for taboo in CELL_TABOO:
                found = re.search(taboo, code_of(path))
                assert found is None, f"kernels/{path.name} holds {found and found.group()!r}"


def test_the_extension_exports_no_kernel():
    """A symbol that the dynamic linker sees could be merged with that of another instruction set.

    (The build refuses kernel objects with weak symbols, which a linked file no longer shows.)
    """
    nm = shutil.which("nm")
    if nm is None or not sys.platform.startswith("linux"):
        pytest.skip("needs nm and ELF")
    assert _core.__file__ is not None
    command = [nm, "--dynamic", "--defined-only", "--demangle", _core.__file__]
    exported = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours = [line for line in exported.splitlines() if "pygru" in line or "kernel" in line]
    assert not ours, "\n".join(ours)


def test_the_kernels_fetch_ahead():
    """GCC takes a function that only prefetches for one without effect, and drops its calls."""
    objdump = shutil.which("objdump")
    if objdump is None or not sys.platform.startswith("linux"):
        pytest.skip("needs objdump and ELF")
    if platform.machine() != "x86_64":
        pytest.skip("knows the instruction of x86-64 alone")
    assert _core.__file__ is not None
    command = [objdump, "--disassemble", "--no-show-raw-insn", _core.__file__]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fetched = len(re.findall("prefetch(?:t0|w)", code))  # into L1: for a cell to read or to write
    assert fetched > 300, f"{fetched} instructions"


# --- Python ---------------------------------------------------------------------------------------

# Modules by level: each may import the levels before its own. The layers, and what they import,
# know no files; the specification, which is for tests and learners, is used by nobody.
LEVELS = (
    {"_core", "checks", "locks", "widths"},
    {"sums"},
    {"clipping", "data", "history", "losses", "optimizer", "parameters", "schedules", "tape"},
    {"initializers", "interrupts", "metrics", "module", "progress", "ragged", "rows"},
    {"optim", "registry"},
    {"activations", "means", "pooling", "regularization", "samples"},
    {"generation", "probabilities", "shapes", "stack"},
    {"recurrent"},
    {"cells", "final_state", "layers"},
    {"files"},
    {"checkpoint", "composite"},
    {"model"},
    {"bridge", "streaming"},
    {"encoder_decoder"},
    {"evaluation"},
    {"trainer"},
    {"training"},
    {"interop", "torch"},
    {"__init__"},
    {"examples"},
    {"cli", "reference"},
)
# Who may speak to the kernels.
KERNEL_USERS = {
    *("sums", "losses", "optim", "stack", "layers", "activations", "regularization"),
    *("files", "checkpoint", "streaming", "torch", "__init__"),
}
# Outside packages besides NumPy, and who may import them: inside the function that needs them, so
# that `import pygru` costs no more than NumPy.
OUTSIDE = {
    "safetensors": {"checkpoint", "files", "interop"},
    "tqdm": {"progress"},
    "matplotlib": {"history", "examples"},
    "onnx": {"interop"},
    "onnxruntime": {"interop"},
    "h5py": {"interop"},
    "keras": {"interop"},
    "tensorflow": {"interop"},
    "torch": {"interop", "torch"},
    "aeon": {"examples"},
    "statsmodels": {"examples"},
}
# The standard library's doors to files (and to what a fork leaves), and who may open them.
DOORS = {
    "pickle": set[str](),
    "os": {"files", "history", "interop", "examples", "cli", "locks"},
    "pathlib": {"checkpoint", "files", "history", "interop", "examples", "cli"},
}


def python_files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "_core.py")


def module_of(path: Path) -> str:
    """The row of a file: the first part of its name below the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def python_level(module: str) -> int:
    for level, modules in enumerate(LEVELS):
        if module in modules:
            return level
    raise AssertionError(f"pygru/{module} has no row in LEVELS")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every module that a file imports, absolute, and whether it does so at import time."""
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    lazy = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ("pygru." if node.level else "") + (node.module or "")
            base = base.rstrip(".")
            names = [f"{base}.{a.name}" for a in node.names] if base == "pygru" else [base]
        else:
            continue
        found += [(name, node not in lazy) for name in names if node not in for_types]
    return found


def is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name).is_dir() or name == "_core"


@pytest.mark.parametrize("path", python_files(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_modules_import_only_what_is_below_them(path):
    module = module_of(path)
    level = python_level(module)
    for name, at_import_time in imports(path):
        package, *rest = name.split(".")
        if package == "pygru":
            # `import pygru`, and names that are no module, come from the public face.
            other = rest[0] if rest and is_module(rest[0]) else "__init__"
            assert other == module or python_level(other) < level, f"{module} imports {name}"
            assert other != "_core" or module in KERNEL_USERS, f"{module} imports {name}"
        elif package in sys.stdlib_module_names:
            assert module in DOORS.get(package, {module}), f"{module} imports {name}"
        elif package != "numpy":
            assert module in OUTSIDE.get(package, set()), f"{module} imports {name}"
            # pygru.torch is for those who have torch, and nobody else imports it.
            assert not at_import_time or module == package, f"{module} imports {name} too early"


def test_the_layers_and_what_they_import_know_no_files():
    known, new = set[str](), {"layers", "cells", "recurrent"}
    while new:
        known |= new
        names = {
            name.split(".")[1]
            for path in python_files()
            if module_of(path) in new
            for name, _ in imports(path)
            if name.startswith("pygru.")
        }
        new = names - known
    assert "module" in known
    assert not known & (set().union(*DOORS.values()) - {"locks"})


def test_importing_pygru_imports_nothing_heavy(tmp_path):
    command = [sys.executable, "-c", "import sys, pygru; print(*sys.modules)"]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert not loaded & {*OUTSIDE, "argparse", "torch"}


def test_the_public_face_has_no_names_by_accident():
    public = {name for name in vars(pygru) if not name.startswith("_")} - {"annotations"}
    modules = {name for name in public if isinstance(vars(pygru)[name], ModuleType)}
    assert public - modules == set(pygru.__all__) - modules - {"__version__"}


def test_every_file_carries_its_licence():
    for path in [*python_files(), *all_cpp_files(), *sorted((ROOT / "tests").glob("*.py"))]:
        first = path.read_text().partition("\n")[0]
        assert "SPDX-License-Identifier: MIT" in first, path


def test_no_file_outgrows_one_concept():
    for path in [*python_files(), *all_cpp_files()]:
        assert len(path.read_text().splitlines()) <= 400, f"{path} is longer than 400 lines"
