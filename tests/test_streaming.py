# SPDX-License-Identifier: MIT
"""Streams: step by step gives what the whole sequence gives, and costs no memory."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import pygru
from pygru import _core


def stack(reset: str = "after", dtype: type = np.float32) -> pygru.Sequential:
    return pygru.Sequential(
        pygru.GRU(3, 17, 2, reset=reset, dtype=dtype, rng=0),
        pygru.Dropout(0.5, rng=1),
        pygru.Linear(17, 5, dtype=dtype, rng=2),
        pygru.RNN(5, 8, dtype=dtype, rng=3),
        pygru.Linear(8, 2, dtype=dtype, rng=4),
    )


def sequences(rng: np.random.Generator, T: int, B: int, dtype: type = np.float32) -> np.ndarray:
    return rng.standard_normal((T, B, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reset", ["after", "before"])
@pytest.mark.parametrize("B", [1, 5])
def test_stepping_and_blocks_equal_the_whole_sequence(rng, isa, reset, dtype, B):
    model = stack(reset, dtype)
    x = sequences(rng, 150, B, dtype)  # longer than what a block is cut into
    y = model(x)  # (T, B, O)
    stream = pygru.Stream(model, batch=B)
    np.testing.assert_array_equal(np.stack([stream.step(x_t) for x_t in x[:7]]), y[:7])
    np.testing.assert_array_equal(stream.process(x[7:]), y[7:])


def test_one_sequence_has_no_batch_axis(rng):
    model = stack()
    x = sequences(rng, 9, 3)
    stream = pygru.Stream(model)
    assert stream.step(x[0, 1]).shape == (2,)
    stream.reset()
    np.testing.assert_array_equal(stream.process(x[:, 1]), model(x)[:, 1])


def test_a_first_step_has_no_state_to_multiply(rng, isa):
    gru = pygru.GRU(3, 4, rng=0)
    gru.params["weight_hh_l0"][...] = np.inf
    x = sequences(rng, 3, 1)
    with np.errstate(invalid="ignore"):
        y, _ = gru(x)
    assert np.isfinite(y[0]).all()
    stream = pygru.Stream(gru)
    for _ in range(2):
        np.testing.assert_array_equal(np.stack([stream.step(x_t[0]) for x_t in x]), y[:, 0])
        stream.reset()


def test_last_step_is_every_step_of_a_stream(rng):
    model = pygru.Sequential(pygru.GRU(3, 4, rng=0), pygru.LastStep(), pygru.Linear(4, 1, rng=0))
    x = sequences(rng, 6, 1)
    stream = pygru.Stream(model)
    for t in range(6):
        np.testing.assert_array_equal(stream.step(x[t, 0]), model(x[: t + 1])[0])


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_the_state_can_be_taken_out_and_put_back(rng, batch):
    axis = () if batch is None else (batch,)
    x = rng.standard_normal((8, *axis, 3)).astype(np.float32)
    stream = pygru.Stream(stack(), batch=batch)
    stream.process(x[:4])
    state = stream.state
    assert [s.shape for s in state] == [(2, *axis, 17), (1, *axis, 8)]
    after = stream.process(x[4:])
    stream.state = state
    np.testing.assert_array_equal(stream.process(x[4:]), after)
    stream.reset()
    assert not any(s.any() for s in stream.state)
    stream.state = state
    np.testing.assert_array_equal(stream.process(x[4:]), after)


def test_a_state_that_does_not_fit_changes_nothing(rng):
    stream = pygru.Stream(stack())
    stream.process(sequences(rng, 4, 1)[:, 0])
    before = stream.state
    with pytest.raises(ValueError, match=r"one array per recurrent module = 2, got 1"):
        stream.state = before[:1]
    with pytest.raises(ValueError, match=r"state\[1\] must have shape \(L, H\) = \(1, 8\)"):
        stream.state = [before[0], before[0]]
    with pytest.raises(TypeError):
        stream.state = [before[0], "no state"]
    told = "^Stream.state: state must be a list of one array per recurrent module, got "
    for wrong, kind in (
        (None, "NoneType"),
        (0, "int"),
        ({}, "dict"),
        (np.array(1.0), r"ndarray of shape \(\)"),
    ):
        with pytest.raises(TypeError, match=f"{told}{kind}$"):
            stream.state = wrong
    for now, then in zip(stream.state, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_stream_tells_its_sizes_batch_and_dtype():
    gru = pygru.GRU(3, 4, num_layers=2, dtype=np.float64)
    assert repr(pygru.Stream(gru)) == (
        "Stream(GRU(3, 4, num_layers=2), batch=None, dtype='float64')"
    )
    model = pygru.Sequential(pygru.RNN(3, 8), pygru.Dropout(0.5), pygru.Linear(8, 2))
    assert repr(pygru.Stream(model, batch=5)) == (
        "Stream(RNN(3, 8), Linear(8, 2), batch=5, dtype='float32')"
    )


def test_streams_of_one_model_share_its_packed_weights_until_they_change():
    model = stack()
    first, second = pygru.Stream(model), pygru.Stream(model, batch=4)
    assert first._packed is second._packed
    model.params["2.bias"] += 1
    assert pygru.Stream(model)._packed is not first._packed


def test_a_stream_computes_with_the_instruction_set_it_was_made_with(rng, keep_isa):
    model, x, streams = stack(), sequences(rng, 9, 1), []
    for isa in _core.available_isas():
        _core.use_isa(isa)
        streams.append((pygru.Stream(model, batch=1), model(x)))  # beside those that are there
        for stream, y in streams:  # those go on with their own
            stream.reset()
            np.testing.assert_array_equal(stream.process(x), y)


def test_later_training_does_not_reach_a_stream(rng):
    model, x = stack(), sequences(rng, 1, 1)[0, 0]
    stream = pygru.Stream(model)
    before = stream.step(x)
    model.flat_params[:] = 0
    stream.reset()
    np.testing.assert_array_equal(stream.step(x), before)


def test_out_is_written_and_given_back(rng):
    stream, x = pygru.Stream(stack()), sequences(rng, 1, 1)[0, 0]
    out = np.empty(2, np.float32)
    assert stream.step(x, out=out) is out
    expected = out.copy()
    stream.reset()
    np.testing.assert_array_equal(stream.step(x.astype(np.float64)[::-1][::-1]), expected)


MASKED = np.ma.array(np.zeros(3, np.float32), mask=[False, True, False])


def test_a_mask_of_nothing_is_no_mask(rng):
    x = sequences(rng, 1, 1)[0, 0]
    for same in (np.ma.array(x), np.ma.array(x, mask=False)):
        np.testing.assert_array_equal(
            pygru.Stream(stack()).step(same), pygru.Stream(stack()).step(x)
        )


OUT = "^Stream.step: out must be a C-contiguous, aligned array of float32, got "


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.step(np.zeros(4)), ValueError, r"Stream.step: x must have shape \(3,\)"),
        (lambda s: s.step(np.zeros((1, 3))), ValueError, r"got \(1, 3\)"),
        (lambda s: s.step("abc"), TypeError, "real numbers"),
        (lambda s: s.step(MASKED), ValueError, "Stream.step: x must have no masked elements"),
        (lambda s: s.process(MASKED[None]), ValueError, "process: block must have no masked"),
        (lambda s: s.step([[1], [2, 3]]), ValueError, "must be one array, got nested sequences"),
        (lambda s: s.step(np.zeros(3, complex)), TypeError, "real numbers, got dtype complex128"),
        (lambda s: s.process(np.zeros(3)), ValueError, r"block must have shape \(T, 3\)"),
        (lambda s: s.process(np.float32(1)), ValueError, "time axis"),
        (lambda s: s.step(np.zeros(3), out=np.zeros(2)), TypeError, OUT + "an array of float64$"),
        (lambda s: s.step(np.zeros(3), [0, 0]), TypeError, OUT + "list$"),
        (
            lambda s: s.step(np.zeros(3), out=np.zeros(4, np.float32)[::2]),
            TypeError,
            OUT + "an array of float32 that is not C-contiguous$",
        ),
        (
            lambda s: s.process(np.zeros((1, 3)), out=np.zeros(3, np.float32)),
            ValueError,
            r"^Stream.process: out must have shape \(1, 2\), got \(3,\)$",
        ),
    ],
)
def test_bad_input_is_an_error_and_leaves_the_state(call, error, message):
    stream = pygru.Stream(stack())
    with pytest.raises(error, match=message):
        call(stream)
    assert not any(s.any() for s in stream.state)


def test_a_read_only_out_is_an_error():
    out = np.zeros(2, np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"^Stream.step: out must be writeable, got a read-only"):
        pygru.Stream(stack()).step(np.zeros(3), out=out)


@pytest.mark.parametrize("call", ["step", "process"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError, ValueError])
def test_what_an_input_raises_itself_is_passed_on(call, error):
    class Device:
        def __array__(self, dtype=None, copy=None):
            raise error("the sensor is offline")

    stream = pygru.Stream(stack())
    with pytest.raises(error, match="the sensor is offline"):
        getattr(stream, call)(Device())
    if error is not ValueError:  # which is also what NumPy raises of a list that is no array
        with pytest.raises(error, match="the sensor is offline"):
            getattr(stream, call)([Device()])
    assert not any(s.any() for s in stream.state)


@pytest.mark.parametrize("call", ["step", "process"])
@pytest.mark.parametrize("shift", [0, 3, -3])
def test_an_out_that_overlaps_the_input_is_refused(call, shift):
    stream = pygru.Stream(pygru.GRU(4, 4, rng=0))
    shape = (4,) if call == "step" else (5, 4)
    memory = np.ones(40, np.float32)
    x, out = (memory[k : k + np.prod(shape)].reshape(shape) for k in (10, 10 + shift))
    with pytest.raises(ValueError, match=rf"Stream.{call}: out must not overlap (x|block)"):
        getattr(stream, call)(x, out=out)
    assert (memory == 1).all()
    assert not stream.state[0].any()


def test_an_out_beside_the_input_is_written(rng):
    gru = pygru.GRU(4, 4, rng=0)
    memory = rng.standard_normal(8).astype(np.float32)
    expected, _ = gru(memory[None, :4])
    pygru.Stream(gru).step(memory[:4], out=memory[4:])
    np.testing.assert_array_equal(memory[4:], expected[0])


def test_a_stream_is_not_copied_or_batched_by_nonsense():
    stream = pygru.Stream(stack())
    with pytest.raises(TypeError, match="make another from the model"):
        copy.deepcopy(stream)
    for wrong in (0, -1, 2**40, 2**70):
        with pytest.raises(ValueError, match=f"Stream: batch must be an integer from 1 .*{wrong}"):
            pygru.Stream(stack(), batch=wrong)
        if 0 <= wrong < 2**63:
            with pytest.raises(ValueError, match=f"batch must be from 1 .* got {wrong}"):
                _core.Stream(pygru.Stream(stack())._packed.model, wrong)


def test_an_empty_block_is_an_empty_result():
    assert pygru.Stream(stack()).process(np.zeros((0, 3))).shape == (0, 2)


def test_two_threads_in_one_stream_are_told_so_or_wait_their_turn(rng):
    stream = pygru.Stream(pygru.GRU(3, 64, rng=0))
    block = rng.standard_normal((2000, 3)).astype(np.float32)
    told: list[str] = []

    def work() -> None:
        for _ in range(20):
            try:
                stream.process(block)
            except RuntimeError as error:
                told.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("two threads" in text for text in told)


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.step(np.zeros(3)),
        lambda stream: stream.reset(),
        lambda stream: stream.state,
        lambda stream: setattr(stream, "state", [np.zeros((1, 64))]),
        lambda stream: stream._set_states([np.zeros((1, 64), np.float32)]),
    ],
    ids=["step", "reset", "state", "set state", "_set_states"],
)
def test_while_a_thread_is_inside_a_stream_nobody_else_touches_it(use):
    stream = pygru.Stream(pygru.GRU(3, 64, rng=0))
    block = np.ones((20_000, 3), np.float32)
    expected = stream.process(block)
    for _ in range(20):  # until it happens while the thread is inside
        stream.reset()
        results: list[np.ndarray] = []
        thread = threading.Thread(target=lambda: results.append(stream.process(block)))  # noqa: B023
        thread.start()
        time.sleep(0.005)
        try:
            use(stream)
        except RuntimeError as error:
            told = str(error)
            thread.join()
            assert "used by two threads at once" in told
            np.testing.assert_array_equal(results[0], expected)
            break
        thread.join()
    else:
        pytest.fail("never refused")


COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static long count;
long allocations(void) { return count; }
void *malloc(size_t n) {
  static void *(*real)(size_t);
  if (!real) real = dlsym(RTLD_NEXT, "malloc");
  ++count;
  return real(n);
}
void *aligned_alloc(size_t a, size_t n) {
  static void *(*real)(size_t, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "aligned_alloc");
  ++count;
  return real(a, n);
}
"""

COUNTED = """
import ctypes, os
import numpy as np, pygru
counter = ctypes.CDLL(os.environ["LD_PRELOAD"])
counter.allocations.restype = ctypes.c_long
width = int(os.environ["WIDTH"])
model = pygru.Sequential(pygru.GRU(3, 64, 2, rng=0), pygru.Linear(64, width, rng=0))
x, out = np.zeros(3, np.float32), np.empty(width, np.float32)
block, outs = np.zeros((100, 3), np.float32), np.empty((100, width), np.float32)
stream = pygru.Stream(model)
def run():
    before = counter.allocations()
    for _ in range(1000):
        stream.step(x, out)
    stream.process(block, outs)
    return counter.allocations() - before
run()
print(min(run() for _ in range(5)))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs LD_PRELOAD and a C compiler"
)
@pytest.mark.parametrize(("threads", "width"), [(1, 2), (2, 20_000)])
def test_a_step_into_out_allocates_nothing(tmp_path, python, threads, width):
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    run = python(COUNTED, LD_PRELOAD=str(library), PYGRU_NUM_THREADS=str(threads), WIDTH=str(width))
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == 0
