# SPDX-License-Identifier: MIT
"""Same bits: whatever the threads, the batch, the steps of a call, the tape or the register width.

Every output is summed in one order, nearly always one chain, so nothing here is compared with a
tolerance.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from problems import RESULTS, Options, assert_same_bits, draw, run_forward, solve

import pygru
from pygru import _core
from pygru.reference import CELLS

# (T, B, I, H), and how threads divide it.
SHAPES = [
    (5, 64, 1, 64),  # by sequences
    (12, 1, 24, 320),  # by units
    (8, 3, 40, 200),  # by units, with x W^T for many steps at once
    (40, 9, 3, 33),  # by sequences that are no whole tiles
    (30, 20, 35, 40),  # more than one chunk of gradients
    (2, 600, 3, 17),  # by sequences, the gradients of a step in slices
]
PER_SEQUENCE = ("y", "h_n", "dx", "dh_0")


@pytest.fixture(params=CELLS)
def cell(request):
    """Every cell."""
    return request.param


@pytest.fixture(params=["plain", "reverse-lengths-stateless"])
def options(request):
    """Each option both ways."""
    other = request.param != "plain"
    return Options(reverse=other, lengths=other, initial=not other)


def test_thread_count_does_not_change_a_bit(cell, options, isa, dtype, keep_threads):
    by_units_although_sequences_would_do = (6, 21, 40, 130)
    for sizes in (*SHAPES, by_units_although_sequences_would_do):
        p = draw(cell, *sizes, options, dtype)
        _core.set_num_threads(1)
        expected = solve(p)
        for n in (2, 3, 4) if dtype == np.float32 else (3,):
            _core.set_num_threads(n)
            assert_same_bits(solve(p), expected, f"with {n} threads at {sizes}")


def test_directions_that_run_at_the_same_time_give_the_same_bits(cell, isa, threads):
    for T, B, I, H in SHAPES[:2]:  # noqa: E741
        ways = [draw(cell, T, B, I, H, Options(r, lengths=True)) for r in (False, True)]
        y = np.full((T, B, 2 * H), np.nan, np.float32)
        h_n = np.full((2, B, H), np.nan, np.float32)
        halves = y[:, :, :H], y[:, :, H:]
        runs = [
            (p.reverse, p.W, p.U, p.b_x, p.b_h, p.h_0, halves[d], h_n[d], None)
            for d, p in enumerate(ways)
        ]
        _core.set_num_threads(threads)
        _core.forward(cell, ways[0].x, ways[0].lengths, runs)
        _core.set_num_threads(1)
        for d, p in enumerate(ways):
            y_1, h_1, _ = run_forward(p)
            assert_same_bits({"y": halves[d], "h_n": h_n[d]}, {"y": y_1, "h_n": h_1})


def test_a_sequence_alone_is_the_same_in_any_batch(cell, options, isa, dtype):
    for T, batch, I, H in ((5, 2, 3, 33), (5, 7, 40, 17), (3, 64, 3, 17), (3, 64, 40, 33)):  # noqa: E741
        p = draw(cell, T, batch, I, H, options, dtype)
        together = solve(p)
        for b in {0, 1, batch // 2, batch - 1}:
            own = {name: together[name] for name in PER_SEQUENCE}
            own |= {name: own[name][:, b : b + 1] for name in ("y", "dx")}
            own |= {name: own[name][b : b + 1] for name in ("h_n", "dh_0")}
            assert_same_bits(own, solve(p.only(b)), f"of sequence {b} of {batch}")


def test_step_by_step_is_the_whole_sequence(cell, isa, dtype):
    for sizes in ((9, 1, 3, 33), (9, 6, 40, 17), (6, 1, 24, 320)):
        for reverse in (False, True):
            p = draw(cell, *sizes, Options(reverse), dtype)
            y, h_n, _ = run_forward(p)
            h = p.h_0
            for t in reversed(range(sizes[0])) if reverse else range(sizes[0]):
                y_t, h, _ = run_forward(p._replace(x=p.x[t : t + 1], h_0=h))
                assert_same_bits({"y": y_t[0], "h_n": h}, {"y": y[t], "h_n": y[t]}, f"at step {t}")
            assert_same_bits({"h_n": h}, {"h_n": h_n})


def test_blocks_of_steps_are_the_whole_sequence(cell, isa, dtype):
    p = draw(cell, 60, 20, 40, 65, Options(), dtype)
    y, h_n, _ = run_forward(p)
    h = p.h_0
    for first, last in ((0, 1), (1, 50), (50, 59), (59, 60)):
        y_part, h, _ = run_forward(p._replace(x=p.x[first:last], h_0=h))
        assert_same_bits({"y": y_part}, {"y": y[first:last]}, f"in steps {first} to {last}")
    assert_same_bits({"h_n": h}, {"h_n": h_n})


def test_no_initial_state_is_a_state_of_zeros(cell, options, isa, dtype):
    p = draw(cell, 7, 5, 3, 33, options._replace(initial=True), dtype)
    zeros = solve(p._replace(h_0=np.zeros_like(p.h_0)))
    assert_same_bits(solve(p._replace(h_0=None)), zeros)


def test_the_tape_does_not_change_a_bit(cell, options, isa, dtype):
    for sizes in SHAPES:
        p = draw(cell, *sizes, options, dtype)
        y, h_n, _ = run_forward(p, with_tape=True)
        y_2, h_n2, _ = run_forward(p, with_tape=False)
        assert_same_bits({"y": y, "h_n": h_n}, {"y": y_2, "h_n": h_n2}, f"at {sizes}")


def test_a_gradient_that_vanishes_is_the_same_zero(isa):
    # Products too small for a normal number count as -0 here, and must not in part of the lanes.
    rnn = pygru.RNN(1, 24, nonlinearity="relu", init="zeros")
    rnn.params["weight_ih_l0"][...], rnn.params["bias_ih_l0"][...] = 0.1, 1.0
    y, _, tape = rnn.forward(np.zeros((1, 1, 1), np.float32))
    dx, _ = rnn.backward(tape, np.full_like(y, -2e-38))
    assert not np.signbit(dx).any()


def test_run_to_run_every_gradient_is_the_same(cell, isa, keep_threads):
    _core.set_num_threads(4)
    for sizes in SHAPES[::2]:
        p = draw(cell, *sizes, Options(lengths=True))
        expected = solve(p)
        for _ in range(3):
            assert_same_bits(solve(p), expected, f"at {sizes}")


def test_the_order_of_a_batch_does_not_change_a_sequence(cell, options, isa):
    p = draw(cell, 7, 9, 3, 33, options._replace(initial=True))
    order = np.random.default_rng(0).permutation(9)
    inverse = np.argsort(order)
    shuffled = p._replace(
        x=p.x[:, order],
        dy=p.dy[:, order],
        h_0=p.h_0[order],
        dh_n=p.dh_n[order],
        lengths=None if p.lengths is None else p.lengths[order],
    )
    expected, actual = solve(p), solve(shuffled)
    own = {name: actual[name][:, inverse] for name in ("y", "dx")}
    own |= {name: actual[name][inverse] for name in ("h_n", "dh_0")}
    assert_same_bits(own, expected)


def test_avx2_is_avx512(cell, options, dtype, two_widths):
    for sizes in [*SHAPES, (7, 5, 3, 17), (2, 3, 300, 65)]:
        p = draw(cell, *sizes, options, dtype)
        results = []
        for isa in two_widths:
            _core.use_isa(isa)
            results.append(solve(p))
        assert_same_bits(*results, f"at {sizes}")


# Digests of what every instruction set with fused multiply-add gives: no one machine has all of
# them, so each is held against the record. A change that is meant to change bits takes over what
# the failing test printed.
RECORD = {
    ("gru_after", "float32"): "d711e3a2298bd513",
    ("gru_after", "float64"): "2a81d41af0b29ea1",
    ("gru_before", "float32"): "0948de97c86ea9e6",
    ("gru_before", "float64"): "fb946ca9a8415edb",
    ("rnn_tanh", "float32"): "8527bdb58b604123",
    ("rnn_tanh", "float64"): "6df8fa6be6bb6813",
    ("rnn_relu", "float32"): "581130bc61330c7f",
    ("rnn_relu", "float64"): "e503544186a60b0b",
}


def fixed(p):
    """Return the problem with values that no release of NumPy and no C library can change."""

    def values(array, scale):
        n = np.arange(1.0, array.size + 1)
        filled = np.empty_like(array)  # in the same order of memory
        filled.ravel("K")[:] = np.float32(scale * (2 * (n * n * 0.6180339887498949 % 1) - 1))
        return filled

    T, B = p.x.shape[:2]
    scales = {"x": 1, "W": 0.1, "U": 0.1, "b_x": 0.5, "b_h": 0.5, "h_0": 0.5, "dy": 1, "dh_n": 1}
    arrays = {k: values(getattr(p, k), s) for k, s in scales.items() if getattr(p, k) is not None}
    return p._replace(**arrays, lengths=None if p.lengths is None else np.arange(B) * 7 % (T + 1))


def test_every_machine_gives_the_recorded_bits(cell, dtype, isa):
    if isa == "baseline":
        pytest.skip("multiplies and adds apart")
    digest = hashlib.blake2b(digest_size=8)
    for sizes in [*SHAPES, (7, 5, 3, 17), (1, 2, 300, 65)]:
        for options in (Options(), Options(reverse=True, lengths=True, initial=False)):
            results = solve(fixed(draw(cell, *sizes, options, dtype)))
            for name in RESULTS:
                digest.update(np.ascontiguousarray(results[name]).tobytes())
    assert digest.hexdigest() == RECORD[cell, dtype.name]


# Linear


def linear(x, W, b, dy):
    """Return y, dx, dW and db."""
    y, dx = np.empty((x.shape[0], W.shape[0]), x.dtype), np.empty_like(x)
    dW, db = np.zeros_like(W, order="F"), np.zeros_like(b)
    _core.linear_forward(x, W, b, y)
    _core.linear_backward(x, W, dy, dx, dW, db)
    return {"y": y, "dx": dx, "dW": dW, "db": db}


def draw_linear(N, K, M, dtype):
    """Return x, W, b and dy."""
    rng = np.random.default_rng([N, K, M])
    return [rng.standard_normal(s).astype(dtype) for s in ((N, K), (M, K), M, (N, M))]


def test_linear_is_the_same_alone_in_any_batch_and_with_any_threads(isa, dtype, keep_threads):
    for N, K, M in ((2, 3, 1), (7, 33, 17), (6, 640, 901), (64, 300, 65), (700, 40, 200)):
        x, W, b, dy = draw_linear(N, K, M, dtype)
        _core.set_num_threads(1)
        expected = linear(x, W, b, dy)
        for n in (2, 3, 4):
            _core.set_num_threads(n)
            assert_same_bits(linear(x, W, b, dy), expected, f"with {n} threads")
        for i in {0, 1, N // 2, N - 1}:
            row = slice(i, i + 1)
            own = {name: expected[name][row] for name in ("y", "dx")}
            assert_same_bits(own, linear(x[row], W, b, dy[row]), f"in row {i} of {N}")


@pytest.mark.parametrize("threads", [1, 3])
def test_a_few_rows_that_are_not_packed_for_give_the_same(threads, isa, dtype, keep_threads):
    _core.set_num_threads(threads)
    sizes = ((1, 9, 2), (3, 50, 7), (1, 40, 1000), (2, 7, 65), (7, 600, 903), (18, 512, 523))
    for N, K, M in sizes:
        x, W, b, _ = draw_linear(N, K, M, dtype)
        for bias in (b, None):
            few, packed = (np.full((N, M), np.nan, dtype) for _ in range(2))
            _core.linear_forward(x, np.asfortranarray(W), bias, few)
            _core.linear_forward(x, W, bias, packed)
            assert few.tobytes() == packed.tobytes()


def test_linear_with_avx2_is_avx512(dtype, two_widths):
    arrays = draw_linear(700, 40, 200, dtype)
    results = []
    for isa in two_widths:
        _core.use_isa(isa)
        results.append(linear(*arrays))
    assert_same_bits(*results)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_mean_over_time_of_one_unit_is_the_same_alone_and_in_a_batch(batch_first):
    x = np.random.default_rng(0).standard_normal((7, 48, 1)).astype(np.float32)  # (B, T, I)
    model = pygru.Sequential(pygru.GRU(1, 1, batch_first=batch_first, rng=0), pygru.MeanOverTime())
    repeat = pygru.RepeatVector(48, batch_first=batch_first)
    turned = (lambda a: a) if batch_first else (lambda a: a.swapaxes(0, 1))
    together = model(turned(x))
    _, tape = repeat.forward(together)
    summed = repeat.backward(tape, turned(x))
    for b in range(7):
        assert np.array_equal(model(turned(x[b : b + 1])), together[b : b + 1])
        _, tape = repeat.forward(together[b : b + 1])
        assert np.array_equal(repeat.backward(tape, turned(x[b : b + 1])), summed[b : b + 1])


@pytest.mark.parametrize("sizes", [
    (3, 1, 24, 64), (2, 1, 3, 33), (5, 1, 40, 264), (1, 2, 9, 65), (2, 3, 150, 520),
    (1, 7, 200, 512),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("threads", [1, 3])
def test_a_few_steps_that_are_not_packed_for_give_the_same(
    cell, sizes, threads, isa, dtype, keep_threads
):
    _core.set_num_threads(threads)
    for reverse, initial in ((False, True), (True, False)):
        p = draw(cell, *sizes, Options(reverse=reverse, initial=initial), dtype)
        to_pack = p._replace(W=np.ascontiguousarray(p.W), U=np.ascontiguousarray(p.U))
        assert p.W.strides[0] < to_pack.W.strides[0]
        for with_tape in (False, True):
            few, packed = (run_forward(q, with_tape) for q in (p, to_pack))
            for a, b in zip(few, packed, strict=True):
                assert a is b is None or a.tobytes() == b.tobytes()


@pytest.mark.parametrize("steps", [1, 2])
def test_a_few_steps_in_two_directions_are_the_same_as_in_a_large_batch(steps, isa, dtype, rng):
    gru = pygru.GRU(3, 5, bidirectional=True, dtype=dtype, rng=0)
    x = rng.standard_normal((steps, 50, 3)).astype(dtype)
    y, h_n = gru(x[:, :1])  # before the memory of other results may be reused for it
    all_y, all_h_n = gru(x)
    assert y.tobytes() == all_y[:, :1].tobytes()
    assert h_n.tobytes() == all_h_n[:, :1].tobytes()
