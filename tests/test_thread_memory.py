# SPDX-License-Identifier: MIT
"""Memory that runs out while threads are started: an error or a warning, and calls go on."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

# Each of the C++ side's allocations from now on can be the one that fails.
FAILING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static long left = -1;
void fail_after(long n) { left = n; }
static size_t next(size_t n) { return left >= 0 && left-- == 0 ? (size_t)-1 / 4 : n; }
void *_Znwm(size_t n) {
  static void *(*real)(size_t);
  if (!real) real = dlsym(RTLD_NEXT, "_Znwm");
  return real(next(n));
}
void *_ZnwmSt11align_val_t(size_t n, size_t alignment) {
  static void *(*real)(size_t, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "_ZnwmSt11align_val_t");
  return real(next(n), alignment);
}
"""

CODE = """
import ctypes, os, warnings
import numpy as np
import pygru
failing = ctypes.CDLL(os.environ["LD_PRELOAD"])
warnings.simplefilter("ignore")
pygru.set_num_threads(1)
gru = pygru.GRU(8, 64, rng=0)
x = np.random.default_rng(0).standard_normal((5, 32, 8)).astype(np.float32)
stream = pygru.Stream(gru, batch=64)
x, expected = (np.concatenate([a, a], axis=1) for a in (x, gru(x)[0]))  # more than was needed yet
def process():
    stream.reset()
    return stream.process(x)
for call in (process, lambda: gru(x)[0]):
    pygru.set_num_threads(2)
    failing.fail_after(ctypes.c_long(NUMBER))
    try:
        assert np.array_equal(call(), expected)
    except MemoryError:
        pass
    failing.fail_after(ctypes.c_long(-1))
    for threads in (1, 2):  # what was enough before is enough again
        pygru.set_num_threads(threads)
        assert np.array_equal(call(), expected)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs LD_PRELOAD and a C compiler"
)
def test_any_allocation_of_a_call_may_fail(tmp_path, succeed):
    source, library = tmp_path / "failing.c", tmp_path / "failing.so"
    source.write_text(FAILING)
    options = ["-shared", "-fPIC", "-Wl,--no-as-needed", "-ldl", "-lstdc++"]
    subprocess.run(["cc", str(source), "-o", str(library), *options], check=True)
    for number in range(24):
        succeed(CODE.replace("NUMBER", str(number)), LD_PRELOAD=str(library))
