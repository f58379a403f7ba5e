# SPDX-License-Identifier: MIT
"""What the tests run over: precisions, instruction sets, threads, awkward shapes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import pygru
from pygru import _core


class Shape(NamedTuple):
    """The letters of one recurrent problem."""

    T: int
    B: int
    I: int  # noqa: E741
    H: int


# Every H, B, T and I that has a tail to get wrong, alone and beside the others.
AWKWARD_SHAPES = [
    Shape(*sizes) for sizes in itertools.product((1, 7), (1, 5), (1, 3), (1, 3, 8, 17, 33))
]


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts the same in every test."""
    return np.random.default_rng(20140612)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    """Both precisions."""
    return np.dtype(request.param)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, even where the tests run in the background."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def teams() -> None:
    """Teams work at first, also where the tests before were slower with them."""
    _core.forget_calls()


@pytest.fixture
def keep_isa() -> Iterator[None]:
    """The instruction set after the test is the one from before."""
    before = _core.isa()
    yield
    _core.use_isa(before)


@pytest.fixture
def keep_threads() -> Iterator[None]:
    """The number of threads after the test is the one from before."""
    before = _core.get_num_threads()
    yield
    _core.set_num_threads(before)


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest, keep_isa: None) -> str:
    """Every instruction set of this machine, in use during the test."""
    _core.use_isa(request.param)
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def two_widths(keep_isa: None) -> tuple[str, str]:
    """AVX2 and AVX-512, where there are both."""
    widths = ("avx2", "avx512")
    if not {*widths} <= {*_core.available_isas()}:
        pytest.skip("needs AVX2 and AVX-512")
    return widths


@pytest.fixture(params=[1, 2, 3, 4], ids=lambda n: f"{n}-threads")
def threads(request: pytest.FixtureRequest, keep_threads: None) -> int:
    """One thread and several, in use during the test."""
    _core.set_num_threads(request.param)
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=AWKWARD_SHAPES, ids=lambda s: f"T{s.T}-B{s.B}-I{s.I}-H{s.H}")
def shape(request: pytest.FixtureRequest) -> Shape:
    """Every awkward shape."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code in a new interpreter that imports the same pygru, with these variables set.

    None of pygru's own variables reaches it otherwise; it has a minute.
    """
    theirs = {"PYGRU_NUM_THREADS", "PYGRU_ISA", "OMP_NUM_THREADS", "PYTHONPATH"}
    clean = {name: value for name, value in os.environ.items() if name not in theirs}
    clean["PYTHONPATH"] = str(Path(pygru.__file__).resolve().parent.parent)

    def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=clean | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def torch() -> Any:
    """PyTorch, whose weights are the same in every run."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(20140612)
    return torch


@pytest.fixture
def torch_afresh() -> Iterator[None]:
    """PyTorch with one thread and a seed, and pygru.torch with nothing said yet."""
    import torch

    from pygru.torch import coverage

    torch.manual_seed(20140612)
    coverage._said.clear()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], int]]:
    """The arguments of every call of a kernel by pygru.torch, and the threads it was allowed."""
    from pygru.torch import layer

    calls: list[tuple[str, tuple[Any, ...], int]] = []

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            assert name != "set_num_threads", "it is the whole process's"
            function = getattr(_core, name)
            if name not in {"forward", "backward"}:
                return function

            def call(*arguments: Any, most: int) -> None:
                calls.append((name, arguments, min(most, pygru.get_num_threads())))
                function(*arguments, most=most)

            return call

    monkeypatch.setattr(layer, "_core", Recorder())
    return calls


@pytest.fixture
def succeed(python: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., list[str]]:
    """Run code in a new interpreter; it must end well. What it printed, in words."""

    def run(code: str, **variables: str) -> list[str]:
        process = python(code, **variables)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout.split()

    return run


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A good .keras file: a GRU and a Dense."""
    pytest.importorskip("h5py")
    from keras_archives import H, M, gru_arrays, gru_config, layer, write_archive

    dense = [np.ones((H, M), np.float32), np.ones(M, np.float32)]
    return write_archive(
        tmp_path / "model.keras",
        [layer("InputLayer"), gru_config(), layer("Dense", "two", activation="softmax")],
        {"layers/gru/cell/vars": gru_arrays(), "layers/dense/vars": dense},
    )


@pytest.fixture(scope="module")
def backend() -> Any:
    """What runs ONNX models and nodes for the onnx package."""
    pytest.importorskip("onnx")
    from pygru.interop.onnx import Backend

    return Backend


@pytest.fixture(scope="module")
def runtime() -> Callable[..., Any]:
    """A function that runs the bytes of a model."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1

    def run(content, feeds):
        session = onnxruntime.InferenceSession(content, options)
        given = {one.name for one in session.get_inputs()}
        return session.run(None, {k: v for k, v in feeds.items() if k in given})

    return run
