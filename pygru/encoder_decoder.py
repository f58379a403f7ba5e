# SPDX-License-Identifier: MIT
"""Delayed many to many: read a whole sequence, then write another one of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru.bridge import Bridge
from pygru.checks import (
    FloatArray,
    IntArray,
    Random,
    as_classes,
    as_integers,
    as_lengths,
    as_real,
    as_size,
)
from pygru.composite import Composite, PutBack
from pygru.generation import as_temperature, class_feed, unlisted, value_feed, write
from pygru.model import Sequential
from pygru.module import Config, Module
from pygru.pooling import TimeLayer
from pygru.registry import describe, savable
from pygru.tape import Tape

__all__ = ["EncoderDecoder"]

_FLOAT64 = np.dtype(np.float64)

Array: TypeAlias = npt.NDArray[Any]


class _Saved(NamedTuple):
    """What `EncoderDecoder.backward` needs."""

    encoder: list[Any]
    decoder: list[Any]


@savable
class EncoderDecoder(Composite):
    """One model reads a sequence, a second one starts from its final state and writes another.

    The decoder's input at a step is what was to be written at the step before it. In training that
    is the target, whatever the model would have written itself (*teacher forcing*); in use,
    `generate` feeds back the model's own output (*free running*).

    Parameters
    ----------
    encoder : Sequential
        Ends in a recurrent layer; what counts is its final state.
    decoder : Sequential
        Begins with an `Embedding` or `OneHot` to write classes, else it writes real values. Its
        recurrent layers, k of them, start from the final states of the encoder's last k. So these
        have as many layers and as many units; where the encoder reads in both directions, the
        decoder has twice as many units, for the two states side by side.
    start : int, or array_like of real numbers
        What goes into the decoder at its first step: a class, best one that is never written, or
        values, (I,).
    end : int, optional
        The class that ends a sequence: what comes after it in a target does not count, and
        `generate` stops there. For targets of unequal lengths.

    Raises
    ------
    TypeError
        When encoder or decoder is not a Sequential, or start or end of the wrong kind.
    ValueError
        When the two do not fit, belong to another model, or do not look at one step after another.

    References
    ----------
    I. Sutskever, O. Vinyals, Q. Le, "Sequence to Sequence Learning with Neural Networks", NIPS
    2014. R. Williams, D. Zipser, "A Learning Algorithm for Continually Running Fully Recurrent
    Neural Networks", Neural Computation 1, 1989 (teacher forcing).

    Examples
    --------
    Ten digits in, ten digits and an end sign (10) out; 11 is the start sign:

    >>> model = pygru.EncoderDecoder(
    ...     pygru.Sequential(pygru.Embedding(10, 8, rng=0), pygru.GRU(8, 32, rng=1)),
    ...     pygru.Sequential(
    ...         pygru.Embedding(12, 8, rng=2), pygru.GRU(8, 32, rng=3), pygru.Linear(32, 11, rng=4)
    ...     ),
    ...     start=11, end=10,
    ... )
    >>> x = np.array([[1, 2, 3, 4], [5, 6, 0, 0]]).T  # (T, B)
    >>> target = np.array([[4, 3, 2, 1, 10], [6, 5, 10, 10, 10]]).T
    >>> y, tape = model.forward(x, target, lengths=[4, 2])
    >>> value, dy = pygru.losses.cross_entropy(y, target, model.target_lengths(target))
    >>> _ = model.backward(tape, dy)
    >>> y.shape, model.generate(x, 5, lengths=[4, 2]).shape
    ((5, 2, 11), (5, 2))
    """

    keeps_time = False  # y has that of the target

    def __init__(
        self,
        encoder: Sequential,
        decoder: Sequential,
        *,
        start: int | npt.ArrayLike,
        end: int | None = None,
    ) -> None:
        where = "EncoderDecoder"
        for name, part in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(part, Sequential):
                raise TypeError(f"{where}: {name} must be a Sequential, got {part!r}")
            for module in part._leaves():
                if isinstance(module, TimeLayer):
                    raise ValueError(
                        f"{where}: {name} must look at one step after another, "
                        f"got one with {type(module).__name__}"
                    )
        self._bridge = Bridge(encoder, decoder)
        K = decoder.input_classes
        if K is None:
            self._start: Array = np.atleast_1d(as_real(where, "start", start, _FLOAT64)).copy()
            if self._start.ndim != 1:
                raise ValueError(
                    f"{where}: start must be a number or have shape (I,), got {self._start.shape}"
                )
            width = decoder._widths.reads
            if width not in (None, len(self._start)):
                raise ValueError(
                    f"{where}: start must hold as many values as the decoder reads, {width}, "
                    f"got {len(self._start)}"
                )
            if not np.isfinite(self._start).all():
                raise ValueError(f"{where}: start must be finite, got {self._start.tolist()}")
        else:
            self._start = as_classes(where, "start", start, K).copy()
            if self._start.ndim:
                raise ValueError(f"{where}: start must be one class, got shape {self._start.shape}")
        self.encoder, self.decoder = encoder, decoder
        self.end = end
        self._axes = encoder._axes
        super().__init__({"encoder": encoder, "decoder": decoder})

    @property
    def start(self) -> Any:
        """What goes into the decoder at its first step."""
        return self._start.tolist()

    @property
    def end(self) -> int | None:
        """The class that ends a sequence; may be set."""
        return self._end

    @end.setter
    def end(self, end: int | None) -> None:
        if end is not None:
            classes = self.decoder.input_classes
            if classes is None:
                raise ValueError(f"EncoderDecoder: end must be None for real values, got {end!r}")
            count = min(classes, self.decoder._widths.gives or classes)
            given = as_classes("EncoderDecoder", "end", end, count)
            if given.ndim:
                raise ValueError(f"EncoderDecoder: end must be one class, got shape {given.shape}")
        self._end = None if end is None else int(end)

    @property
    def input_classes(self) -> int | None:
        """Number of classes that x holds integers for; None where x is real numbers."""
        return self.encoder.input_classes

    def config(self) -> Config:
        """Return both parts, start and end, as JSON can hold them."""
        return {
            "encoder": describe(self.encoder),
            "decoder": describe(self.decoder),
            "start": self.start,
            "end": self.end,
        }

    def __repr__(self) -> str:
        parts = f"{self.encoder!r},\n{self.decoder!r},\nstart={self.start!r}, end={self.end!r},"
        return "EncoderDecoder(\n    " + parts.replace("\n", "\n    ") + "\n)"

    # Forward and backward

    def target_lengths(self, target: npt.ArrayLike) -> IntArray | None:
        """Return how many steps of each target count, those up to its first ``end``.

        This is what a loss takes as its ``lengths``; None, all of them, where the model has no end.

        Examples
        --------
        >>> parts = [pygru.Sequential(pygru.OneHot(4), pygru.RNN(4, 8)) for _ in range(2)]
        >>> model = pygru.EncoderDecoder(*parts, start=3, end=0)
        >>> model.target_lengths([[1, 2], [0, 2], [0, 0]]).tolist()  # (T, B)
        [2, 3]
        """
        if self.end is None:
            return None
        written = as_integers("EncoderDecoder.target_lengths", "target", target) == self.end
        axis = self._time_axis(written)
        if written.ndim not in (1, 2) or written.shape[axis] == 0:
            raise ValueError(
                "EncoderDecoder.target_lengths: target must have shape "
                f"{'(B, T)' if self.batch_first else '(T, B)'} or (T,), T >= 1, got {written.shape}"
            )
        first = np.where(written.any(axis), written.argmax(axis) + 1, written.shape[axis])
        return np.asarray(first, np.int64)

    def __call__(
        self,
        x: npt.ArrayLike,
        target: npt.ArrayLike,
        *,
        lengths: npt.ArrayLike | None = None,
        target_lengths: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """Inference with teacher forcing: y, without a tape and without dropout.

        Parameters and errors are those of `forward`.
        """
        return self._teach(x, target, lengths, target_lengths, False)[0]

    def forward(
        self,
        x: npt.ArrayLike,
        target: npt.ArrayLike,
        *,
        lengths: npt.ArrayLike | None = None,
        target_lengths: npt.ArrayLike | None = None,
    ) -> tuple[FloatArray, Tape]:
        """Compute what the decoder makes of the target's steps, each from those before it.

        Parameters
        ----------
        x : array_like
            What the encoder reads, (T, B), (T, B, I) and so on, as it takes it.
        target : array_like
            What is to be written, in the same layout: integers of shape (T', B), or real numbers of
            shape (T', B, O).
        lengths : array_like of int of shape (B,), optional
            Number of steps of each x.
        target_lengths : array_like of int of shape (B,), optional
            Number of steps of each target; by default what the method `target_lengths` returns.

        Returns
        -------
        y : ndarray of shape (T', B, C) or (T', B, O)
            Scores of the classes, or values; what lies past a target's end has no meaning.
        tape : Tape
            For one call of `backward`.

        Raises
        ------
        TypeError
            When x or target does not hold what the model takes.
        ValueError
            When a shape, a class or a length does not fit.
        """
        with PutBack(self._generators().values()):
            y, saved = self._teach(x, target, lengths, target_lengths, True)
        return y, Tape(self, saved, y.shape, y.dtype, [])

    def backward(
        self, tape: Tape, dy: npt.ArrayLike, *, input_gradient: bool = True
    ) -> FloatArray | None:
        """Add the gradients of all parameters to ``grads`` and return that of x.

        Parameters, results and errors are those of `Layer.backward`.
        """
        saved, gradient = self._spend(tape, dy)
        dh_0s: list[FloatArray | None] = []
        self.decoder._carry_backward(saved.decoder, gradient, False, None, dh_0s)
        dh_ns = self._bridge.back(dh_0s[::-1])
        return self.encoder._carry_backward(saved.encoder, None, input_gradient, dh_ns, None)

    def _teach(
        self,
        x: npt.ArrayLike,
        target: npt.ArrayLike,
        lengths: npt.ArrayLike | None,
        target_lengths: npt.ArrayLike | None,
        training: bool,
    ) -> tuple[FloatArray, _Saved]:
        where, classes = "EncoderDecoder.forward", self.decoder.input_classes is not None
        state, saved_encoder = self._read(x, lengths, training)
        given: Array = (
            as_integers(where, "target", target)
            if classes
            else as_real(where, "target", target, self.dtype)
        )
        batch = state[0].shape[1:-1]  # (B,), or () unbatched
        time = self._time_axis(given)
        shape = list(given.shape)
        steps = shape.pop(time) if shape else 0
        if shape != [*batch, *self._start.shape]:
            raise ValueError(
                f"{where}: target must have as many sequences as x and values as start, "
                f"{(*batch, *self._start.shape)} besides time, got shape {given.shape}"
            )
        if steps == 0:
            raise ValueError(
                f"{where}: target must hold at least one step, got shape {given.shape}"
            )
        if target_lengths is None:
            ends = self.target_lengths(given)
        else:
            ends = as_lengths(where, target_lengths, steps, batch, "target_lengths").reshape(batch)
        # What the decoder reads: start, for which a narrow dtype may have no room, then the target
        # without its last step.
        shifted = np.empty(given.shape, np.int64 if classes else given.dtype)
        by_time, target_by_time = np.moveaxis(shifted, time, 0), np.moveaxis(given, time, 0)
        by_time[:1] = self._start
        by_time[1:] = target_by_time[:-1]
        if ends is not None:  # padding may be anything, start is something the decoder can read
            by_time[np.greater_equal.outer(np.arange(steps), ends)] = self._start
        y, saved = self.decoder._carry_forward(shifted, ends, training, iter(state), [])
        return y, _Saved(saved_encoder, saved)

    def _leaves(self) -> Iterator[Module]:
        """Yield the modules of the encoder, then those of the decoder."""
        yield from self.encoder._leaves()
        yield from self.decoder._leaves()

    def _read(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None, training: bool
    ) -> tuple[list[FloatArray], list[Any]]:
        """Return h_0 of the decoder's recurrent layers and what the encoder kept."""
        h_ns: list[FloatArray] = []
        _, saved = self.encoder._carry_forward(x, lengths, training, None, h_ns)
        return self._bridge.across(h_ns), saved

    def _time_axis(self, target: Array) -> int:
        """Return which axis of a target is time."""
        return 1 if self.batch_first and target.ndim - self._start.ndim == 2 else 0

    # In use

    def generate(
        self,
        x: npt.ArrayLike,
        steps: int,
        *,
        lengths: npt.ArrayLike | None = None,
        temperature: float | None = None,
        rng: Random = None,
    ) -> Array:
        """Read x, then write: what comes out of one step goes into the next.

        Parameters
        ----------
        x, lengths
            As for `forward`; or x is a list of sequences, (T_n,) or (T_n, I).
        steps : int
            How many to write at most.
        temperature : float, optional
            For classes: 0, the default, takes the most probable class at each step; above 0 they
            are drawn from softmax(y / temperature), as in `Sequential.generate`.
        rng : int, numpy.random.Generator or None
            Where classes are drawn from.

        Returns
        -------
        ndarray
            Integers of shape (steps, B), (B, steps) or (steps,), with ``end`` where a sequence is
            over, or real numbers of shape (steps, B, O) and so on.

        Raises
        ------
        TypeError, ValueError
            As in `forward`; when a temperature is negative or given for real numbers.
        FloatingPointError
            When the model gives NaN or infinity.
        """
        where = "EncoderDecoder.generate"
        steps = as_size(where, "steps", steps)
        count = self.decoder.input_classes
        heat = as_temperature(where, temperature, count is not None, 0.0)
        time = 1 if self.batch_first else 0
        reads_classes = self.encoder.input_classes is not None
        x, lengths = unlisted(where, x, lengths, reads_classes, time)
        state, _ = self._read(x, lengths, False)
        batched = state[0].ndim == 3
        if not batched:
            state = [h_0[:, np.newaxis] for h_0 in state]
        B = state[0].shape[1]
        if B == 0:
            raise ValueError(f"{where}: x must hold at least one sequence, got {np.shape(x)}")
        start = np.broadcast_to(self._start, (B, *self._start.shape))
        y, state = self.decoder._one_step(start, state)
        if count is None:
            feed = value_feed(where, start.shape[1])
        else:
            feed = class_feed(where, count, heat, rng, self.decoder)
        step = self.decoder._one_step
        written = write(where, step, feed, y, state, steps=steps, end=self.end)
        return np.moveaxis(written, 1, time) if batched else np.asarray(written[0])
