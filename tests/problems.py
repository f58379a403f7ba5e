# SPDX-License-Identifier: MIT
"""Random problems of one recurrent layer in one direction, and how the kernels solve them.

Every array that a kernel is given stands in a frame of NaN: what it reads past an edge turns its
results into NaN, what it writes past an edge shows in the frame.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pygru import _core, stack
from pygru.reference import CELLS

Array = npt.NDArray[Any]

GRADIENTS = ("dx", "dh_0", "dW", "dU", "db_x", "db_h")
RESULTS = ("y", "h_n", *GRADIENTS)


class Options(NamedTuple):
    """What a call may do without, or do the other way round."""

    reverse: bool = False
    lengths: bool = False
    initial: bool = True
    bias: bool = True
    dy: bool = True
    dh_n: bool = True
    input_major: bool = True  # how W and U lie in memory

    def __str__(self) -> str:
        return ", ".join(f"{k}={v:d}" for k, v in self._asdict().items())


def _pairwise() -> list[Options]:
    """Return eight rows in which any two options take all four pairs of values."""
    rows = []
    for i in range(8):
        a, b, c = bool(i & 1), bool(i & 2), bool(i & 4)
        rows.append(Options(a, b, c, a ^ b, a ^ c, b ^ c, a ^ b ^ c))
    return rows


OPTIONS = _pairwise()


class Problem(NamedTuple):
    """The arguments of one forward and one backward pass."""

    cell: str
    x: Array  # (T, B, I)
    lengths: npt.NDArray[np.int64] | None  # (B,)
    reverse: bool
    W: Array  # (G*H, I)
    U: Array  # (G*H, H)
    b_x: Array | None  # (G*H,)
    b_h: Array | None  # (G*H,)
    h_0: Array | None  # (B, H)
    dy: Array | None  # (T, B, H)
    dh_n: Array | None  # (B, H)

    def astype(self, dtype: npt.DTypeLike) -> Problem:
        """Return the same problem in another precision."""
        return self._replace(**{
            name: array.astype(dtype)
            for name, array in self._asdict().items()
            if isinstance(array, np.ndarray) and name != "lengths"
        })  # fmt: skip

    def only(self, b: int) -> Problem:
        """Return the problem of sequence b alone."""
        one = slice(b, b + 1)
        cuts = {"x": (slice(None), one), "dy": (slice(None), one)}
        cuts |= dict.fromkeys(("lengths", "h_0", "dh_n"), (one,))
        arrays = {name: getattr(self, name) for name in cuts}
        return self._replace(**{
            name: array[cuts[name]].copy() for name, array in arrays.items() if array is not None
        })  # fmt: skip


@cache
def draw(
    cell: str,
    T: int,
    B: int,
    I: int,  # noqa: E741
    H: int,
    options: Options = Options(),  # noqa: B008  immutable
    dtype: npt.DTypeLike = np.float32,
) -> Problem:
    """Return a random problem, the same one for the same arguments, of numbers float32 can hold.

    Its arrays are read-only: `Problem._replace` them.
    """
    rng = np.random.default_rng([T, B, I, H])
    G = CELLS[cell].gates

    def some(wanted: bool, *shape: int, scale: float = 1.0) -> Any:
        return (scale * rng.standard_normal(shape)).astype(np.float32) if wanted else None

    order = "F" if options.input_major else "C"
    problem = Problem(
        cell=cell,
        x=some(True, T, B, I),
        lengths=rng.integers(0, T + 1, B) if options.lengths else None,
        reverse=options.reverse,
        W=np.asarray(some(True, G * H, I, scale=(I + H) ** -0.5), order=order),
        U=np.asarray(some(True, G * H, H, scale=(I + H) ** -0.5), order=order),
        b_x=some(options.bias, G * H, scale=0.5),
        b_h=some(options.bias, G * H, scale=0.5),
        h_0=some(options.initial, B, H, scale=0.5),
        dy=some(options.dy, T, B, H),
        dh_n=some(options.dh_n, B, H),
    ).astype(dtype)
    for value in problem:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return problem


def reference(p: Problem) -> dict[str, Array]:
    """Return `RESULTS` of a problem from pygru.reference."""
    cell, ends = CELLS[p.cell], {"lengths": p.lengths, "reverse": p.reverse}
    y, h_n, tape = cell.forward(p.x, p.h_0, p.W, p.U, p.b_x, p.b_h, **ends)
    gradients = cell.backward(p.x, p.h_0, p.W, p.U, y, tape, p.dy, p.dh_n, **ends)
    return dict(zip(RESULTS, (y, h_n, *gradients), strict=True))


@cache
def solve_by_reference(*arguments: Any) -> dict[str, Array]:
    """Return `RESULTS` of `draw(*arguments)` from pygru.reference, in float64."""
    return reference(draw(*arguments, dtype=np.float64))


class Frames:
    """Hands out arrays in frames of NaN, and looks at the frames afterwards."""

    def __init__(self) -> None:
        self._frames: list[tuple[Array, Array]] = []

    def new(self, shape: tuple[int, ...], dtype: Any, fill: float = np.nan, whole: int = 0) -> Any:
        """Return an array full of ``fill``; the last ``whole`` axes have no frame."""
        edges = len(shape) - whole
        outer = np.full([n + 2 * (a < edges) for a, n in enumerate(shape)], np.nan, dtype)
        inner = outer[(slice(1, -1),) * edges]
        self._frames.append((outer, inner))
        inner[...] = fill
        return inner

    def copy(self, array: Array | None) -> Any:
        """Return a read-only copy of an array, in the same memory order."""
        if array is None:
            return None
        turned = array.flags.fnc
        inner = self.new(array.T.shape if turned else array.shape, array.dtype)
        inner = inner.T if turned else inner
        inner[...] = array
        inner.flags.writeable = False
        return inner

    def check(self) -> None:
        """Assert that nothing was written into a frame."""
        for outer, inner in self._frames:
            holes = np.isnan(inner).sum() + outer.size - inner.size
            assert np.isnan(outer).sum() == holes, "written past an edge"


def run_forward(p: Problem, with_tape: bool = True) -> tuple[Any, Any, Any]:
    """Return y, h_n and tape of one call of the kernels."""
    (T, B, _), H, dtype = p.x.shape, p.U.shape[1], p.x.dtype
    frames = Frames()
    y, h_n = frames.new((T, B, H), dtype), frames.new((B, H), dtype)
    S = stack.CELLS[p.cell].slots
    tape = frames.new((T, B, S, H), dtype, 0.0, whole=2) if with_tape else None
    x, W, U, b_x, b_h, h_0 = map(frames.copy, (p.x, p.W, p.U, p.b_x, p.b_h, p.h_0))
    _core.forward(p.cell, x, p.lengths, [(p.reverse, W, U, b_x, b_h, h_0, y, h_n, tape)])
    frames.check()
    return y, h_n, tape


def run_backward(p: Problem, y: Array, tape: Array, before: float = 0.0) -> dict[str, Array]:
    """Return `GRADIENTS` of one call; those of the weights are added to ``before``."""
    (T, B, I), (rows, H), dtype = p.x.shape, p.U.shape, p.x.dtype  # noqa: E741
    frames = Frames()
    dx, dh_0 = frames.new((T, B, I), dtype), frames.new((B, H), dtype)
    dW, dU = frames.new((I, rows), dtype, before).T, frames.new((H, rows), dtype, before).T
    db_x, db_h = (frames.new((rows,), dtype, before) for _ in range(2))
    x, h_0, W, U, dy, dh_n = map(frames.copy, (p.x, p.h_0, p.W, p.U, p.dy, p.dh_n))
    y, gates = frames.copy(y), tape.copy()  # the kernels overwrite a tape
    outputs = (dx, dh_0, dW, dU, db_x, db_h)
    run = (p.reverse, W, U, h_0, y, gates, dy, dh_n, *outputs)
    _core.backward(p.cell, x, p.lengths, [run])
    frames.check()
    return dict(zip(GRADIENTS, outputs, strict=True))


def solve(p: Problem) -> dict[str, Array]:
    """Return `RESULTS` of a problem from the kernels."""
    y, h_n, tape = run_forward(p)
    return {"y": y, "h_n": h_n, **run_backward(p, y, tape)}


def assert_same_bits(actual: dict[str, Array], expected: dict[str, Array], what: str = "") -> None:
    """Compare every array that both have, bit for bit."""
    for name in actual.keys() & expected.keys():
        a, b = (np.ascontiguousarray(r[name]) for r in (actual, expected))
        assert a.dtype == b.dtype and a.shape == b.shape, f"{name} {what}"
        assert a.tobytes() == b.tobytes(), f"{name} differs {what}"
