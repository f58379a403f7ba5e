# SPDX-License-Identifier: MIT
"""Matrix products and their biases: added along the features, and to what is read with them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import H, I, model, node, squeezed

import pygru
from pygru.interop import from_onnx

M = 5


def product(*nodes, **constants):
    """Return a model of a GRU, a product p (T, B, M) and nodes that make y of it."""
    first = node("MatMul", ["s", "m"], ["p"])
    return squeezed(first, *nodes, m=np.ones((H, M), "f4"), **constants)


def gemm(C):
    """Return a model of a Gemm of x (M, I), whose C may be of as many rows."""
    kind = {"elem_type": 1, "shape": {"dim": [{"dim_value": M}, {"dim_value": I}]}}
    return model(
        [node("Gemm", ["x", "m", "C"], ["y"])], {"m": np.ones((I, M), "f4"), "C": C},
        input=[{"name": "x", "type": {"tensor_type": kind}}],
    )  # fmt: skip


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Add", ["p", "b"], ["z"]), node("Tanh", ["p"], ["y"])],
        [node("Add", ["p", "b"], ["z"]), node("Identity", ["p"], ["y"])],
        [node("Identity", ["p"], ["q"]), node("Add", ["p", "b"], ["z"]),
         node("Relu", ["q"], ["y"])],
        [node("Tanh", ["p"], ["z"]), node("Add", ["p", "b"], ["y"])],
    ],
)  # fmt: skip
def test_a_product_without_its_bias_is_not_the_one_with_it(nodes):
    told = "must read all that the layer before it gives|output 'y' must be y of the last layer"
    with pytest.raises(ValueError, match=told):
        from_onnx(product(*nodes, b=np.ones(M, "f4")))


@pytest.mark.parametrize(
    "shape", [(M, 1, 1), (1, M, 1), (M, 1), (1, 1, 1, M), (1,), (), (M, M), (2 * M,)]
)
def test_what_is_added_along_another_axis_is_refused(shape):
    told = r"\(Add\) must have a bias of shape \(1, 1, 5\), along the features, got"
    with pytest.raises(ValueError, match=told):
        from_onnx(product(node("Add", ["p", "b"], ["y"]), b=np.ones(shape, "f4")))


def test_a_bias_is_along_the_features_wherever_they_are():
    b = np.arange(M, dtype="f4")
    turned = [node("Transpose", ["p"], ["t"], perm=[0, 2, 1]), node("Add", ["t", "b"], ["q"]),
              node("Transpose", ["q"], ["y"], perm=[0, 2, 1])]  # fmt: skip
    with pytest.raises(ValueError, match=r"must have a bias of shape \(1, 5, 1\)"):
        from_onnx(product(*turned, b=b))
    plain = [node("Add", ["b", "p"], ["y"])]
    for nodes, shape in ((turned, (M, 1)), (plain, (M,)), (plain, (1, M)), (plain, (1, 1, M))):
        model = from_onnx(product(*nodes, b=b.reshape(shape)))
        assert [type(module) for module in model] == [pygru.GRU, pygru.Linear]
        assert np.array_equal(model[1].params["bias"], b)


def test_the_c_of_a_gemm_is_along_the_features():
    for shape in ((M,), (1, M)):
        (linear,) = from_onnx(gemm(np.arange(M, dtype="f4").reshape(shape)))
        assert np.array_equal(linear.params["bias"], np.arange(M))
    for shape in ((M, 1), (), (1, 1), (M, M)):
        with pytest.raises(ValueError, match=r"must have a bias of shape \(1, 5\), along the feat"):
            from_onnx(gemm(np.ones(shape, "f4")))
