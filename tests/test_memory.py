# SPDX-License-Identifier: MIT
"""What a training step needs beside its arrays stays small, whatever the shape."""

from __future__ import annotations

import sys

import pytest

MIB = 2**20

# Peak memory of a first forward and backward, less what they return; the bound, too.
CODE = """
import resource
import numpy as np, pygru
T, B, I, H = SHAPE
pygru.set_num_threads(2)
gru = pygru.GRU(I, H, reset="RESET", rng=0)
small = gru.forward(np.ones((2, 2, I), np.float32))
gru.backward(small[2], small[0])
x = np.ones((T, B, I), np.float32)
dy = np.ones((T, B, H), np.float32)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
y, h_n, tape = gru.forward(x)
gru.backward(tape, dy)
returned = 4 * (T * B * (H + 4 * H + I) + B * H)  # y and tape, dx, h_n
parameters = gru.flat_params.nbytes + gru.flat_grads.nbytes
print(peak() - before - returned, 2 * parameters)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the peak memory of a process in KiB")
@pytest.mark.parametrize("reset", ["after", "before"])
@pytest.mark.parametrize(
    "shape", [(4, 4096, 8, 64), (2000, 1, 8, 256), (20, 32, 64, 512), (2, 20_000, 4, 16)], ids=str
)
def test_a_training_step_needs_little_beside_its_arrays(shape, reset, succeed):
    code = CODE.replace("SHAPE", str(shape)).replace("RESET", reset)
    needed, parameters = map(int, succeed(code))
    assert needed <= parameters + 16 * MIB, f"{needed / MIB:.1f} MiB beyond what it returns"
