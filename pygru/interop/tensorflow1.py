# SPDX-License-Identifier: MIT
"""TensorFlow 1: the arrays of GRUCell by name, as checkpoints and sessions hold them.

One cell has ``gates/kernel`` (I+H, 2H), rows x then h, columns r then u, ``gates/bias`` (2H,),
``candidate/kernel`` (I+H, H) and ``candidate/bias`` (H,). It is ``reset="before"`` with u for z;
its biases are b_x here, with b_h = 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pygru.checks import as_bool
from pygru.composite import check_own
from pygru.interop import blocks
from pygru.interop.blocks import Array, Run, modules_of, runs_of
from pygru.interop.checking import compare, unavailable
from pygru.interop.containers import is_path, path_of, read_npz, reading
from pygru.layers import GRU
from pygru.module import Module

__all__ = ["from_tf1", "to_tf1"]

KINDS = ("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias")
NAME = re.compile(rf"(?:(.*)/)?({'|'.join(KINDS)})(?::0)?")
# What tells cells apart: the layer of a MultiRNNCell, the direction of a bidirectional_rnn.
PLACE = re.compile(r"(?<![^/])(?:cell_(\d+)|(fw|bw))(?![^/])")


def from_tf1(source: Any, *, batch_first: bool = False, check: bool = False) -> Any:
    """Make a GRU of TensorFlow 1's arrays: the same function, the same weights.

    Parameters
    ----------
    source : path-like or mapping
        An .npz file or arrays by name: those of one GRUCell, of a MultiRNNCell (``cell_0``,
        ``cell_1``), of a bidirectional_rnn (``fw``, ``bw``) or of a stack of these, and no others.
    batch_first : bool
        Of the GRU; False is TensorFlow's time_major=True.
    check : bool
        Where TensorFlow is installed run its GRUBlockCell with the arrays on random input, print
        the largest absolute difference.

    Returns
    -------
    GRU
        With ``reset="before"``.

    Raises
    ------
    TypeError
        When the source is none of these.
    ValueError
        When an array is missing, unknown or misshapen, named; when a file is corrupt.

    Examples
    --------
    >>> H, I = 4, 3
    >>> gru = from_tf1({
    ...     "rnn/gru_cell/gates/kernel": np.zeros((I + H, 2 * H), np.float32),
    ...     "rnn/gru_cell/gates/bias": np.ones(2 * H, np.float32),
    ...     "rnn/gru_cell/candidate/kernel": np.zeros((I + H, H), np.float32),
    ...     "rnn/gru_cell/candidate/bias": np.zeros(H, np.float32),
    ... })
    >>> gru.reset, gru.params["bias_ih_l0"].tolist()
    ('before', [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    """
    if not is_path(source) and not isinstance(source, Mapping):
        raise TypeError(
            f"from_tf1: source must be a path or a dict of arrays, got {type(source).__name__}"
        )
    path = path_of("from_tf1", source)
    with reading("from_tf1", path):
        named = source if path is None else read_npz(path)
        cells, bidirectional = _cells(named)
        runs = [_run(scope, cell) for scope, cell in cells.items()]
        options = {
            "reset": "before",
            "batch_first": as_bool("from_tf1", "batch_first", batch_first),
        }
        block = blocks.recurrent("the GRU", GRU, runs, bidirectional=bidirectional, **options)
        gru = blocks.build([block], row=False)
    if check and not unavailable("from_tf1", "tensorflow", "tensorflow"):
        _check(gru, list(cells.values()))
    return gru


def _cells(named: Mapping[str, Any]) -> tuple[dict[str, dict[str, Array]], bool]:
    """Return scope -> the four arrays of each cell in the order of h_n; whether there are two."""
    cells: dict[str, dict[str, Array]] = {}
    for name, value in named.items():
        found = NAME.fullmatch(str(name))
        if found is None:
            raise ValueError(
                f"names must end in one of {', '.join(KINDS)}, got {name!r}; leave other arrays out"
            )
        array = np.asarray(value)
        if array.dtype.kind != "f":
            raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
        cells.setdefault(found.group(1) or "", {})[found.group(2)] = array
    if not cells:
        raise ValueError("must hold the arrays of a GRUCell, got none")
    places: dict[str, tuple[tuple[int, str], str]] = {}
    for scope, cell in cells.items():
        missing = [kind for kind in KINDS if kind not in cell]
        if missing:
            raise ValueError(f"cell {scope!r} must have four arrays, missing {', '.join(missing)}")
        layer, way = 0, ""
        for found in PLACE.finditer(scope):
            layer, way = int(found.group(1) or layer), found.group(2) or way
        if any((layer, way) == place for place, _ in places.values()):
            raise ValueError(
                f"cells must be told apart by cell_0, cell_1 or fw, bw, got {[*cells]}"
            )
        places[scope] = (layer, way), PLACE.sub("", scope)
    ways = sorted({way for (_, way), _ in places.values()}, reverse=True)  # fw before bw
    layers = sorted({layer for (layer, _), _ in places.values()})
    expected = {(layer, way) for layer in range(len(layers)) for way in ways}
    rest = {rest for _, rest in places.values()}
    if (
        ways not in ([""], ["fw", "bw"])
        or expected != {p for p, _ in places.values()}
        or (len(rest) > 1)
    ):
        raise ValueError(f"cells must be the layers and directions of one network, got {[*cells]}")
    order = sorted(cells, key=lambda scope: (places[scope][0][0], ways.index(places[scope][0][1])))
    return {scope: cells[scope] for scope in order}, len(ways) == 2


def _run(scope: str, cell: dict[str, Array]) -> Run:
    """Return one cell in pygru's layout."""
    gates, b_gates, candidate, b_candidate = (cell[kind] for kind in KINDS)
    rows, H = candidate.shape if candidate.ndim == 2 else (0, 0)
    shapes = {kind: array.shape for kind, array in cell.items()}
    expected = dict(zip(KINDS, ((rows, 2 * H), (2 * H,), (rows, H), (H,)), strict=True))
    if shapes != expected or not rows > H > 0:
        raise ValueError(
            f"cell {scope!r} must have gates/kernel (I+H, 2H), gates/bias (2H,), candidate/kernel "
            f"(I+H, H) and candidate/bias (H,), got {shapes}"
        )
    fused = np.concatenate([gates, candidate], axis=1).T  # (3H, I+H): r, u, c
    I = rows - H  # noqa: E741
    b_x = np.concatenate([b_gates, b_candidate])
    return Run(fused[:, :I], fused[:, I:], b_x, np.zeros_like(b_x))


def to_tf1(model: Module) -> dict[str, Array]:
    """Return a GRU's weights as arrays of TensorFlow 1's GRUCell, by name.

    TensorFlow has one bias: it is b_x + b_h, or 0 where the GRU has none.

    Parameters
    ----------
    model : GRU
        With ``reset="before"``.

    Returns
    -------
    dict
        Under ``rnn/gru_cell``; layers under ``rnn/multi_rnn_cell/cell_0/gru_cell`` and so on;
        directions under ``bidirectional_rnn/fw/gru_cell`` and ``bw``; layers of these under
        ``stack_bidirectional_rnn/cell_0/bidirectional_rnn/fw/gru_cell`` and so on.

    Raises
    ------
    ValueError
        When the model is another module, or a GRU with ``reset="after"``.
    TypeError
        When a part of the model computes otherwise than pygru's own classes do.

    Examples
    --------
    >>> {name: array.shape for name, array in to_tf1(pygru.GRU(3, 4, reset="before")).items()}
    {'rnn/gru_cell/gates/kernel': (7, 8), 'rnn/gru_cell/gates/bias': (8,),
     'rnn/gru_cell/candidate/kernel': (7, 4), 'rnn/gru_cell/candidate/bias': (4,)}
    """
    check_own("to_tf1", model)
    modules = [module for _, module in modules_of(model)]
    gru = modules[0] if len(modules) == 1 else None
    if not isinstance(gru, GRU) or gru.reset != "before":
        raise ValueError(
            f"to_tf1: model must be one GRU with reset='before', got "
            f"{', '.join(map(repr, modules[:3]))}"
        )
    D, arrays = 2 if gru.bidirectional else 1, {}
    for k, (W, U, b_x, b_h) in enumerate(runs_of(gru)):
        layer, way = divmod(k, D)
        scope = "" if gru.num_layers == 1 else f"cell_{layer}/"
        if D == 2:
            scope = "stack_bidirectional_rnn/" * bool(scope) + scope
            scope += f"bidirectional_rnn/{('fw', 'bw')[way]}/gru_cell"
        else:
            scope = "rnn/" + "multi_rnn_cell/" * bool(scope) + scope + "gru_cell"
        H = U.shape[1]
        fused = np.concatenate([W, U], axis=1).T  # (I+H, 3H)
        b = np.zeros(3 * H, gru.dtype) if b_x is None or b_h is None else blocks.one_bias(b_x, b_h)
        values = (fused[:, : 2 * H], b[: 2 * H], fused[:, 2 * H :], b[2 * H :])
        for kind, value in zip(KINDS, values, strict=True):
            arrays[f"{scope}/{kind}"] = np.ascontiguousarray(value)
    return arrays


def _check(gru: GRU, cells: Sequence[dict[str, Array]]) -> None:
    """Compare with TensorFlow's fused kernel of the same cell, run step by step."""
    import tensorflow as tf

    if gru.dtype != np.float32:
        print("from_tf1: not checked, TensorFlow's GRUBlockCell computes in float32 alone")  # noqa: T201
        return

    def one(cell: dict[str, Array], x: Array) -> tuple[Array, Array]:
        gates, b_gates, candidate, b_candidate = (cell[kind] for kind in KINDS)
        h = np.zeros((x.shape[1], candidate.shape[1]), np.float32)
        steps = []
        for x_t in x:
            h = tf.raw_ops.GRUBlockCell(
                x=x_t, h_prev=h, w_ru=gates, w_c=candidate, b_ru=b_gates, b_c=b_candidate
            )[3]
            steps.append(h)
        return np.stack(steps), np.asarray(h)

    def run(x: Array) -> list[Array]:
        x, h_n = x.swapaxes(0, 1) if gru.batch_first else x, []
        D = 2 if gru.bidirectional else 1
        for layer in range(gru.num_layers):
            ys = []
            for way, cell in enumerate(cells[layer * D : (layer + 1) * D]):
                y, h = one(cell, x[::-1] if way else x)
                ys.append(y[::-1] if way else y)
                h_n.append(h)
            x = np.concatenate(ys, axis=-1)
        return [x.swapaxes(0, 1) if gru.batch_first else x, np.stack(h_n)]

    compare("from_tf1", gru, f"tensorflow {tf.__version__}", run)
