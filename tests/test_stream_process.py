# SPDX-License-Identifier: MIT
"""Streams beside what a process does: its threads, its forks, its memory, arrays from anywhere."""

from __future__ import annotations

import inspect
import sys

import numpy as np
import pytest
from test_threads import LIMIT, forks, glibc

import pygru
from pygru import _core


@pytest.mark.parametrize(
    "sizes",
    [(1, 64, 64), (1, 64, 256), (3, 40, 100), (5, 64, 320), (13, 8, 24)],
    ids=str,
)
def test_the_threads_of_a_stream_have_memory_and_leave_no_sequence_out(sizes, threads, rng):
    B, I, H = sizes  # noqa: E741
    model = pygru.Sequential(pygru.GRU(I, H, rng=0), pygru.RNN(H, 8, rng=1))
    x = rng.standard_normal((150, B, I)).astype(np.float32)
    expected = model(x)
    for _ in range(4):
        stream = pygru.Stream(model, batch=B)
        np.testing.assert_array_equal(stream.process(x), expected)


@pytest.mark.parametrize("B", [1, 9])
def test_the_threads_of_a_wide_linear_leave_no_output_out(B, threads, rng):
    model = pygru.Sequential(pygru.GRU(3, 512, rng=0), pygru.Linear(512, 4001, rng=1))
    x = rng.standard_normal((5, B, 3)).astype(np.float32)
    expected = model(x)
    stream = pygru.Stream(model, batch=B)
    np.testing.assert_array_equal(np.stack([stream.step(x_t) for x_t in x]), expected)
    stream.reset()
    np.testing.assert_array_equal(stream.process(x), expected)


@glibc
@pytest.mark.parametrize("call", ["process", "step"])
def test_a_thread_that_a_stream_cannot_have_costs_one_warning(call, succeed):
    succeed(f"""
import numpy as np
import pygru
{LIMIT}
pygru.set_num_threads(1)
gru = pygru.GRU(64, 512, rng=0)
x = np.ones((3, 8, 64), np.float32)
def run(stream):
    return stream.process(x) if "{call}" == "process" else [stream.step(x_t) for x_t in x]
expected = run(pygru.Stream(gru, batch=8))
pygru.set_num_threads(2)
stream = pygru.Stream(gru, batch=8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    limit()
    first = run(stream)
    unlimit()
stream.reset()
told = ["pygru: could not start another thread; using 1 from now on"]
assert [str(one.message) for one in caught] == told, caught
assert pygru.get_num_threads() == 1
assert np.array_equal(first, expected)
pygru.set_num_threads(2)
assert np.array_equal(run(stream), expected)
""")


@forks
def test_a_fork_while_a_thread_is_inside_a_stream_leaves_the_child_a_stream_to_reset(succeed):
    succeed("""
import os, threading, warnings
import numpy as np
import pygru
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
stream = pygru.Stream(pygru.GRU(3, 64, rng=0))
x, block = np.ones(3, np.float32), np.ones((20_000, 3), np.float32)
expected = stream.step(x)
stream.reset()
results, told = [], 0
def in_child():  # 1: the thread was inside
    try:
        stream.step(x)
        inside = 0
    except RuntimeError as error:
        assert "was inside when this process was forked; call reset() first" in str(error), error
        inside = 1
    stream.reset()
    assert np.array_equal(stream.step(x), expected)
    assert len(stream.state) == 1
    return inside
for _ in range(20):  # until it happens while the thread is inside
    worker = threading.Thread(target=lambda: stream.process(block))
    worker.start()
    child = os.fork()
    if not child:
        code = 2
        try:
            code = in_child()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    worker.join()
    assert code in (0, 1)
    told += code
assert told
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_stream_of_many_sequences_takes_no_more_than_a_few_states(succeed):
    succeed("""
import numpy as np
import pygru
pygru.set_num_threads(1)
def resident():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * 4096
for layers in (1, 2):
    gru = pygru.GRU(8, 256, layers, rng=0)
    x = np.ones((2, 4096, 8), np.float32)
    before = resident()
    stream = pygru.Stream(gru, batch=4096)
    y = stream.process(x)
    used, state = resident() - before - y.nbytes, y.nbytes // 2
    assert used < 2 * layers * state + 2**23, used
    assert np.array_equal(y, gru(x)[0])
""")


def misaligned(shape, dtype=np.float32):
    """Ones of that shape at an odd address."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    array = np.frombuffer(bytearray(size + 1), dtype, int(np.prod(shape)), 1).reshape(shape)
    array[...] = 1
    assert not array.flags.aligned
    return array


@pytest.mark.parametrize("call", ["step", "process"])
def test_a_misaligned_array_is_copied_on_the_way_in_and_refused_on_the_way_out(call):
    stream = pygru.Stream(pygru.GRU(3, 4, rng=0))
    shape = (3,) if call == "step" else (5, 3)
    expected = getattr(stream, call)(np.ones(shape, np.float32))
    stream.reset()
    np.testing.assert_array_equal(getattr(stream, call)(misaligned(shape)), expected)
    stream.reset()
    with pytest.raises(TypeError, match=r"aligned array of float32, got .* that is not aligned$"):
        getattr(stream, call)(np.ones(shape), out=misaligned((*shape[:-1], 4)))
    assert not stream.state[0].any()


def test_a_kernel_takes_no_misaligned_array():
    with pytest.raises(ValueError, match="_core: x must be aligned"):
        _core.activation("tanh", misaligned((1, 3)), np.empty((1, 3), np.float32))
    with pytest.raises(ValueError, match="_core: W must be aligned"):
        _core.PackedModel([("linear", misaligned((4, 3)), None)])


def test_layers_copy_what_is_misaligned():
    x = misaligned((5, 2, 3))
    gru, linear = pygru.GRU(3, 4, rng=0), pygru.Linear(3, 4, rng=0)
    np.testing.assert_array_equal(gru(x)[0], gru(np.ones((5, 2, 3)))[0])
    np.testing.assert_array_equal(linear(x), linear(np.ones((5, 2, 3))))


# How they are called

METHODS = {"step": "x", "process": "block"}  # -> the name of the first argument


@pytest.mark.parametrize("method", METHODS)
def test_arguments_go_by_position_or_by_name(method, rng):
    first, gru = METHODS[method], pygru.GRU(3, 4, rng=0)
    x = rng.standard_normal((3,) if method == "step" else (5, 3)).astype(np.float32)
    expected = getattr(pygru.Stream(gru), method)(x)
    out = np.empty_like(expected)
    for given, named in (
        ((x, out), {}), ((x,), {"out": out}), ((), {first: x, "out": out}),
        ((), {"out": out, first: x}),
    ):  # fmt: skip
        out.fill(0)
        assert getattr(pygru.Stream(gru), method)(*given, **named) is out
        np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(getattr(pygru.Stream(gru), method)(x, None), expected)
    assert list(inspect.signature(getattr(pygru.Stream, method)).parameters) == [
        "self", first, "out"
    ]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_arguments_that_do_not_fit_are_named(method):
    stream, first = pygru.Stream(pygru.GRU(3, 4)), METHODS[method]
    call, x = getattr(stream, method), np.zeros(3, np.float32)
    for given, named, message in (
        ((), {}, f"needs the argument {first}$"),
        ((), {"out": x}, f"needs the argument {first}$"),
        ((x, x, x), {}, "takes at most 2 arguments, got 3$"),
        ((x,), {first: x}, f"got two values for {first!r}$"),
        ((x, x), {"out": x}, "got two values for 'out'$"),
        ((x,), {"inputs": x}, "takes no argument 'inputs'$"),
        ((), {"inputs": x}, "takes no argument 'inputs'$"),
        ((x,), {"out\udcff": x}, r"takes no argument 'out\\udcff'$"),
    ):
        with pytest.raises(TypeError, match=f"^Stream.{method}: {message}"):
            call(*given, **named)
    with pytest.raises(TypeError, match="Stream"):
        getattr(pygru.Stream, method)(3, x)
    with pytest.raises(RuntimeError, match="before its __init__ had run"):
        getattr(pygru.Stream.__new__(pygru.Stream), method)(x)
    assert not stream.state[0].any()


def test_a_subclass_may_add_to_a_step(rng):
    class Doubled(pygru.Stream):
        def step(self, x, out=None):
            return 2 * super().step(x, out)

    gru, x = pygru.GRU(3, 4, rng=0), rng.standard_normal(3).astype(np.float32)
    np.testing.assert_array_equal(Doubled(gru).step(x), 2 * pygru.Stream(gru).step(x))


def test_calls_keep_no_arguments():
    stream, x, out = pygru.Stream(pygru.GRU(3, 4)), np.zeros(3, np.float32), np.zeros(4, np.float32)
    before = sys.getrefcount(x), sys.getrefcount(out)
    for _ in range(10):
        stream.step(x, out=out)
        with pytest.raises(ValueError, match="must have shape"):
            stream.step(out, out=x)
        with pytest.raises(TypeError, match="no argument"):
            stream.step(x, inputs=out)
    assert (sys.getrefcount(x), sys.getrefcount(out)) == before
