# SPDX-License-Identifier: MIT
"""From the final states of an encoder to the first ones of a decoder, and the gradients back.

The decoder's recurrent layers, k of them, start from the encoder's last k. Two directions of H
units become one of 2H.
"""

from __future__ import annotations

import numpy as np

from pygru.checks import FloatArray
from pygru.model import Sequential
from pygru.recurrent import Recurrent

__all__ = ["Bridge"]


class Bridge:
    """Which recurrent layers of an encoder a decoder starts from."""

    def __init__(self, encoder: Sequential, decoder: Sequential) -> None:
        last = list(encoder._leaves())[-1:]
        if not last or not isinstance(last[0], Recurrent):
            raise ValueError(
                "EncoderDecoder: encoder must end in a recurrent layer, from whose final state the "
                f"decoder starts, got {type(last[0]).__name__ if last else 'no layer'}"
            )
        above, below = encoder.recurrent, decoder.recurrent
        if not below or len(below) > len(above):
            raise ValueError(
                "EncoderDecoder: decoder must have recurrent layers, at most as many as the "
                f"encoder, {len(above)}, got {len(below)}"
            )
        for source, sink in zip(above[len(above) - len(below) :], below, strict=True):
            wanted = (source.num_layers, source._directions * source.hidden_size, False)
            if (sink.num_layers, sink.hidden_size, sink.bidirectional) != wanted:
                raise ValueError(
                    "EncoderDecoder: decoder must have (num_layers, hidden_size, bidirectional) = "
                    f"{wanted} to start from the encoder's {type(source).__name__}, got "
                    f"{(sink.num_layers, sink.hidden_size, sink.bidirectional)}"
                )
        self._unused = len(above) - len(below)
        self._sources = above[self._unused :]

    def across(self, h_ns: list[FloatArray]) -> list[FloatArray]:
        """Return h_0 of the decoder's recurrent layers for h_n of all of the encoder's."""
        used = h_ns[self._unused :]
        return [_together(m, h_n) for m, h_n in zip(self._sources, used, strict=True)]

    def back(self, dh_0s: list[FloatArray | None]) -> list[FloatArray | None]:
        """Return dh_n of all of the encoder's recurrent layers for dh_0 of the decoder's."""
        none: list[FloatArray | None] = [None] * self._unused
        return none + [
            None if dh_0 is None else _apart(m, dh_0)
            for m, dh_0 in zip(self._sources, dh_0s, strict=True)
        ]


def _together(module: Recurrent, h_n: FloatArray) -> FloatArray:
    """Return h_n (L*D, B, H) with the directions side by side, (L, B, D*H)."""
    if not module.bidirectional:
        return h_n
    L, *batch, H = module.num_layers, *h_n.shape[1:]
    return np.moveaxis(h_n.reshape(L, 2, *batch, H), 1, -2).reshape(L, *batch, 2 * H)


def _apart(module: Recurrent, h_0: FloatArray) -> FloatArray:
    """Return the gradient of `_together`: (L, B, D*H) as (L*D, B, H)."""
    if not module.bidirectional:
        return h_0
    L, *batch, H = module.num_layers, *h_0.shape[1:-1], module.hidden_size
    return np.moveaxis(h_0.reshape(L, *batch, 2, H), -2, 1).reshape(2 * L, *batch, H)
