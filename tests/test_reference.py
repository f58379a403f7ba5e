# SPDX-License-Identifier: MIT
"""Finite differences prove the NumPy reference: every cell, every gradient, every awkward shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close, finite_difference

from pygru.reference import CELLS

# (T, B, I, H)
SHAPES = [(1, 1, 1, 1), (7, 1, 3, 3), (1, 5, 3, 8), (7, 5, 1, 3), (2, 1, 3, 17)]


def make_problem(
    cell: str,
    T: int,
    B: int,
    I: int,  # noqa: E741
    H: int,
    *,
    bias: bool = True,
    initial: bool = True,
    lengths: bool = False,
    dtype: Any = np.float64,
) -> dict[str, Any]:
    """Random arguments for the forward function of one row of CELLS."""
    rng = np.random.default_rng([T, B, I, H])
    G = CELLS[cell].gates
    scale = 1 / np.sqrt(H)

    def draw(*shape: int) -> Any:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    return {
        "x": rng.standard_normal((T, B, I)).astype(dtype),
        "h_0": draw(B, H) if initial else None,
        "W": draw(G * H, I),
        "U": draw(G * H, H),
        "b_x": draw(G * H) if bias else None,
        "b_h": draw(G * H) if bias else None,
        "lengths": rng.integers(0, T + 1, B) if lengths else None,
    }


def forward(cell: str, problem: dict[str, Any], reverse: bool = False) -> Any:
    """Call the cell's forward function with a problem's arrays."""
    return CELLS[cell].forward(**problem, reverse=reverse)


def backward(cell: str, problem: dict[str, Any], dy: Any, dh_n: Any, reverse: bool = False) -> Any:
    """Return the gradients by name, in a dict that can be compared with finite differences."""
    y, _, tape = forward(cell, problem, reverse)
    x, h_0, W, U = (problem[name] for name in ("x", "h_0", "W", "U"))
    gradients = CELLS[cell].backward(
        x, h_0, W, U, y, tape, dy, dh_n, lengths=problem["lengths"], reverse=reverse
    )
    return dict(zip(("x", "h_0", "W", "U", "b_x", "b_h"), gradients, strict=True))


def check_gradients(cell: str, problem: dict[str, Any], reverse: bool, arrives: str) -> None:
    """Compare every gradient with central differences of sum(dy * y) + sum(dh_n * h_n)."""
    rng = np.random.default_rng(0)
    y, h_n, _ = forward(cell, problem, reverse)
    dy = rng.standard_normal(y.shape) if "dy" in arrives else None
    dh_n = rng.standard_normal(h_n.shape) if "dh_n" in arrives else None

    def loss() -> float:
        y, h_n, _ = forward(cell, problem, reverse)
        total = 0.0 if dy is None else np.sum(dy * y)
        return float(total + (0.0 if dh_n is None else np.sum(dh_n * h_n)))

    for name, gradient in backward(cell, problem, dy, dh_n, reverse).items():
        if problem[name] is not None:
            expected = finite_difference(loss, problem[name])
            assert_close(gradient, expected, "finite differences", f"{cell}: d{name}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_the_finite_differences(cell: str, shape: tuple[int, ...]) -> None:
    check_gradients(cell, make_problem(cell, *shape), False, "dy, dh_n")


@pytest.mark.parametrize("arrives", ["dy", "dh_n"])
@pytest.mark.parametrize("initial", [False, True], ids=["zero", "h_0"])
@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reverse"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_with_everything_optional_present_or_absent(
    cell: str, reverse: bool, lengths: bool, bias: bool, initial: bool, arrives: str
) -> None:
    problem = make_problem(cell, 3, 3, 2, 2, bias=bias, initial=initial, lengths=lengths)
    check_gradients(cell, problem, reverse, arrives)


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reverse"])
@pytest.mark.parametrize("cell", CELLS)
def test_each_sequence_is_computed_as_if_it_were_alone(cell: str, reverse: bool) -> None:
    problem = make_problem(cell, 7, 5, 3, 8)
    problem["lengths"] = np.array([7, 0, 1, 4, 6])
    y, h_n, _ = forward(cell, problem, reverse)
    for b, length in enumerate(problem["lengths"]):
        x, h_0 = problem["x"][:length, b : b + 1], problem["h_0"][b : b + 1]
        y_b, h_nb, _ = forward(cell, problem | {"x": x, "h_0": h_0, "lengths": None}, reverse)
        assert_close(y[:length, b], y_b[:, 0], "rounding", "y")
        assert_close(h_n[b], h_nb[0], "rounding", "h_n")
        assert not y[length:, b].any()


@pytest.mark.parametrize("cell", CELLS)
def test_reverse_is_the_flipped_sequence(cell: str) -> None:
    problem = make_problem(cell, 7, 5, 3, 8)
    y, h_n, _ = forward(cell, problem, reverse=True)
    y_flipped, h_n_flipped, _ = forward(cell, problem | {"x": problem["x"][::-1]})
    assert_close(y, y_flipped[::-1], "rounding", "y")
    assert_close(h_n, h_n_flipped, "rounding", "h_n")


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reverse"])
@pytest.mark.parametrize("cell", CELLS)
def test_nothing_flows_through_padding_not_even_nan(cell: str, reverse: bool) -> None:
    problem = make_problem(cell, 7, 3, 3, 8)
    problem["lengths"] = np.array([4, 0, 7])
    rng = np.random.default_rng(0)
    dy, dh_n = rng.standard_normal((7, 3, 8)), rng.standard_normal((3, 8))
    clean_y, clean_h_n, _ = forward(cell, problem, reverse)
    clean = backward(cell, problem, dy, dh_n, reverse)

    padding = np.arange(7)[:, None] >= problem["lengths"]
    problem["x"][padding] = np.nan
    dy[padding] = np.nan
    y, h_n, _ = forward(cell, problem, reverse)
    assert np.array_equal(y, clean_y)
    assert np.array_equal(h_n, clean_h_n)
    for name, gradient in backward(cell, problem, dy, dh_n, reverse).items():
        assert np.array_equal(gradient, clean[name]), name
    assert np.array_equal(clean["h_0"][1], dh_n[1])  # an empty sequence hands its gradient through


@pytest.mark.parametrize("T, B", [(0, 5), (7, 0), (0, 0)])
@pytest.mark.parametrize("cell", CELLS)
def test_zero_steps_and_zero_sequences_give_empty_results(cell: str, T: int, B: int) -> None:
    problem = make_problem(cell, T, B, 3, 8)
    y, h_n, _ = forward(cell, problem)
    assert y.shape == (T, B, 8)
    assert np.array_equal(h_n, problem["h_0"])
    gradients = backward(cell, problem, np.ones((T, B, 8)), np.ones((B, 8)))
    assert np.array_equal(gradients["h_0"], np.ones((B, 8)))
    assert gradients["x"].shape == (T, B, 3)
    for name in ("W", "U", "b_x", "b_h"):
        assert gradients[name].shape == problem[name].shape
        assert not gradients[name].any()


@pytest.mark.parametrize("lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_dtype_given_is_the_dtype_computed_in(cell: str, lengths: bool) -> None:
    problem = make_problem(cell, 7, 5, 3, 8, lengths=lengths, dtype=np.float32)
    y, h_n, tape = forward(cell, problem)
    assert y.dtype == h_n.dtype == np.float32
    assert tape is None or tape.dtype == np.float32
    for name, gradient in backward(cell, problem, y, h_n).items():
        assert gradient.dtype == np.float32, name


@pytest.mark.parametrize("cell", CELLS)
def test_arguments_are_not_written_to(cell: str) -> None:
    problem = make_problem(cell, 7, 5, 3, 8, lengths=True)
    for array in problem.values():
        array.flags.writeable = False
    y, h_n, _ = forward(cell, problem)
    dy, dh_n = np.ones_like(y), np.ones_like(h_n)
    dy.flags.writeable = dh_n.flags.writeable = False
    backward(cell, problem, dy, dh_n)


def test_the_two_resets_are_two_functions() -> None:
    problem = make_problem("gru_after", 7, 5, 3, 8)
    after, before = (forward(cell, problem)[0] for cell in ("gru_after", "gru_before"))
    assert np.abs(after - before).max() > 1e-2
