# SPDX-License-Identifier: MIT
"""Threads: no more than are needed, and nothing gets stuck whatever happens around a call."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
import threading

import pytest
from problems import OPTIONS, Options, assert_same_bits, draw, solve

import pygru

# A layer large enough for four threads, and the bits of all it computes.
LAYER = """
import os, pathlib, sys, time
import numpy as np
import pygru

def layer():
    gru = pygru.GRU(8, 64, rng=0)
    x = np.random.default_rng(0).standard_normal((5, 32, 8)).astype(np.float32)
    def bits():
        gru.zero_grad()
        y, h_n, tape = gru.forward(x)
        dx, _ = gru.backward(tape, y, h_n)
        return y.tobytes() + dx.tobytes() + gru.flat_grads.tobytes()
    return bits

def threads():  # of pygru
    return len(os.listdir("/proc/self/task")) - others

others = 0
others = threads() - 1  # NumPy has some
pygru.set_num_threads(1)
bits = layer()
expected = bits()
"""

# Leaves memory for everything but the stack of a thread.
LIMIT = """
import resource, warnings
before = resource.getrlimit(resource.RLIMIT_AS)
def limit():
    with open("/proc/self/statm") as sizes:
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, before[1]))
def unlimit():
    resource.setrlimit(resource.RLIMIT_AS, before)
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="knows how glibc makes a thread's stack"
)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def script(succeed):
    """Run pieces of code after `LAYER`; they must succeed."""
    return lambda *code: succeed(LAYER + "".join(map(textwrap.dedent, code)))


@linux
def test_as_many_threads_run_as_are_asked_for_and_only_when_needed(script):
    script("""
        both = pygru.GRU(8, 64, bidirectional=True)
        for n, before, after in ((2, 1, 2), (4, 2, 4), (3, 4, 4)):
            pygru.set_num_threads(n)
            [g(np.zeros((4, 4, 8))) for g in (pygru.GRU(8, 64), both)]  # too small to divide
            assert threads() == before, (n, threads())
            assert bits() == expected
            both(np.zeros((5, 32, 8)))
            assert threads() == after, (n, threads())
    """)


def test_several_python_threads_at_once_get_the_right_answers(threads):
    cells = ("gru_after", "gru_before", "rnn_tanh", "gru_after")
    options = (Options(), OPTIONS[3], Options(lengths=True), Options(reverse=True))
    problems = [draw(c, 5, 32, 8, 64, o) for c, o in zip(cells, options, strict=True)]
    expected = [solve(p) for p in problems]
    start, failures = threading.Barrier(len(problems)), []

    def work(i):
        try:
            start.wait()
            for _ in range(10):
                assert_same_bits(solve(problems[i]), expected[i], f"in thread {i}")
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(problems))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not failures, failures[0]


def test_changing_settings_during_calls_changes_no_answer(keep_threads, keep_isa):
    p = draw("gru_after", 5, 32, 8, 64)
    expected = solve(p)
    done, failures = threading.Event(), []

    def work():
        try:
            while not done.is_set():
                assert_same_bits(solve(p), expected)
        except BaseException as failure:
            failures.append(failure)

    worker = threading.Thread(target=work)
    worker.start()
    for n in range(300):
        pygru.set_num_threads(1 + n % 5)
    done.set()
    worker.join(60)
    assert not worker.is_alive()
    assert not failures, failures[0]


def test_changing_the_number_of_threads_does_not_disturb_a_running_stream(script):
    script("""
        import threading
        stream = pygru.Stream(pygru.Sequential(pygru.GRU(24, 320, rng=0)), batch=3)
        block = np.ones((400, 3, 24), np.float32)
        right = stream.process(block).tobytes()
        for _ in range(5):
            stream.reset()
            results = []
            work = lambda: results.append(stream.process(block).tobytes())
            pygru.set_num_threads(1)
            worker = threading.Thread(target=work)
            worker.start()
            while worker.is_alive():
                for n in (8, 1, 3):
                    pygru.set_num_threads(n)
            assert results == [right]
    """)


@forks
def test_after_a_fork_parent_and_child_go_on_with_threads(script):
    script("""
        pygru.set_num_threads(2)
        assert bits() == expected
        for _ in range(3):
            child = os.fork()
            if not child:
                right = all(bits() == expected for _ in range(3))
                grandchild = os.fork()
                if not grandchild:
                    os._exit(bits() != expected)
                right = right and bits() == expected
                os._exit(not right or os.waitpid(grandchild, 0)[1] != 0)
            assert bits() == expected
            assert os.waitpid(child, 0)[1] == 0
        assert pygru.get_num_threads() == 2
    """)


@forks
def test_a_fork_in_the_middle_of_calls_leaves_parent_and_child_working(script):
    script("""
        import threading
        pygru.set_num_threads(2)
        done, wrong = threading.Event(), []
        def work():
            own = layer()
            while not done.is_set():
                if own() != expected:
                    wrong.append(1)
        workers = [threading.Thread(target=work) for _ in range(2)]
        for worker in workers:
            worker.start()
        for _ in range(20):
            child = os.fork()
            if not child:
                os._exit(not all(bits() == expected for _ in range(3)))
            assert bits() == expected
            assert os.waitpid(child, 0)[1] == 0
        done.set()
        for worker in workers:
            worker.join()
        assert not wrong
    """)


@glibc
def test_a_fork_without_memory_leaves_a_child(script):
    script(
        LIMIT,
        """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        limit()
        for size in (2**16, 2**12, *range(2048, 256, -16)):
            while libc.malloc(size):
                pass
        child = libc.fork()  # without what Python does then, which takes memory
        if not child:
            os._exit(0)
        unlimit()
        assert os.waitpid(child, 0)[1] == 0
        """,
    )


@forks
def test_multiprocessing_with_fork_works(script):
    script("""
        import multiprocessing
        pygru.set_num_threads(2)
        assert bits() == expected
        def call(_):
            return bits() == expected
        with multiprocessing.get_context("fork").Pool(2) as pool:
            results = pool.map_async(call, range(8)).get(30)
        assert results == [True] * 8
        assert bits() == expected
    """)


def test_idle_threads_are_asleep(script):
    script("""
        pygru.set_num_threads(4)
        def spent_while_idle():
            assert bits() == expected
            time.sleep(0.01)
            before = time.process_time()
            time.sleep(0.2)
            return time.process_time() - before
        assert min(spent_while_idle() for _ in range(3)) < 0.01
    """)


@linux
def test_a_call_wakes_only_the_members_of_its_team(script):
    script("""
        pygru.set_num_threads(4)
        before = set(os.listdir("/proc/self/task"))
        assert bits() == expected
        others = set(os.listdir("/proc/self/task")) - before
        assert len(others) == 3
        def switches():
            time.sleep(0.02)  # until they sleep
            paths = {n: pathlib.Path(f"/proc/self/task/{n}/status") for n in others}
            return {n: paths[n].read_text().split("ctxt_switches")[1:] for n in others}
        pygru.set_num_threads(2)
        for _ in range(20):  # again where calls ran alone, because the machine is busy
            asleep, before = switches(), None
            while asleep != before:
                asleep, before = switches(), asleep
            for _ in range(10):
                assert bits() == expected
                time.sleep(0.001)
            now = switches()
            left_alone = sum(now[thread] == asleep[thread] for thread in others)
            if left_alone < 3:
                break
        assert left_alone == 2, (asleep, now)
    """)


@linux
def test_a_team_that_shares_one_cpu_is_not_many_times_slower_than_one_thread(script):
    script("""
        gru = pygru.GRU(64, 256, rng=0)
        x = np.ones((100, 1, 64), np.float32)  # units divided: a barrier in every step
        def least():
            seconds = []
            for _ in range(20):
                start = time.perf_counter()
                gru(x)
                seconds.append(time.perf_counter() - start)
            return min(seconds)
        cpu = {min(os.sched_getaffinity(0))}
        os.sched_setaffinity(0, cpu)
        alone = least()
        pygru.set_num_threads(2)
        gru(x)
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cpu)
        together = least()
        assert together < 6 * alone, (together, alone)
    """)


@glibc
def test_a_thread_that_cannot_be_started_costs_one_warning(script):
    script(
        LIMIT,
        """
        pygru.set_num_threads(4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            limit()
            right = [bits() == expected for _ in range(3)]
            unlimit()
        assert right == [True] * 3
        told = ["pygru: could not start another thread; using 1 from now on"]
        assert [str(one.message) for one in caught] == told, caught
        assert caught[0].category is RuntimeWarning
        assert pygru.get_num_threads() == threads() == 1
        pygru.set_num_threads(4)
        assert bits() == expected
        assert threads() == 4
    """,
    )


@glibc
def test_a_warning_made_an_error_leaves_everything_working(script):
    script(
        LIMIT,
        """
        pygru.set_num_threads(2)
        warnings.simplefilter("error")
        limit()
        try:
            bits()
        except RuntimeWarning:
            pass
        else:
            raise AssertionError("no warning")
        assert bits() == expected
        unlimit()
        pygru.set_num_threads(2)
        assert bits() == expected
    """,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs interval timers")
def test_an_interrupt_between_calls_leaves_no_thread_stuck(script):
    script("""
        import signal
        pygru.set_num_threads(2)
        armed = False
        def interrupt(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        for _ in range(30):
            try:
                armed = True
                while True:
                    bits()
            except KeyboardInterrupt:
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert bits() == expected
    """)


@linux
def test_a_signal_that_the_program_blocks_waits_for_the_program(script):
    script("""
        import signal
        before = set(os.listdir("/proc/self/task"))
        pygru.set_num_threads(4)
        bits()
        started = set(os.listdir("/proc/self/task")) - before
        assert len(started) == 3
        for thread in started:
            with open(f"/proc/self/task/{thread}/status") as status:
                blocked = [line for line in status if line.startswith("SigBlk")][0].split()[1]
            assert int(blocked, 16) >> signal.SIGTERM - 1 & 1
    """)


def test_a_process_ends_while_its_threads_wait(script):
    script("""
        pygru.set_num_threads(4)
        assert bits() == expected
    """)


def test_a_process_ends_while_a_daemon_thread_is_inside_a_call(script):
    script("""
        import threading
        def work():
            own = layer()
            while True:
                own()
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        assert bits() == expected
    """)
