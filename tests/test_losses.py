# SPDX-License-Identifier: MIT
"""Every loss: its gradient is its finite difference, lengths mask it, misfits are named."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close, finite_difference

from pygru import losses

LOSSES = {**losses.LOSSES, "huber(0.3)": partial(losses.huber, delta=0.3)}


def make_problem(name: str, shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Any]:
    """Random predictions of a shape, and a target that fits the loss."""
    rng = np.random.default_rng(seed)
    y = 2 * rng.standard_normal(shape)
    if name == "cross_entropy":
        return y, rng.integers(0, shape[-1], shape[:-1])
    return y, rng.random(shape)


@pytest.mark.parametrize("lengths", [None, [7, 0, 1, 5, 3]], ids=["full", "lengths"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_finite_difference(name: str, lengths: list[int] | None) -> None:
    loss = LOSSES[name]
    y, target = make_problem(name, (7, 5, 3))
    _, dy = loss(y, target, lengths)
    expected = finite_difference(lambda: loss(y, target, lengths)[0], y)
    assert_close(dy, expected, "finite differences", "dy")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_runs_over_valid_elements_and_ignores_padding(
    name: str, batch_first: bool
) -> None:
    loss = LOSSES[name]
    y, target = make_problem(name, (7, 5, 3))
    lengths = np.array([7, 0, 1, 5, 3])
    valid = np.arange(7)[:, None] < lengths  # (T, B)
    expected, _ = loss(y[valid], target[valid])

    y[~valid] = np.nan
    target[~valid] = -1  # out of range, too, for cross_entropy
    if batch_first:
        y, target, valid = y.swapaxes(0, 1), target.swapaxes(0, 1), valid.T
    value, dy = loss(y, target, lengths, batch_first=batch_first)
    assert_close(value, expected, "rounding")
    assert np.isfinite(dy).all()
    assert not dy[~valid].any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_nothing_in_the_padding_is_computed_with(name: str, dtype: Any) -> None:
    y, target = make_problem(name, (3, 2, 4))
    y, target = y.astype(dtype), target.astype(int if name == "cross_entropy" else dtype)
    expected, _ = LOSSES[name](y, target, [3, 1])
    largest = np.finfo(dtype).max
    for of_y, of_target in ((np.inf, np.inf), (-largest, largest)):
        y[1:, 1] = of_y
        if name != "cross_entropy":
            target[1:, 1] = of_target
        value, dy = LOSSES[name](y, target, [3, 1])
        assert value == expected
        assert not dy[1:, 1].any()
    if name != "cross_entropy":
        wide = target.astype(np.float64)
        wide[1:, 1] = 1e300
        LOSSES[name](y, wide, [3, 1])


@pytest.mark.parametrize("name", LOSSES)
def test_float32_stays_float32_and_agrees_with_float64(name: str) -> None:
    y, target = make_problem(name, (5, 3))
    value, dy = LOSSES[name](y.astype(np.float32), target)  # whatever the target's precision
    expected, expected_dy = LOSSES[name](y, target)
    assert isinstance(value, float)
    assert dy.dtype == np.float32
    assert_close(np.float32(value), expected, "rounding")
    assert_close(dy, expected_dy, "rounding")


@pytest.mark.parametrize("name", ["mae", "mse", "huber"])
def test_the_order_of_elements_in_memory_does_not_matter(name: str) -> None:
    y, target = make_problem(name, (7, 5, 3))
    expected, expected_dy = LOSSES[name](y, target)
    moved = [a.transpose(1, 2, 0).copy().transpose(2, 0, 1) for a in (y, target)]
    backwards = y[:, ::-1].copy()[:, ::-1]
    for theirs in (moved, (moved[0], target), (backwards, target)):
        value, dy = LOSSES[name](*theirs)
        assert_close(value, expected, "rounding")
        np.testing.assert_array_equal(dy, expected_dy)


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, ">f4"])
@pytest.mark.parametrize("name", ["mae", "mse", "huber"])
def test_precisions_that_kernels_do_not_know_stay(name: str, dtype: Any) -> None:
    y, target = (a.astype(dtype) for a in make_problem(name, (5, 3)))
    value, dy = LOSSES[name](y, target)
    expected, expected_dy = LOSSES[name](y.astype(np.float64), target.astype(np.float64))
    assert dy.dtype == (y - target).dtype
    assert value == pytest.approx(expected, rel=1e-2)
    np.testing.assert_allclose(dy.astype(np.float64), expected_dy, rtol=1e-2, atol=1e-3)


def test_a_gradient_of_mse_overflows_no_sooner_than_it_has_to() -> None:
    y = np.array([2e38, 0, 0, 0], np.float32)
    _, dy = losses.mse(y, np.zeros_like(y))
    assert dy[0] == np.float32(1e38)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_valid_is_zero_and_not_nan(name: str) -> None:
    y, target = make_problem(name, (3, 2, 4))
    value, dy = LOSSES[name](y, target, [0, 0])
    assert value == 0
    assert not dy.any()
    value, dy = LOSSES[name](y[:0], target[:0])
    assert value == 0
    assert dy.shape == (0, 2, 4)
    if target.shape == y.shape:
        assert LOSSES[name](y[..., :0], target[..., :0], [1, 2])[0] == 0


@pytest.mark.parametrize("name", ["mae", "mse", "huber", "binary_cross_entropy"])
def test_the_gradient_of_one_number_is_an_array_of_no_axes(name: str) -> None:
    value, dy = LOSSES[name](0.5, 1.0)
    assert type(value) is float
    assert type(dy) is np.ndarray
    assert dy.shape == ()


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_of_many_halves_is_not_summed_in_halves(name: str) -> None:
    y = np.full((200_000, 2), 8, np.float16)
    target = np.zeros(200_000, int) if name == "cross_entropy" else np.zeros_like(y)
    few, _ = LOSSES[name](y[:1], target[:1])
    value, _ = LOSSES[name](y, target)
    assert value == pytest.approx(few)


@pytest.mark.parametrize("name", LOSSES)
def test_arguments_are_not_written_to(name: str) -> None:
    y, target = make_problem(name, (3, 2, 4))
    y.flags.writeable = target.flags.writeable = False
    LOSSES[name](y, target)
    LOSSES[name](y, target, [3, 1])


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_logits_of_any_size_give_finite_values(name: str) -> None:
    y = np.array([[1e4, -1e4], [-1e4, 1e4]])
    target = np.array([0, 0]) if name == "cross_entropy" else np.array([[1.0, 0.0], [1.0, 1.0]])
    value, dy = LOSSES[name](y, target)
    assert np.isfinite(value)
    assert np.isfinite(dy).all()


def test_published_values() -> None:
    assert losses.cross_entropy(np.zeros((4, 10)), np.arange(4))[0] == pytest.approx(np.log(10))
    assert losses.binary_cross_entropy([0.0], [0.25])[0] == pytest.approx(np.log(2))
    assert losses.huber([0.5, 3.0], [0.0, 0.0])[0] == pytest.approx((0.125 + 2.5) / 2)


@pytest.mark.parametrize("name", ["mae", "mse", "huber", "binary_cross_entropy"])
def test_a_target_of_another_shape_names_both_shapes(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: .*\(64, 1\), got \(64,\)"):
        LOSSES[name](np.zeros((64, 1)), np.zeros(64))


def test_cross_entropy_says_what_does_not_fit() -> None:
    y = np.zeros((5, 3))
    with pytest.raises(ValueError, match=r"\(5,\) for y of shape \(5, 3\), got \(5, 3\)"):
        losses.cross_entropy(y, np.zeros((5, 3), int))
    with pytest.raises(ValueError, match=r"0 \.\. 2 .*got 3"):
        losses.cross_entropy(y, [0, 1, 2, 3, 0])
    with pytest.raises(ValueError, match=r"0 \.\. 2 .*got -1"):
        losses.cross_entropy(y, [0, 1, 2, -1, 0])
    for wrong in (float, bool):
        with pytest.raises(TypeError, match=f"integer class indices, got dtype {wrong.__name__}"):
            losses.cross_entropy(y, np.zeros(5, wrong))
    with pytest.raises(TypeError, match=r"dtype float32; labels that are .* by astype\(int\)$"):
        losses.cross_entropy(y, np.zeros(5, np.float32))
    for shape in ((), (0, 0), (2, 0)):
        message = rf"y must have at least one class .* got {re.escape(str(shape))}"
        with pytest.raises(ValueError, match=message):
            losses.cross_entropy(np.zeros(shape), np.zeros(shape[:-1], int))


@pytest.mark.parametrize("name", LOSSES)
def test_nested_lists_of_unequal_lengths_are_named(name: str) -> None:
    uneven, name_of_loss = [[1.0], [1.0, 2.0]], name.partition("(")[0]
    with pytest.raises(ValueError, match=f"{name_of_loss}: y must be one array, got nested"):
        LOSSES[name](uneven, [[1.0], [1.0]])
    with pytest.raises(ValueError, match=f"{name_of_loss}: target must be one array, got nested"):
        LOSSES[name](np.zeros((2, 1)), uneven)


@pytest.mark.parametrize(
    "lengths, message",
    [
        ([1, 2, 3], r"mse: lengths must have shape \(B,\) = \(5,\), got \(3,\)"),
        ([1, 2, 3, 4, 8], r"mse: lengths must satisfy .* T = 7, got 8"),
        ([1, 2, 3, 4, -1], r"mse: lengths must satisfy .* T = 7, got -1"),
    ],
)
def test_lengths_that_do_not_fit_are_named(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.mse(np.zeros((7, 5, 3)), np.zeros((7, 5, 3)), lengths)


def test_other_misfits_are_named() -> None:
    with pytest.raises(TypeError, match="lengths must hold integers, got dtype float64"):
        losses.mse(np.zeros((7, 2)), np.zeros((7, 2)), [1.0, 2.0])
    with pytest.raises(ValueError, match=r"lengths need a y with a time axis, got shape \(2,\)"):
        losses.mse(np.zeros(2), np.zeros(2), [1, 2])
    with pytest.raises(TypeError, match="y must hold real numbers, got dtype complex128"):
        losses.mae(np.zeros(3, complex), np.zeros(3))
    with pytest.raises(TypeError, match="target must hold real numbers, got dtype object"):
        losses.mae(np.zeros(3), np.array([None, 1, 2]))
    for wrong in (2.0, -0.5):
        with pytest.raises(ValueError, match=rf"target must lie in 0 \.\. 1, got {wrong}"):
            losses.binary_cross_entropy([0.0, 0.0], [1.0, wrong])
    with pytest.raises(ValueError, match="mae: y must be one array, got nested sequences"):
        losses.mae([[1.0], [2.0, 3.0]], [1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cross_entropy: target must be one array, got nested"):
        losses.cross_entropy(np.zeros((2, 2)), [[1], [2, 3]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mse: target must have no masked elements, got"):
        losses.mse(np.zeros(2), np.ma.masked_equal([1.0, 2.0], 2))
    with pytest.raises(ValueError, match="delta must be above 0, got 0"):
        losses.huber([0.0], [2.0], delta=0)
    with pytest.raises(TypeError, match="huber: delta must be a number above 0, got '1'"):
        losses.huber([0.0], [2.0], delta="1")  # type: ignore[arg-type]


def test_get_takes_a_name_or_a_callable() -> None:
    assert losses.get("huber") is losses.huber
    own = partial(losses.huber, delta=2.0)
    assert losses.get(own) is own
    with pytest.raises(ValueError, match=r"must be one of mae, mse, .*got 'mea'"):
        losses.get("mea")
    with pytest.raises(TypeError, match="must be a name or a callable, got int"):
        losses.get(3)  # type: ignore[arg-type]


def test_time_and_batch_taken_for_each_other_are_told():
    y = np.ones((7, 4, 1))
    message = r"^mse: lengths must have shape \(B,\) = \(4,\) .* got \(7,\): batch_first=True reads"
    with pytest.raises(ValueError, match=message):
        losses.mse(y, y, np.full(7, 4))
    with pytest.raises(ValueError, match=r"^mse: lengths must .* = \(4,\), got \(7,\)$"):
        losses.mse(y.swapaxes(0, 1), y.swapaxes(0, 1), np.full(7, 4), batch_first=True)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("kind", [">f4", ">f8", "f2"])
def test_any_layout_and_byte_order_of_y_gives_the_same(name: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((4, 3)).astype(np.float16).astype(np.dtype(kind).newbyteorder("="))
    target: Any = np.array([0, 2, 1, 1]) if name == "cross_entropy" else np.ones((4, 3))
    expected, gradient = losses.LOSSES[name](plain, target)
    assert gradient.dtype == plain.dtype
    odd = np.frombuffer(bytearray(plain.nbytes + 1), plain.dtype, 12, 1).reshape(4, 3)
    odd[...] = plain
    for y in (plain.astype(kind), odd, np.asfortranarray(plain), np.repeat(plain, 2, 1)[:, ::2]):
        value, dy = losses.LOSSES[name](y, target)
        assert value == expected
        assert np.array_equal(dy, gradient)


def test_classes_may_lie_anywhere_in_memory() -> None:
    y, classes = np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 2, 1, 1])
    expected, gradient = losses.cross_entropy(y, classes)
    odd = np.frombuffer(bytearray(classes.nbytes + 1), classes.dtype, 4, 1)
    odd[...] = classes
    for target in (classes.astype(">i8"), classes.astype("i1"), odd, np.repeat(classes, 2)[::2]):
        value, dy = losses.cross_entropy(y, target)
        assert value == expected
        assert np.array_equal(dy, gradient)


def test_cross_entropy_of_more_axes_than_time_and_batch() -> None:
    rng = np.random.default_rng(0)
    y, target = rng.standard_normal((3, 2, 4, 5)), rng.integers(0, 5, (3, 2, 4))
    value, dy = losses.cross_entropy(y, target, [3, 1])
    first, second = (losses.cross_entropy(y[:T, b], target[:T, b]) for T, b in ((3, 0), (1, 1)))
    assert value == pytest.approx((3 * first[0] + second[0]) / 4)
    assert_close(dy[:, 0], first[1] * 3 / 4, "rounding")
    assert_close(dy[:1, 1], second[1] / 4, "rounding")
    assert not dy[1:, 1].any()


@pytest.mark.parametrize("name", ["mae", "mse", "huber", "binary_cross_entropy"])
def test_a_layout_in_memory_does_not_change_a_bit(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        y, target = rng.standard_normal((65, 65)), rng.uniform(size=(65, 65))
        value, dy = losses.LOSSES[name](y, target)
        other, d_other = losses.LOSSES[name](np.asfortranarray(y), np.asfortranarray(target))
        assert value == other and np.array_equal(dy, d_other)


def test_lengths_that_are_no_array_are_named() -> None:
    with pytest.raises(ValueError, match=r"^mse: lengths must be one array, got nested"):
        losses.mse(np.zeros((2, 2)), np.zeros((2, 2)), [[1, 2], [3]])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", ["no", None, 2, np.ones(2)])
def test_a_layout_that_is_no_answer_is_named(wrong: Any) -> None:
    for loss in (losses.mae, losses.cross_entropy):
        y, target = make_problem(loss.__name__, (2, 2, 3))
        with pytest.raises(TypeError, match="batch_first must be True or False, got"):
            loss(y, target, [1, 2], batch_first=wrong)
