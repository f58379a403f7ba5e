# SPDX-License-Identifier: MIT
"""Numbers that are none, or hardly any: they stay where they are and cost no time; nor does memory.

NaN, infinities and denormals in the input of a layer, and what a training step needs of memory.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from problems import OPTIONS, Options, draw, reference, run_backward, run_forward, solve
from tolerances import assert_close

from pygru import _core
from pygru.reference import CELLS

T, B, H = 7, 5, 17
PER_SEQUENCE = {"y": 1, "h_n": 0, "dx": 1, "dh_0": 0}  # the axis of sequences


@pytest.fixture(params=CELLS)
def cell(request):
    """Every cell."""
    return request.param


@pytest.fixture(params=[3, 40], ids=lambda n: f"I{n}")
def inputs(request):
    """Few inputs and many: x W^T is made in another place."""
    return request.param


def poison(p, value, t, b):
    """Return the problem with one number of x replaced."""
    x = p.x.copy()
    x[t, b, 1] = value
    return p._replace(x=x)


def assert_others_unchanged(actual, expected, b):
    """Compare every sequence but b, bit for bit."""
    for name, axis in PER_SEQUENCE.items():
        a, e = (np.delete(r[name], b, axis) for r in (actual, expected))
        assert a.tobytes() == e.tobytes(), name


@pytest.mark.parametrize("options", [Options(), OPTIONS[3]], ids=str)
def test_a_nan_is_seen_in_its_own_sequence_from_that_step_on(cell, isa, dtype, inputs, options):
    for reverse in (False, True):
        p = draw(cell, T, B, inputs, H, options._replace(reverse=reverse), dtype)
        p = p._replace(lengths=None if p.lengths is None else np.array([7, 0, 4, 6, 7]))
        clean = solve(p)
        for t, b in ((0, 0), (3, 2), (5, 4)):
            results = solve(poison(p, np.nan, t, b))
            assert_others_unchanged(results, clean, b)
            length = T if p.lengths is None else p.lengths[b]
            seen = range(t + 1) if reverse else range(t, length)
            for step in range(length):
                y = results["y"][step, b]
                if step in seen:
                    assert np.isnan(y).all()
                else:
                    assert y.tobytes() == clean["y"][step, b].tobytes()
            assert not results["y"][length:, b].any()
            assert np.isnan(results["h_n"][b]).all()


def test_a_nan_in_a_state_or_gradient_stays_in_its_sequence(cell, isa, dtype):
    for options in (Options(lengths=True), Options(reverse=True)):
        p = draw(cell, T, B, 3, H, options, dtype)
        clean = solve(p)
        for name in ("h_0", "dy", "dh_n"):
            array = getattr(p, name).copy()
            b = 2
            array[(0, b, 3) if name == "dy" else (b, 3)] = np.nan
            assert_others_unchanged(solve(p._replace(**{name: array})), clean, b)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinities_do_what_arithmetic_says(cell, isa, dtype, inputs, value):
    for reverse in (False, True):
        p = draw(cell, T, B, inputs, H, Options(reverse), dtype)
        poisoned = poison(p, value, 3, 2)
        with np.errstate(all="ignore"):
            expected = reference(poisoned)
        results = solve(poisoned)
        assert_others_unchanged(results, solve(p), 2)
        for name in ("y", "h_n"):
            right = expected[name]
            assert np.array_equal(np.isnan(results[name]), np.isnan(right)), name
            assert np.array_equal(np.isinf(results[name]), np.isinf(right)), name
            finite = np.isfinite(right)
            assert_close(results[name][finite], right[finite], "reference", name, least=1)
        if cell != "rnn_relu":  # gates saturate
            assert np.isfinite(results["y"]).all()


@pytest.mark.parametrize("saturating", [cell for cell in CELLS if cell != "rnn_relu"])
def test_large_numbers_saturate_and_give_no_nan(saturating, isa, dtype):
    p = draw(saturating, T, B, 3, H, Options(lengths=True, initial=False), dtype)
    p = p._replace(x=p.x * dtype.type(1e30))
    y, _, tape = run_forward(p)
    assert np.abs(y).max() <= 1.0
    assert all(np.isfinite(g).all() for g in run_backward(p, y, tape).values())


# Time


def special_problems(p):
    """Yield problems of the shape of p, full of numbers that processors may be slow with."""
    info = np.finfo(p.x.dtype)
    rng = np.random.default_rng(0)

    def denormal(array):
        part = rng.uniform(0.01, 0.9, array.shape) * info.tiny
        return (np.sign(array) * part).astype(array.dtype)

    def tiny(array):  # normal, but products of two are not
        return (array * info.tiny**0.5).astype(array.dtype)

    yield "NaN", p._replace(x=np.full_like(p.x, np.nan))
    yield "infinity", p._replace(x=np.full_like(p.x, np.inf))
    yield "large numbers", p._replace(x=p.x * p.x.dtype.type(1e30))
    yield "denormal x and h_0", p._replace(x=denormal(p.x), h_0=denormal(p.h_0))
    yield "denormal weights", p._replace(W=denormal(p.W), U=denormal(p.U))
    yield "denormal gradients", p._replace(dy=denormal(p.dy), dh_n=denormal(p.dh_n))
    yield (
        "denormal products",
        p._replace(x=tiny(p.x), h_0=tiny(p.h_0), W=tiny(p.W), U=tiny(p.U), b_x=None, b_h=None),
    )
    yield "vanishing gradients", p._replace(dy=None, dh_n=(100 * info.tiny * p.dh_n))


def layer_calls(p):
    """Return the forward and the backward pass of a problem, to be called any number of times."""
    y, h_n, tape = (np.ascontiguousarray(a) for a in run_forward(p))
    dx, dh_0, dW, dU = (np.zeros_like(a, order="F") for a in (p.x.T, p.h_0.T, p.W, p.U))
    forward = (p.reverse, p.W, p.U, p.b_x, p.b_h, p.h_0, y, h_n, tape)
    given = (p.reverse, p.W, p.U, p.h_0, y, tape, p.dy, p.dh_n)
    backward = (*given, dx.T, dh_0.T, dW, dU, None, None)
    return (
        lambda: _core.forward(p.cell, p.x, None, [forward]),
        lambda: _core.backward(p.cell, p.x, None, [backward]),
    )


def linear_calls(x, W, dy):
    """Return the forward and the backward pass of a Linear."""
    W, y, dx = np.asfortranarray(W), np.empty_like(dy), np.empty_like(x)
    dW, db = np.zeros_like(W), np.zeros(len(W), W.dtype)
    return (
        lambda: _core.linear_forward(x, W, None, y),
        lambda: _core.linear_backward(x, W, dy, dx, dW, db),
    )


def adam_call(g, moments):
    """Return a step of Adam that leaves denormal moments denormal."""
    p, m, v = np.ones_like(g), moments.copy(), moments.copy()
    return (lambda: _core.adam(p, g, m, v, 1e-3, 1.0, 1.0, 1e-8, 1.0),)


class Stopwatch:
    """Some calls, and the least time each has ever taken."""

    def __init__(self, calls):
        self.calls, self.least = calls, [np.inf] * len(calls)

    def run(self):
        for i, call in enumerate(self.calls):
            start = time.perf_counter()
            call()
            self.least[i] = min(self.least[i], time.perf_counter() - start)


def assert_none_takes_twice(plain, special):
    """Compare calls: those of plain numbers, and name -> those of special ones."""
    plain, special = Stopwatch(plain), {name: Stopwatch(calls) for name, calls in special.items()}
    slower = {}
    for _ in range(20):  # more measurements only where it looks slow
        for _ in range(8):
            for watch in (plain, *special.values()):
                watch.run()
        for name, watch in special.items():
            ratios = [a / b for a, b in zip(watch.least, plain.least, strict=True)]
            slower[name] = max(ratios)
        if max(slower.values()) < 1.5:
            break
    print(", ".join(f"{name} {ratio:.2f}" for name, ratio in slower.items()))  # noqa: T201
    assert max(slower.values()) < 2, slower


def test_no_number_slows_a_layer_down(cell, isa, keep_threads):
    _core.set_num_threads(1)
    p = draw(cell, 20, 8, 16, 64)
    with np.errstate(all="ignore"):
        special = {name: layer_calls(q) for name, q in special_problems(p)}
    assert_none_takes_twice(layer_calls(p), special)


def test_no_size_is_much_slower_than_the_next_round_one(cell, isa, keep_threads):
    _core.set_num_threads(1)
    ragged = {"10 units": draw(cell, 40, 8, 4, 10), "13 units": draw(cell, 40, 8, 4, 13)}
    assert_none_takes_twice(
        layer_calls(draw(cell, 40, 8, 4, 16)), {name: layer_calls(p) for name, p in ragged.items()}
    )
    few = {f"{n} sequences": layer_calls(draw(cell, 40, n, 4, 64)) for n in (1, 2, 3)}
    assert_none_takes_twice(layer_calls(draw(cell, 40, 4, 4, 64)), few)


def test_no_number_slows_a_linear_or_adam_down(isa, dtype, rng, keep_threads):
    _core.set_num_threads(1)
    tiny = np.finfo(dtype).tiny
    x, W, dy, g = (
        rng.uniform(0.1, 0.9, shape).astype(dtype) for shape in ((64, 48), (64, 48), (64, 64), 9999)
    )
    root = dtype.type(tiny**0.5)
    assert_none_takes_twice(
        linear_calls(x, W, dy),
        {
            "denormal x": linear_calls(x * tiny, W, dy),
            "denormal weights": linear_calls(x, W * tiny, dy),
            "denormal gradients": linear_calls(x, W, dy * tiny),
            "denormal products": linear_calls(x * root, W * root, dy * root),
        },
    )
    assert_none_takes_twice(
        adam_call(g, g),
        {
            "denormal moments": adam_call(0 * g, g * tiny),
            "denormal gradients": adam_call(g * tiny, g),
            "tiny gradients": adam_call(g * root, 0 * g),
        },
    )


def test_denormal_numbers_count_as_nothing_in_a_kernel_and_as_themselves_after_it(isa, dtype):
    tiny = np.finfo(dtype).tiny
    x, W = np.ones((1, 1), dtype), np.full((1, 1), tiny / 2, dtype)
    y = np.ones((1, 1), dtype)
    _core.linear_forward(x, W, None, y)
    assert y[0, 0] == 0
    assert W[0, 0] * x[0, 0] == tiny / 2
    _core.linear_forward(x, W * 2, None, y)
    assert y[0, 0] == tiny


# Memory


MEMORY = """
import sys
import numpy as np
import pygru

def status(field):  # bytes
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def train(T, B, I, H, threads):
    pygru.set_num_threads(threads)
    x = np.ones((T, B, I), np.float32)
    before = status("VmRSS")
    gru = pygru.GRU(I, H, rng=0)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # from here on VmHWM is the peak of the step
    dy = np.ones((T, B, H), np.float32)
    for _ in range(2):
        gru.zero_grad()
        y, h_n, tape = gru.forward(x)
        gru.backward(tape, dy)
    allowed = 5 * y.nbytes + 2 * (gru.flat_params.nbytes + gru.flat_grads.nbytes) + 2**24
    used = status("VmHWM") - before
    print(f"{used / 2**20:.1f} of {allowed / 2**20:.1f} MiB")
    assert used <= allowed, (used, allowed)

train(1, 1, 1, 1, 1)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(
    "sizes",
    [(3, 32, 1024, 1024), (3000, 1, 8, 64), (30, 64, 80, 256), (4, 4096, 8, 64)],
    ids=str,
)
def test_a_step_needs_twice_the_parameters_and_16_megabytes(sizes, python):
    process = python(f"{MEMORY}train(*{sizes}, threads=2)")
    print(process.stdout)  # noqa: T201
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_memory_that_cannot_be_had_is_an_error_and_the_next_call_works(python):
    process = python("""
import resource
import numpy as np
import pygru

def run(inputs):
    gru, x = pygru.GRU(inputs, 512, rng=0), np.ones((20, 4, inputs), np.float32)
    return lambda: gru(x)[0]

small, large = run(8), run(4096)
expected = small()
before = resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as sizes:
    used = int(sizes.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**22, before[1]))
for _ in range(2):
    try:
        large()
    except MemoryError:
        pass
    else:
        raise AssertionError("packed weights of 28 MB went into 4 MB")
    assert np.array_equal(small(), expected)
resource.setrlimit(resource.RLIMIT_AS, before)
assert large().shape == (20, 4, 512)
assert np.array_equal(small(), expected)
""")
    assert process.returncode == 0, process.stdout + process.stderr
