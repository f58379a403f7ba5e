# SPDX-License-Identifier: MIT
"""Threads that share a module: no gradient is lost, and a tape serves one of them."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import threading

import numpy as np
import pytest

import pygru
from pygru.tape import check_tape

THREADS, TIMES = 3, 25


def at_once(work):
    """Run work() in several threads, started together; what went wrong in them is raised here."""
    start, failures = threading.Barrier(THREADS), []

    def run():
        try:
            start.wait()
            work()
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=run) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


def problems():
    """Each kind of module that has gradients, with an input."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 8)).astype(np.float32)
    yield "GRU", pygru.GRU(8, 128, rng=0), x
    yield "two directions", pygru.GRU(8, 32, 2, bidirectional=True, rng=0), x
    yield "cell", pygru.GRUCell(8, 128, rng=0), x[0]
    yield "Linear", pygru.Linear(8, 2000, rng=0), x
    yield "LayerNorm", pygru.LayerNorm(8000), np.tile(x, 1000)
    yield "Embedding", pygru.Embedding(4, 20_000, rng=0), np.array([0, 1, 2, 3])
    yield "Sequential", pygru.Sequential(pygru.GRU(8, 64, rng=0), pygru.Linear(64, 99, rng=0)), x


@pytest.mark.parametrize("problem", list(problems()), ids=lambda p: p[0])
def test_threads_that_share_a_module_lose_no_gradient(problem, keep_threads):
    pygru.set_num_threads(1)
    _, module, x = problem

    def work():
        for _ in range(TIMES):
            y, *_, tape = module.forward(x)
            module.backward(tape, np.ones_like(y))

    for _ in range(THREADS):
        work()
    expected = module.flat_grads.copy()  # each turn adds the same, so the order changes no bit
    module.zero_grad()
    at_once(work)
    np.testing.assert_array_equal(module.flat_grads, expected)


@pytest.mark.parametrize("problem", list(problems()), ids=lambda p: p[0])
def test_backward_waits_for_whoever_adds(problem):
    _, module, x = problem
    y, *_, tape = module.forward(x)
    held = module[-1] if isinstance(module, pygru.Sequential) else module
    worker = threading.Thread(target=module.backward, args=(tape, np.ones_like(y)))
    with held._adding:
        worker.start()
        worker.join(0.05)
        assert not held.flat_grads.any()
    worker.join()
    assert held.flat_grads.any()


def test_a_tape_serves_one_of_the_threads_that_share_it():
    linear = pygru.Linear(2, 1, bias=False, rng=0)
    tapes = [linear.forward(np.ones(2))[1] for _ in range(2000)]
    told, interval = [], sys.getswitchinterval()

    def work():
        for tape in tapes:
            try:
                linear.backward(tape, np.ones(1))
            except RuntimeError as error:
                told.append(str(error))

    try:
        sys.setswitchinterval(1e-6)
        at_once(work)
    finally:
        sys.setswitchinterval(interval)
    assert len(told) == (THREADS - 1) * len(tapes)
    assert all("Linear.backward: tape was already used by a backward" in text for text in told)
    np.testing.assert_array_equal(linear.flat_grads, len(tapes))


def test_a_spent_tape_is_refused_also_by_the_thread_that_had_checked_it():
    linear = pygru.Linear(2, 1, rng=0)
    _, tape = linear.forward(np.ones(2))
    check_tape(linear, tape)
    tape.spend()
    with pytest.raises(RuntimeError, match="tape was already used by a backward"):
        tape.spend()


def test_a_module_that_has_run_backward_is_copied_and_pickled():
    linear = pygru.Linear(2, 1, rng=0)
    for one in (linear, copy.deepcopy(linear), pickle.loads(pickle.dumps(linear))):
        _, tape = one.forward(np.ones(2))
        one.backward(tape, np.ones(1))
        np.testing.assert_array_equal(one.grads["weight"], [[1, 1]])
        one.zero_grad()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_a_thread_adds_leaves_the_child_working(succeed):
    succeed("""
import os, threading, warnings
import numpy as np
import pygru
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
gru, x = pygru.GRU(8, 256, rng=0), np.ones((40, 8, 8), np.float32)
def work():
    y, h_n, tape = gru.forward(x)
    gru.backward(tape, y)
done = threading.Event()
def go_on():
    while not done.is_set():
        work()
worker = threading.Thread(target=go_on)
worker.start()
for _ in range(20):
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
done.set()
worker.join()
""")
