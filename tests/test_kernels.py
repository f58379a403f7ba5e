# SPDX-License-Identifier: MIT
"""The kernels are pygru.reference: every cell, instruction set, precision, shape and option."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from problems import (
    GRADIENTS,
    OPTIONS,
    Frames,
    Options,
    assert_same_bits,
    draw,
    reference,
    run_backward,
    run_forward,
    solve,
    solve_by_reference,
)
from tolerances import assert_close

from pygru import _core
from pygru.reference import CELLS

# (T, B, I, H) beyond the awkward ones, and what of the kernels they reach.
FURTHER_SHAPES = [
    (2, 5, 3, 65),  # one unit past a whole number of registers
    (5, 9, 2, 8),  # one sequence past a tile of rows
    (3, 4, 40, 33),  # x W^T for many steps at once
    (7, 70, 35, 24),  # more than one block of rows
    (40, 20, 33, 65),  # more than one chunk of x W^T, and of gradients
    (2, 600, 3, 17),  # more sequences than the gradients of a chunk take at once
    (2, 130, 3, 260),  # more sequences, in float64, than stay in cache with their states
    (2, 9, 3, 260),  # chains that pause in memory, with wide registers
    (2, 9, 520, 5),  # with any
    (3, 9, 4, 21),  # as many inputs as dx goes without panels for
    (3, 9, 5, 21),
]


@pytest.fixture(params=CELLS)
def cell(request):
    """Every cell."""
    return request.param


def check(*problem):
    """Hold forward, with and without a tape, and backward against the reference."""
    expected = solve_by_reference(*problem)
    for dtype in (np.float32, np.float64):
        p = draw(*problem, dtype=dtype)
        y, h_n, tape = run_forward(p)
        results = {"y": y, "h_n": h_n, **run_backward(p, y, tape, before=1.0)}
        for name in GRADIENTS[2:]:  # added to what is there
            results[name] = results[name] - dtype(1)
        for name, array in results.items():
            what = f"{name} in {dtype.__name__} with {problem[-1]}"
            assert_close(array, expected[name], "reference", what, least=1)
        y_2, h_n2, _ = run_forward(p, with_tape=False)
        assert np.array_equal(y_2, y)
        assert np.array_equal(h_n2, h_n)


def opposites(sizes):
    """Return two opposite options, others at the next sizes."""
    i = sum(sizes) % 4
    return OPTIONS[i], OPTIONS[7 - i]


def test_results_are_the_references_at_awkward_shapes(cell, isa, shape):
    for options in opposites(shape):
        check(cell, *shape, options)


@pytest.mark.parametrize("sizes", FURTHER_SHAPES, ids=str)
def test_results_are_the_references_at_large_shapes(cell, isa, sizes):
    for options in opposites(sizes):
        check(cell, *sizes, options)


@pytest.mark.parametrize("T, B", [(0, 5), (7, 0), (0, 0)])
def test_zero_steps_and_zero_sequences_give_empty_results(cell, isa, T, B):
    for options in OPTIONS:
        check(cell, T, B, 3, 8, options)


@pytest.mark.parametrize("ends", [[0, 0, 0], [0, 7, 0], [7, 7, 7], [1, 0, 7]], ids=str)
def test_sequences_may_be_empty_or_full(cell, isa, ends):
    lengths = np.array(ends)
    for reverse, initial in itertools.product((False, True), repeat=2):
        p = draw(cell, 7, 3, 3, 8, Options(reverse, initial=initial), np.float64)
        p = p._replace(lengths=lengths)
        expected = reference(p)
        for name, array in solve(p).items():
            assert_close(array, expected[name], "reference", name, least=1)
            assert name not in {"y", "dx"} or not array[np.arange(7)[:, None] >= lengths].any()


def test_what_lies_past_the_end_of_a_sequence_is_not_read(cell, isa, dtype):
    for options in OPTIONS[2:4]:  # with lengths, both directions
        p = draw(cell, 7, 5, 3, 17, options, dtype)
        past = np.arange(7)[:, None] >= p.lengths
        poisoned = p._replace(x=p.x.copy(), dy=None if p.dy is None else p.dy.copy())
        for array in (poisoned.x, poisoned.dy):
            if array is not None:
                array[past] = np.nan
        y, _, tape = run_forward(p)
        y_2, _, tape_2 = run_forward(poisoned)
        assert np.array_equal(y, y_2)
        tape_2[past] = np.nan
        assert_same_bits(run_backward(poisoned, y_2, tape_2), run_backward(p, y, tape))


# Where things lie in memory


def batch_first(array, frames):
    """Lay out (T, B, n) as (B, T, n)."""
    inner = frames.new(array.swapaxes(0, 1).shape, array.dtype).swapaxes(0, 1)
    inner[...] = array
    return inner


def backwards(array, frames):
    """Lay out the leading axes the other way round."""
    flip = (slice(None, None, -1),) * (array.ndim - 1)
    inner = frames.new(array.shape, array.dtype)[flip]
    inner[...] = array
    return inner


def interleaved(array, frames):
    """Lay out the leading axes with gaps in between."""
    wide = frames.new([2 * n for n in array.shape[:-1]] + [3 * array.shape[-1]], array.dtype)
    inner = wide[(slice(None, None, 2),) * (array.ndim - 1) + (slice(array.shape[-1]),)]
    wide[...] = 0
    inner[...] = array
    return inner


@pytest.mark.parametrize("layout", [batch_first, backwards, interleaved])
def test_strides_of_the_leading_axes_are_free(cell, isa, dtype, layout):
    for options in (OPTIONS[2], Options(True), OPTIONS[7]):
        p = draw(cell, 7, 5, 35, 17, options, dtype)
        expected, frames = solve(p), Frames()
        B, H = p.x.shape[1], p.U.shape[1]

        def lay(array, frames=frames):
            flat = array is None or (array.ndim == 2 and layout is batch_first)
            return array if flat else layout(array, frames)

        y, h_n = lay(np.zeros((7, B, H), dtype)), lay(np.zeros((B, H), dtype))
        tape = np.zeros((B, 7, run_forward(p)[2].shape[2], H), dtype).swapaxes(0, 1)
        x, h_0, dy, dh_n = map(lay, (p.x, p.h_0, p.dy, p.dh_n))
        run = (p.reverse, p.W, p.U, p.b_x, p.b_h, h_0, y, h_n, tape)
        _core.forward(cell, x, p.lengths, [run])
        dx, dh_0 = lay(np.zeros_like(p.x)), lay(np.zeros((B, H), dtype))
        dW, dU = (np.zeros_like(a, order="F") for a in (p.W, p.U))
        run = (p.reverse, p.W, p.U, h_0, y, tape, dy, dh_n, dx, dh_0, dW, dU, None, None)
        _core.backward(cell, x, p.lengths, [run])
        frames.check()
        actual = {"y": y, "h_n": h_n, "dx": dx, "dh_0": dh_0, "dW": dW, "dU": dU}
        assert_same_bits(actual, expected, f"with {options}")


def test_inputs_may_be_broadcast(cell, isa, dtype):
    p = draw(cell, 7, 5, 3, 17, dtype=dtype)
    for axes in ((0,), (1,), (0, 1)):
        one = tuple(slice(0, 1) if a in axes else slice(None) for a in range(3))
        thin = {"x": p.x[one], "dy": p.dy[one], "h_0": p.h_0[one[1:]], "dh_n": p.dh_n[one[1:]]}
        full = {name: np.broadcast_to(a, getattr(p, name).shape) for name, a in thin.items()}
        expected = solve(p._replace(**{name: a.copy() for name, a in full.items()}))
        y, h_n, tape = run_forward(p._replace(**full))
        outputs = [np.zeros_like(a) for a in (p.x, p.h_0)]
        outputs += [np.zeros_like(a, order="F") for a in (p.W, p.U)]
        run = (False, p.W, p.U, full["h_0"], y, tape, full["dy"], full["dh_n"], *outputs)
        _core.backward(cell, full["x"], None, [(*run, None, None)])
        actual = dict(zip(GRADIENTS, outputs, strict=False))
        assert_same_bits({"y": y, "h_n": h_n} | actual, expected, f"along {axes}")


@pytest.mark.parametrize("T, B", [(7, 5), (1, 2)])  # packed, and as they lie
def test_weights_may_lie_either_way_round(cell, isa, dtype, T, B):
    p = draw(cell, T, B, 35, 33, dtype=dtype)
    expected = solve(p)
    for w, u in itertools.product("CF", repeat=2):
        W, U = np.asarray(p.W, order=w), np.asarray(p.U, order=u)
        assert_same_bits(solve(p._replace(W=W, U=U)), expected, f"with W {w}, U {u}")
    W = np.repeat(p.W, 2, axis=1)[:, ::2]
    U = np.repeat(p.U.T, 2, axis=1)[:, ::2].T
    y, _, _ = run_forward(p)
    y_2, h_n = np.empty_like(y), np.empty_like(p.h_0)
    run = (False, W, U, p.b_x, p.b_h, p.h_0, y_2, h_n, None)
    _core.forward(cell, p.x, None, [run])
    assert np.array_equal(y_2, y)


def test_two_directions_in_one_call_are_two_calls(cell, isa, dtype):
    for size in ((7, 5, 3, 17), (1, 2, 3, 17), (5, 64, 3, 65)):
        for options in OPTIONS[1:4:2]:  # without and with lengths
            ways = [draw(cell, *size, options._replace(reverse=r), dtype) for r in (False, True)]
            ways[1] = ways[1]._replace(b_x=None)
            y = np.empty((*size[:2], 2 * size[3]), dtype)
            runs, results = [], []
            for d, p in enumerate(ways):
                half = y[:, :, d * size[3] : (d + 1) * size[3]]
                one = {"y": half, "h_n": np.empty((size[1], size[3]), dtype)}
                results.append(one)
                tape = np.empty_like(run_forward(p)[2])
                runs.append((p.reverse, p.W, p.U, p.b_x, p.b_h, p.h_0, *one.values(), tape))
            _core.forward(cell, ways[0].x, ways[0].lengths, runs)
            for d, p in enumerate(ways):
                gradients = run_backward(p, results[d]["y"], runs[d][-1])
                assert_same_bits(results[d] | gradients, solve(p), f"in direction {d}")


# Linear


def test_linear_is_the_product(isa, dtype):
    for N, K, M in itertools.product((0, 1, 9, 300), (1, 33, 300), (1, 17, 65)):
        rng, frames = np.random.default_rng([N, K, M]), Frames()
        wide = [rng.standard_normal(s).astype(np.float32) for s in ((N, K), (M, K), (M,), (N, M))]
        expected = [a.astype(np.float64) for a in wide]
        x, W, b, dy = (frames.copy(a.astype(dtype)) for a in wide)
        for order in "CF":
            W = frames.copy(np.asarray(W, order=order))
            y, dx = frames.new((N, M), dtype), frames.new((N, K), dtype)
            dW, db = frames.new((K, M), dtype, 1.0).T, frames.new((M,), dtype, 1.0)
            _core.linear_forward(x, W, b, y)
            _core.linear_backward(x, W, dy, dx, dW, db)
            x_e, W_e, b_e, dy_e = expected
            results = {
                "y": (y, x_e @ W_e.T + b_e),
                "dx": (dx, dy_e @ W_e),
                "dW": (dW - dtype.type(1), dy_e.T @ x_e),
                "db": (db - dtype.type(1), dy_e.sum(axis=0)),
            }
            for name, (actual, right) in results.items():
                assert_close(actual, right, "reference", f"{name} {N, K, M} {order}", least=K**0.5)
            again = frames.new((N, M), dtype)
            _core.linear_forward(x, W, None, again)
            assert_close(again, x_e @ W_e.T, "reference", "y without bias", least=K**0.5)
            dW_2 = np.ones_like(dW, order="F")
            _core.linear_backward(x, W, dy, None, dW_2, None)
            assert np.array_equal(dW, dW_2)
        frames.check()


# The bindings refuse what does not fit

FORWARD = ["reverse", "W", "U", "b_x", "b_h", "h_0", "y", "h_n", "tape"]
BACKWARD = [
    *("reverse", "W", "U", "h_0", "y", "tape", "dy", "dh_n"),
    *("dx", "dh_0", "dW", "dU", "db_x", "db_h"),
]
OPTIONAL = {"b_x", "b_h", "h_0", "tape", "dy", "dh_n", "dx", "dh_0", "db_x", "db_h", "b", "db"}
ANY_STRIDES = {"W", "U"}


def wrong_forms(name, array, output):
    """Yield what must not pass for an array, and what is wrong with it."""
    if name not in OPTIONAL:
        yield "None", None
    yield "a list", array.tolist()
    yield "a string", "x"
    other = np.float64 if array.dtype == np.float32 else np.float32
    for dtype in (other, np.float16, np.int32, np.complex64, object, array.dtype.newbyteorder()):
        yield f"of {np.dtype(dtype)}", array.astype(dtype)
    yield "with an axis too many", array[np.newaxis]
    yield "with an axis too few", array[0]
    yield "with no axis", array[(0,) * array.ndim + (...,)]
    for axis in range(array.ndim):
        yield f"too short along {axis}", np.delete(array, 0, axis)
        yield f"too long along {axis}", np.concatenate([array, array], axis)
    odd = np.dtype({
        "names": ["v"], "formats": [array.dtype], "offsets": [0], "itemsize": array.itemsize + 1,
    })  # fmt: skip
    yield "with odd strides", np.zeros(array.shape, odd)["v"]
    if name not in ANY_STRIDES:
        yield "strided along the last axis", np.repeat(array, 2, axis=-1)[..., ::2]
        if name not in {"dW", "dU"}:
            yield "backwards along the last axis", array[..., ::-1]
        else:
            yield "C-contiguous", np.ascontiguousarray(array)
    if array.ndim == 4 and array.shape[2] > 1:
        steps = (*array.strides[:2], array.itemsize, array.itemsize)
        yield "with overlapping slots", np.lib.stride_tricks.as_strided(array, strides=steps)
    if output:
        read_only = array.copy(order="K")
        read_only.flags.writeable = False
        yield "read-only", read_only
        yield "broadcast", np.broadcast_to(array[..., :1], array.shape)


def refuses(call, names, outputs, arguments):
    """Assert that each wrong form of each argument is an error that writes nothing."""
    written = [np.array(arguments[names.index(name)]) for name in outputs]
    for i, name in enumerate(names):
        if not isinstance(arguments[i], np.ndarray):
            continue
        for what, wrong in wrong_forms(name, arguments[i], name in outputs):
            with pytest.raises((TypeError, ValueError)) as error:
                call(*arguments[:i], wrong, *arguments[i + 1 :])
            told = str(error.value)
            assert "_core: " in told or "incompatible function arguments" in told, (name, what)
            for output, before in zip(outputs, written, strict=True):
                assert np.array_equal(arguments[names.index(output)], before), (name, what)


def directions(cell, dtype):
    """Return a problem with everything, and the arguments of a forward and of a backward run."""
    p = draw(cell, 7, 5, 3, 8, Options(lengths=True), dtype)
    y, h_n, tape = (array.copy() for array in run_forward(p))
    fresh = [np.zeros_like(a) for a in (p.x, p.h_0)]
    fresh += [np.zeros_like(a, order="F") for a in (p.W, p.U)]
    forward = [False, p.W, p.U, p.b_x, p.b_h, p.h_0, y, h_n, tape]  # `reverse` is no array
    gradients = [*fresh, np.zeros_like(p.b_x), np.zeros_like(p.b_h)]
    return p, forward, [False, p.W, p.U, p.h_0, y, tape, p.dy, p.dh_n, *gradients]


def test_forward_refuses_what_does_not_fit(cell, dtype):
    p, forward, _ = directions(cell, dtype)
    names, outputs = ["x", *FORWARD], ["y", "h_n", "tape"]

    def call(x, *run):
        _core.forward(cell, x, p.lengths, [run])

    def call_second(x, *run):
        _core.forward(cell, x, p.lengths, [tuple(forward), run])

    refuses(call, names, outputs, [p.x, *forward])
    again = [a.copy(order="K") if isinstance(a, np.ndarray) else a for a in forward]
    refuses(call_second, names, outputs, [p.x, *again])


def test_backward_refuses_what_does_not_fit(cell, dtype):
    p, _, backward = directions(cell, dtype)

    def call(x, *run):
        _core.backward(cell, x, p.lengths, [run])

    refuses(call, ["x", *BACKWARD], ["tape", *BACKWARD[-6:]], [p.x, *backward])


def test_linear_refuses_what_does_not_fit(dtype):
    rng = np.random.default_rng(0)
    x, W, b, y = (rng.standard_normal(s).astype(dtype) for s in ((5, 3), (8, 3), 8, (5, 8)))
    refuses(_core.linear_forward, ["x", "W", "b", "y"], ["y"], [x, W, b, y])
    gradients = [np.zeros_like(x), np.zeros_like(W, order="F"), np.zeros_like(b)]
    names = ["x", "W", "dy", "dx", "dW", "db"]
    refuses(_core.linear_backward, names, names[3:], [x, W, y, *gradients])


def test_passes_over_flat_buffers_refuse_what_does_not_fit(dtype):
    flat = [np.ones(5, dtype) for _ in "pgmv"]
    refuses(lambda *a: _core.adam(*a, 0.1, 0.9, 0.999, 1e-8, 1.0), [*"pgmv"], [*"pmv"], flat)


def test_calls_refuse_what_is_no_call(cell):
    p, forward, backward = directions(cell, np.dtype(np.float32))
    wrong_lengths = [
        [7] * 5, np.full(5, 7, np.int32), np.full(5, 7.0), np.zeros(5, np.uint64), "x",
        np.zeros(4, int), np.zeros(6, int), np.zeros((5, 1), int), np.zeros(10, int)[::2],
        np.array([0, 0, 0, 0, -1]), np.array([8, 0, 0, 0, 0]), np.zeros(5, ">i8"),
        np.frombuffer(bytearray(41), np.int64, 5, 1),
    ]  # fmt: skip
    for function, run in ((_core.forward, tuple(forward)), (_core.backward, tuple(backward))):
        for lengths in wrong_lengths:
            with pytest.raises((TypeError, ValueError), match="_core: lengths must be"):
                function(cell, p.x, lengths, [run])
        for runs in ([], [run] * 3, [run[:-1]], [(*run, None)], [()]):
            with pytest.raises(ValueError, match=r"_core: (each run|runs) must"):
                function(cell, p.x, p.lengths, runs)
        for runs in (None, run, [None], [3], "x"):
            with pytest.raises((TypeError, ValueError, RuntimeError)):
                function(cell, p.x, p.lengths, runs)
        for wrong in ("lstm", "", None, 0):
            with pytest.raises((TypeError, ValueError), match="cell"):
                function(wrong, p.x, p.lengths, [run])


def test_sizes_of_zero_are_no_crash(isa):
    def zeros(*shape):
        return np.zeros(shape, np.float32)

    for T, B, I, H in itertools.product((0, 7), (0, 5), (0, 3), (0, 8)):  # noqa: E741
        x, W, U, y = zeros(T, B, I), zeros(I, 3 * H).T, zeros(H, 3 * H).T, zeros(T, B, H)
        tape, h = zeros(T, B, 4, H), zeros(B, H)
        _core.forward("gru_after", x, None, [(False, W, U, None, None, None, y, h, tape)])
        outputs = (x.copy(), h, W, U, zeros(3 * H), zeros(3 * H))
        _core.backward("gru_after", x, None, [(False, W, U, None, y, tape, y, h, *outputs)])
        x, W, y = zeros(B, I), zeros(I, H).T, zeros(B, H)
        _core.linear_forward(x, W, None, y)
        _core.linear_backward(x, W, y, x.copy(), W, zeros(H))
        for array in (*outputs, y):
            assert not array.any()
