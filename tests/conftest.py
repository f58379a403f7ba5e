# SPDX-License-Identifier: MIT
"""What the tests run over: precisions, instruction sets, threads, awkward shapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

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


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this machine, in use during the test."""
    before = _core.isa()
    _core.use_isa(request.param)
    yield request.param
    _core.use_isa(before)


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n}-threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """One thread and several, in use during the test."""
    before = _core.get_num_threads()
    _core.set_num_threads(request.param)
    yield request.param
    _core.set_num_threads(before)


@pytest.fixture(params=AWKWARD_SHAPES, ids=lambda s: f"T{s.T}-B{s.B}-I{s.I}-H{s.H}")
def shape(request: pytest.FixtureRequest) -> Shape:
    """Every awkward shape."""
    return request.param  # type: ignore[no-any-return]
