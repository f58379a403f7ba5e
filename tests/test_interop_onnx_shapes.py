# SPDX-License-Identifier: MIT
"""What changes the data is no arranging of axes: reshapes that mix steps and sequences."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import B, H, I, T, gru_node, model, node, weights

import pygru
from pygru.interop import from_onnx


def declared(sizes, kind=1, name="x"):
    """Return the declaration of an input; names are sizes that are not known."""
    dims = [{"dim_value" if isinstance(n, int) else "dim_param": n} for n in sizes]
    return {"name": name, "type": {"tensor_type": {"elem_type": kind, "shape": {"dim": dims}}}}


def reshaped_before(sizes, to, **attributes):
    """Return a model of a GRU that reads v (sizes) as another shape."""
    nodes = [node("Reshape", ["v", "to"], ["x"], **attributes), gru_node()]
    given = [declared(sizes, name="v")]
    return model(nodes, weights() | {"to": np.array(to)}, outputs=("Y",), input=given)


def reshaped_after(sizes, *nodes, **constants):
    """Return a model of a GRU of x (sizes), and nodes that make y of its s (T, B, H)."""
    first = [gru_node(), node("Squeeze", ["Y", "one"], ["s"])]
    constants = weights() | {"one": np.array([1])} | constants
    return model([*first, *nodes], constants, input=[declared(sizes)])


REGROUPED = [
    ((4, 6, I), (8, 3, I)),
    ((3, 5, I), (5, 3, I)),
    ((4, 6, I), (8, -1, I)),
    (("B", 6, I), (-1, 3, I)),
    ((4, "T", I), (2, -1, I)),
    (("B", 6, I), (0, 3, -1)),
    (("T", "B", I), (-1, B, I)),
    (("T", "B", I), (T, B, I)),
    ((-1, -1, I), (T, B, I)),
]


@pytest.mark.parametrize("sizes, to", REGROUPED)
def test_a_reshape_that_regroups_time_and_batch_is_refused(sizes, to):
    told = "must have a shape that keeps the axes"
    with pytest.raises(ValueError, match=rf"^from_onnx: node 0 \(Reshape\) {told}"):
        from_onnx(reshaped_before(sizes, to))
    above = {"to": np.array([*to[:-1], H]), "W2": np.ones((1, 3 * H, H), "f4")}
    nodes = [node("Reshape", ["s", "to"], ["r"]), node("GRU", ["r", "W2", "R", "B"], ["y"])]
    between = reshaped_after(sizes, *nodes, **above)
    with pytest.raises(ValueError, match=told):
        from_onnx(between)


def test_axes_that_a_reshape_exchanges_are_not_transposed():
    """(T, B, H) read as (B, T, H), by names of sizes and by numbers."""
    sizes = [node("Shape", ["s"], ["n"]), node("Gather", ["n", "swap"], ["to"])]
    for shape in ((T, B, I), ("T", "B", I), (T, "B", I)):
        nodes = [*sizes, node("Reshape", ["s", "to"], ["r"]), node("Relu", ["r"], ["y"])]
        with pytest.raises(ValueError, match="must have a shape that keeps the axes"):
            from_onnx(reshaped_after(shape, *nodes, swap=np.array([1, 0, 2])))


@pytest.mark.parametrize(
    "sizes, to",
    [
        ((4, 6, I), (4, 6, I)),
        ((4, 6, I), (-1, 6, I)),
        ((4, 6, I), (0, 6, -1)),
        ((4, 4, I), (4, 4, I)),
        (("B", 6, I), (-1, 6, I)),
        (("B", 6, I), (8, 6, I)),  # or it does not run
        (("T", "B", I), (0, -1, I)),
        (("T", "B", I), (0, 0, -1)),
        ((-1, 6, I), (-1, 6, I)),
    ],
)
def test_a_reshape_to_the_sizes_that_are_there_changes_nothing(sizes, to):
    (gru,) = from_onnx(reshaped_before(sizes, to))
    assert repr(gru) == repr(pygru.GRU(I, H, reset="before"))


def test_axes_merge_and_part_by_the_numbers_that_are_declared():
    for sizes, flat in (
        ((4, 6, I), (24, H)), ((4, 6, I), (-1, H)), (("B", 6, I), (-1, H)), ((4, 6, I), (24, -1)),
    ):  # fmt: skip
        nodes = [
            node("Reshape", ["s", "flat"], ["f"]), node("Relu", ["f"], ["r"]),
            node("Reshape", ["r", "back"], ["y"]),
        ]  # fmt: skip
        constants = {"flat": np.array(flat), "back": np.array([-1, 6, H])}
        assert len(from_onnx(reshaped_after(sizes, *nodes, **constants))) == 2
        constants["back"] = np.array([-1, 3, H])
        with pytest.raises(ValueError, match="must have a shape that keeps the axes"):
            from_onnx(reshaped_after(sizes, *nodes, **constants))


def test_a_sequence_of_one_vector_has_its_own_number_of_steps():
    """Not that of the sequence that was read before it."""

    def decoder(steps):
        nodes = [
            node("Squeeze", ["Y_h", "zero"], ["h"]), node("Unsqueeze", ["h", "zero"], ["u"]),
            node("Expand", ["u", "times"], ["r"]), node("Shape", ["x"], ["n"]),
            node("Gather", ["n", "zero"], ["T"]), node("Concat", [steps, "any", "H"], ["to"]),
            node("Reshape", ["r", "to"], ["v"]), node("Relu", ["v"], ["y"]),
        ]  # fmt: skip
        constants = {"zero": np.array([0]), "times": np.array([9, 1, 1]), "nine": np.array([9])}
        return reshaped_after(
            ("T", "B", I), *nodes, any=np.array([-1]), H=np.array([H]), **constants
        )

    assert len(from_onnx(decoder("nine"))) == 4
    with pytest.raises(ValueError, match="must have a shape that keeps the axes"):
        from_onnx(decoder("T"))


@pytest.mark.parametrize("to, fits", [((-1, 2 * H), True), ((0, -1), True), ((-1, H), False)])
def test_final_states_are_put_side_by_side_of_each_sequence_alone(to, fits):
    nodes = [
        gru_node(direction="bidirectional"), node("Transpose", ["Y_h"], ["h"], perm=[1, 0, 2]),
        node("Reshape", ["h", "to"], ["f"]), node("Relu", ["f"], ["y"]),
    ]  # fmt: skip
    content = model(nodes, weights(D=2) | {"to": np.array(to)})
    if fits:
        assert [type(module) for module in from_onnx(content)] == [
            pygru.GRU, pygru.BothEnds, pygru.ReLU,
        ]  # fmt: skip
    else:
        with pytest.raises(ValueError, match="must have a shape that keeps the axes"):
            from_onnx(content)


@pytest.mark.parametrize("to", [2, 3, 6, 7, 9, 10, 16, None])
def test_a_cast_that_changes_numbers_is_refused(to):
    """1.7 as an integer is 1; half precision and bool lose more."""
    code = {} if to is None else {"to": to}
    told = r"\(Cast\) must have a cast to float32 or float64 \(1, 11\), got "
    for nodes, given, outputs in (
        ([node("Cast", ["v"], ["w"], **code), node("Cast", ["w"], ["x"], to=1), gru_node()],
         ("v",), ("Y",)),
        ([gru_node(), node("Cast", ["Y"], ["y"], **code)], ("x",), ("y",)),
        ([gru_node(), node("Cast", ["Y_h"], ["h"], **code)], ("x",), ("Y", "h")),
        ([node("Cast", ["h"], ["i"], **code), node("Cast", ["i"], ["h0"], to=1),
          gru_node("", "h0")], ("x", "h"), ("Y",)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{told}{to}$"):
            from_onnx(model(nodes, weights(), given, outputs))


def test_casts_that_keep_numbers_are_taken_for_nothing():
    for to in (1, 11):
        nodes = [node("Cast", ["v"], ["x"], to=to), gru_node()]
        assert len(from_onnx(model(nodes, weights(), ("v",), ("Y",)))) == 1
    for kind in (6, 7):
        for to in (1, 2, 3, 6, 7, 9, 11):
            nodes = [node("Cast", ["x"], ["i"], to=to), node("Gather", ["table", "i"], ["y"])]
            given = [declared(("T", "B"), kind)]
            content = model(nodes, {"table": np.ones((9, I), "f4")}, input=given)
            if to in (6, 7):
                assert repr(from_onnx(content)[0]) == repr(pygru.Embedding(9, I))
                continue
            with pytest.raises(ValueError, match=r"must have a cast to int32 or int64 \(6, 7\)"):
                from_onnx(content)
