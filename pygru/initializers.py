# SPDX-License-Identifier: MIT
"""Initial values: single arrays, and whole schemes named after the system they come from.

An *initialiser* is a function ``f(shape, *, rng) -> array``; a matrix has the shape
(outputs, inputs). Further arguments are fixed with ``functools.partial``::

    init = {"weight_hh": orthogonal, "bias_ih": functools.partial(constant, value=1.0)}

A *scheme* fills every parameter of a layer and is chosen by name, ``init="keras"``:

============== ========================== ============================= ==========================
scheme         input weights W            recurrent weights U           biases
============== ========================== ============================= ==========================
"pytorch"      U(-1/sqrt H, 1/sqrt H)     U(-1/sqrt H, 1/sqrt H)        U(-1/sqrt H, 1/sqrt H)
"keras"        Glorot uniform over (I,GH) orthogonal columns, (G*H, H)  0
"tensorflow1"  Glorot uniform over [x, h]: (I+H, 2H) for r and z,       1 for r and z, 0 for the
               (I+H, H) for the candidate                               candidate; all in b_x
"zeros"        0 (for weights that are loaded afterwards)               0
============== ========================== ============================= ==========================

Values are drawn in float64 and rounded to the layer's dtype, so that a seed means the same
weights in both precisions. An argument of the wrong kind is a TypeError; one out of its range, or
not finite, a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru.checks import (
    Random,
    as_choice,
    as_finite,
    as_generator,
    as_real,
    as_size,
    listed,
)
from pygru.parameters import Arrays

Values: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]


class Initializer(Protocol):
    """Anything that fills an array of a given shape."""

    def __call__(self, shape: Shape, *, rng: Random = None) -> npt.ArrayLike:
        """Return initial values of this shape."""


# A scheme by name, or initialisers by parameter ("weight_hh_l1") or by kind ("weight_hh").
Init: TypeAlias = str | Mapping[str, Initializer]


def constant(shape: Shape, value: float = 0.0, *, rng: Random = None) -> Values:  # noqa: ARG001
    """Give every element ``value``; ``rng`` is taken, as by every initialiser, and unused.

    Examples
    --------
    >>> constant((2, 2), 1.0)
    array([[1., 1.],
           [1., 1.]])
    """
    return np.full(shape, as_finite("constant", "value", value), dtype=np.float64)


def uniform(shape: Shape, low: float = -0.05, high: float = 0.05, *, rng: Random = None) -> Values:
    """Draw from the uniform distribution on [low, high).

    Examples
    --------
    >>> bool(np.all(np.abs(uniform((3, 4), -0.1, 0.1, rng=0)) <= 0.1))
    True
    """
    low, high = as_finite("uniform", "low", low), as_finite("uniform", "high", high)
    if not 0.0 <= high - low < math.inf:
        raise ValueError(f"uniform: high - low must be finite and >= 0, got {high} - {low}")
    return as_generator("uniform", rng).uniform(low, high, shape)


def normal(shape: Shape, mean: float = 0.0, std: float = 1.0, *, rng: Random = None) -> Values:
    """Draw from the normal distribution.

    Examples
    --------
    >>> normal((3, 4), std=0.02, rng=0).shape
    (3, 4)
    """
    mean, std = as_finite("normal", "mean", mean), as_finite("normal", "std", std)
    if std < 0.0:
        raise ValueError(f"normal: std must be at least 0, got {std}")
    return as_generator("normal", rng).normal(mean, std, shape)


def glorot_uniform(shape: Shape, *, rng: Random = None) -> Values:
    """Draw uniformly from [-a, a], a = sqrt(6 / (inputs + outputs)).

    The variance is 2 / (inputs + outputs), which keeps that of signals and gradients alike.

    Parameters
    ----------
    shape : (outputs, inputs)
        A matrix; a vector (n,) counts as a matrix of n inputs and n outputs.
    rng : int, numpy.random.Generator or None
        Where the values come from.

    References
    ----------
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, equation 16.

    Examples
    --------
    >>> a = np.sqrt(6 / (64 + 3))
    >>> bool(np.all(np.abs(glorot_uniform((64, 3), rng=0)) <= a))
    True
    """
    sizes = _as_sizes("glorot_uniform", shape)
    if not sizes:
        raise ValueError("glorot_uniform: shape must be (outputs, inputs) or (n,), got ()")
    limit = math.sqrt(6.0 / (sizes[0] + sizes[-1]))
    return as_generator("glorot_uniform", rng).uniform(-limit, limit, shape)


def orthogonal(shape: Shape, gain: float = 1.0, *, rng: Random = None) -> Values:
    """Draw a matrix with orthonormal columns (rows, when it is wider than tall), times ``gain``.

    Q of the QR decomposition of a normal matrix, with the signs that make R's diagonal positive:
    uniform over all orthogonal matrices.

    Raises
    ------
    ValueError
        When ``shape`` is not that of a matrix.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", ICLR 2014.

    Examples
    --------
    >>> U = orthogonal((12, 4), rng=0)
    >>> bool(np.allclose(U.T @ U, np.eye(4)))
    True
    """
    shape, gain = _as_sizes("orthogonal", shape), as_finite("orthogonal", "gain", gain)
    if len(shape) != 2:
        raise ValueError(f"orthogonal: shape must be (outputs, inputs), got {shape}")
    tall, narrow = max(shape), min(shape)
    q, r = np.linalg.qr(as_generator("orthogonal", rng).standard_normal((tall, narrow)))
    q *= np.where(np.diagonal(r) < 0.0, -gain, gain)
    return q if shape[0] >= shape[1] else np.ascontiguousarray(q.T)


def _as_sizes(where: str, shape: Shape) -> Shape:
    """Return a shape: a tuple of sizes, each at least 1."""
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"{where}: shape must be a tuple of sizes, got {short(shape)}")
    return tuple(as_size(where, f"shape[{i}]", size) for i, size in enumerate(shape))


# Schemes. One direction of one recurrent layer: (gates, inputs, units, rng) -> W, U, b_x, b_h.

RecurrentValues: TypeAlias = tuple[Values, Values, Values, Values]
RecurrentScheme: TypeAlias = "Callable[[int, int, int, np.random.Generator], RecurrentValues]"


def _recurrent_pytorch(G: int, I: int, H: int, rng: np.random.Generator) -> RecurrentValues:  # noqa: E741
    a = 1.0 / math.sqrt(H)
    W, U = rng.uniform(-a, a, (G * H, I)), rng.uniform(-a, a, (G * H, H))
    return W, U, rng.uniform(-a, a, G * H), rng.uniform(-a, a, G * H)


def _recurrent_keras(G: int, I: int, H: int, rng: np.random.Generator) -> RecurrentValues:  # noqa: E741
    W = glorot_uniform((G * H, I), rng=rng)
    return W, orthogonal((G * H, H), rng=rng), np.zeros(G * H), np.zeros(G * H)


def _recurrent_tensorflow1(G: int, I: int, H: int, rng: np.random.Generator) -> RecurrentValues:  # noqa: E741
    gates = (G - 1) * H  # rows of r and z; an RNN has a candidate and no gates
    blocks = [glorot_uniform((M, I + H), rng=rng) for M in (gates, H) if M]
    W, U = np.hsplit(np.concatenate(blocks), [I])
    b_x = np.concatenate([np.ones(gates), np.zeros(H)])
    return W, U, b_x, np.zeros(G * H)


def _recurrent_zeros(G: int, I: int, H: int, _: np.random.Generator) -> RecurrentValues:  # noqa: E741
    return np.zeros((G * H, I)), np.zeros((G * H, H)), np.zeros(G * H), np.zeros(G * H)


RECURRENT: dict[str, RecurrentScheme] = {
    "pytorch": _recurrent_pytorch,
    "keras": _recurrent_keras,
    "tensorflow1": _recurrent_tensorflow1,
    "zeros": _recurrent_zeros,
}

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # W, U, b_x, b_h


def fill_recurrent(
    where: str,
    params: Arrays,
    runs: Mapping[str, Mapping[str, Shape]],
    init: Init,
    rng: np.random.Generator,
) -> None:
    """Write the initial values of a recurrent layer.

    ``runs`` is suffix -> kind -> shape: params hold ``"{kind}{suffix}"``. ``where`` names the
    layer in errors.
    """
    if not isinstance(init, (str, Mapping)):
        raise TypeError(
            f"{where}: init must be one of {tuple(RECURRENT)} or a mapping such as "
            f"{{'weight_hh': orthogonal}}, got {init!r}"
        )
    custom = init if isinstance(init, Mapping) else {}
    scheme_name = "pytorch" if isinstance(init, Mapping) else init
    scheme = RECURRENT[as_choice(where, "init", scheme_name, RECURRENT)]
    known = [*KINDS, *params]
    unknown = [name for name in custom if name not in known]
    if unknown:
        raise ValueError(
            f"{where}: init must name parameters out of {listed(known)}, got {listed(unknown)}"
        )
    given: Mapping[str, object] = custom
    for name, value in given.items():
        if not callable(value):
            raise TypeError(
                f"{where}: init of {name} must be a callable such as orthogonal, got {value!r}"
            )
    for suffix, shapes in runs.items():
        (rows, I), H = shapes["weight_ih"], shapes["weight_hh"][1]  # noqa: E741
        by_scheme = dict(zip(KINDS, scheme(rows // H, I, H, rng), strict=True))
        for kind, shape in shapes.items():
            name = f"{kind}{suffix}"
            initializer = custom.get(name, custom.get(kind))
            values = by_scheme[kind] if initializer is None else initializer(shape, rng=rng)
            array = as_real(where, f"init of {name}", values, params[name].dtype)
            if array.shape != shape:
                raise ValueError(
                    f"{where}: init of {name} must give shape {shape}, got {array.shape}"
                )
            params[name] = array


# A linear layer: (outputs, inputs, rng) -> W, b.

LinearScheme: TypeAlias = "Callable[[int, int, np.random.Generator], tuple[Values, Values]]"


def _linear_pytorch(M: int, K: int, rng: np.random.Generator) -> tuple[Values, Values]:
    a = 1.0 / math.sqrt(K)
    return rng.uniform(-a, a, (M, K)), rng.uniform(-a, a, M)


def _linear_glorot(M: int, K: int, rng: np.random.Generator) -> tuple[Values, Values]:
    return glorot_uniform((M, K), rng=rng), np.zeros(M)


def _linear_zeros(M: int, K: int, _: np.random.Generator) -> tuple[Values, Values]:
    return np.zeros((M, K)), np.zeros(M)


LINEAR: dict[str, LinearScheme] = {
    "pytorch": _linear_pytorch,
    "keras": _linear_glorot,
    "tensorflow1": _linear_glorot,
    "zeros": _linear_zeros,
}

# An embedding: one initialiser of the (num_embeddings, embedding_dim) table.

EMBEDDING: dict[str, Initializer] = {
    "pytorch": normal,
    "keras": uniform,
    "tensorflow1": glorot_uniform,
    "zeros": constant,
}
