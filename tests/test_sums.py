# SPDX-License-Identifier: MIT
"""The sum behind norms and mean losses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pygru import _core
from pygru.sums import dot

# Around the ends of registers, of chains (64 float32) and of blocks (4096 float32).
SIZES = (0, 1, 3, 8, 17, 63, 64, 65, 1000, 4095, 4096, 4097, 20_000)


def draw(size, dtype):
    return np.random.default_rng(size).standard_normal((2, size)).astype(dtype)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_sum_of_the_products(size, dtype, isa):
    a, b = draw(size, dtype)
    exact = [float(x) * float(y) for x, y in zip(a, b, strict=True)]
    error = abs(dot(a, b) - math.fsum(exact))
    assert error <= 4 * np.finfo(dtype).eps * math.fsum(map(abs, exact))


@pytest.mark.parametrize("size", SIZES)
def test_every_instruction_set_gives_the_same_bits(size, dtype):
    a, b = draw(size, dtype)
    sums = set()
    before = _core.isa()
    for isa in _core.available_isas():
        _core.use_isa(isa)
        sums.add(dot(a, b))
    _core.use_isa(before)
    assert len(sums) == 1


def test_layout_and_precision_do_not_matter(dtype):
    a, b = draw(36, dtype).reshape(2, 4, 9)
    assert dot(np.asfortranarray(a), b) == dot(a, b) == dot(a.T.copy().T, b)
    halves = np.full(3, 0.5, np.float16)
    assert dot(halves, halves) == 0.75


def test_what_is_not_finite_shows(dtype):
    a = np.ones(5000, dtype)
    a[4321] = np.nan
    assert math.isnan(dot(a, a))
    a[4321] = np.finfo(dtype).max
    assert dot(a, a) == math.inf
