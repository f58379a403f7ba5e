# SPDX-License-Identifier: MIT
"""Modules in a row over one flat buffer, with the state of the recurrent ones in and out."""

from __future__ import annotations

from collections.abc import Iterator
from reprlib import repr as short
from typing import Any

import numpy as np
import numpy.typing as npt

from pygru.checks import FloatArray, Random, as_array, as_real, as_size
from pygru.composite import Composite, PutBack
from pygru.final_state import plan
from pygru.generation import as_prompt, as_temperature, class_feed, value_feed, write
from pygru.module import Config, Layer, Module, State
from pygru.pooling import LastStep, TimeLayer
from pygru.recurrent import Recurrent
from pygru.registry import describe, is_own, savable
from pygru.tape import Tape, passed_down
from pygru.widths import ANY, Widths, chained

__all__ = ["Sequential"]


@savable
class Sequential(Composite, Layer):
    """Modules in a row: each reads what the one before it gives; of a recurrent layer, y.

    The model owns one flat buffer. Its modules' parameters move into it and are named
    ``"{index}.{name}"``, so a module belongs to one model only.

    Parameters
    ----------
    *modules : GRU, RNN or Layer
        Those with parameters all have the same dtype, and those that look at time the same layout;
        one that does not say, as `LastStep` need not, takes that of the others.

    Raises
    ------
    TypeError
        When something is not one of these.
    ValueError
        When a module occurs twice or belongs to another model, when dtypes or layouts differ, when
        one reads vectors of another size than the modules before it give, when one that reads
        sequences comes after one that gives a single vector, or the reverse, or when `BothEnds`
        comes after a layer of one direction.

    Examples
    --------
    >>> model = pygru.Sequential(
    ...     pygru.GRU(1, 64, batch_first=True, rng=0), pygru.LastStep(), pygru.Linear(64, 1, rng=1)
    ... )
    >>> x = np.zeros((2, 5, 1), np.float32)
    >>> y, tape = model.forward(x)
    >>> y.shape, model.backward(tape, np.ones_like(y)).shape
    ((2, 1), (2, 5, 1))
    >>> model.params["2.weight"].shape, model.flat_params.size
    ((1, 64), 12929)
    """

    def __init__(self, *modules: Layer | Recurrent) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, (Layer, Recurrent)):
                hint = "; give its layers one by one" * isinstance(module, (list, tuple))
                raise TypeError(
                    f"Sequential: module {i} must be a layer with one input and one output, "
                    f"got {module!r}{hint}"
                )
        self._modules, self._steps = modules, plan(modules)
        super().__init__({str(i): module for i, module in enumerate(modules)})
        self._recurrent = tuple(m for m in self._leaves() if isinstance(m, Recurrent))
        self.keeps_time = all(step.keeps_time for step in self._steps)
        # Below the lowest step with parameters, only the caller can want a gradient.
        sizes = [step.flat_params.size for step in self._steps]
        self._lowest = next((i for i, size in enumerate(sizes) if size), len(sizes))
        leaves = [*self._leaves()]
        below = leaves[: next((i for i, leaf in enumerate(leaves) if leaf.flat_params.size), 0)]
        self._casts = bool(below) and all(map(is_own, below)) and self.input_classes is None

    def config(self) -> Config:
        """Return classes and constructor arguments of the modules, as JSON can hold them."""
        return {"modules": [describe(module) for module in self._modules]}

    @classmethod
    def _from_config(cls, config: Config) -> Module:
        if set(config) != {"modules"} or not isinstance(config["modules"], list):
            raise ValueError(f"config of Sequential must be a list of modules, got {short(config)}")
        return cls(*config["modules"])

    def _check_order(self, modules: list[Module]) -> None:
        self._axes, self._widths = self._chained_axes(modules), self._chained_widths(modules)

    def _chained_axes(self, modules: list[Module]) -> tuple[int, int] | None:
        """Return the `_axes` of all; refuse a layer that would take sequences for steps."""
        reads = gives = None
        for i, module in enumerate(modules):
            if module._axes is None:
                continue
            if gives is not None and module._axes[0] != gives:
                what = {1: "one vector", 2: "one vector per step"}
                hint = ": a RepeatVector makes a sequence of a vector" if gives == 1 else ""
                raise ValueError(
                    f"{self._label(str(i), module)} must read {what[gives]} of each sequence, "
                    "which is what the modules before it give, got one that reads "
                    f"{what[module._axes[0]]}{hint}"
                )
            reads = module._axes[0] if reads is None else reads
            gives = module._axes[1]
        return None if reads is None or gives is None else (reads, gives)

    def _chained_widths(self, modules: list[Module]) -> Widths:
        """Return the `_widths` of all; refuse a module that reads another width than it gets."""
        try:
            return chained(
                (f"module {i} ({type(module).__name__})", module._widths if is_own(module) else ANY)
                for i, module in enumerate(modules)
            )
        except ValueError as error:
            raise ValueError(f"Sequential: {error}") from None

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        return self._modules[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)

    def __repr__(self) -> str:
        lines = [f"    {module!r},".replace("\n", "\n    ") for module in self._modules]
        return "\n".join(["Sequential(", *lines, ")"])

    # Forward and backward

    @property
    def recurrent(self) -> tuple[Recurrent, ...]:
        """The recurrent modules, those of models inside this one included, in the order of state.

        Examples
        --------
        >>> model = pygru.Sequential(pygru.Linear(1, 3), pygru.RNN(3, 4), pygru.GRU(4, 5))
        >>> [type(module).__name__ for module in model.recurrent]
        ['RNN', 'GRU']
        """
        return self._recurrent

    @property
    def input_classes(self) -> int | None:
        """Number of classes that x holds integers for; None where x is real numbers."""
        first = next(self._leaves(), None)
        return first.input_classes if isinstance(first, Layer) else None

    def _leaves(self) -> Iterator[Layer | Recurrent]:
        """Yield the modules, those of models inside this one in place of the models."""
        for module in self._modules:
            if isinstance(module, Sequential):
                yield from module._leaves()
            else:
                yield module

    def forward(
        self,
        x: npt.ArrayLike,
        *,
        lengths: npt.ArrayLike | None = None,
        state: State | None = None,
    ) -> tuple[FloatArray, Tape]:
        """Compute y and keep what `backward` needs; go on from a state if one is given.

        Parameters
        ----------
        x, lengths
            As for every layer.
        state : sequence of array_like of shape (L*D, B, H), optional
            h_0 of every recurrent module, in the order of `recurrent`; None among them, or in
            place of all, is 0. `backward` gives no gradient with respect to it, which makes
            training on consecutive pieces of long series truncated BPTT.

        Returns
        -------
        y : ndarray
        tape : Tape
            For one call of `backward`; ``tape.state`` is the state to go on from, h_n of every
            recurrent module.

        Raises
        ------
        TypeError
            When x does not hold real numbers or lengths no integers.
        ValueError
            When a shape or a length does not fit, or a state is given to a layer that reads
            sequences backwards: its second direction has no past to be carried.

        References
        ----------
        R. Williams, J. Peng, "An efficient gradient-based algorithm for on-line training of
        recurrent network trajectories", Neural Computation 2, 1990.

        Examples
        --------
        >>> model = pygru.Sequential(pygru.GRU(1, 8, rng=0), pygru.Linear(8, 1, rng=1))
        >>> series = np.zeros((200, 4, 1), np.float32)  # (T, B, I)
        >>> state = None
        >>> for piece in np.split(series, 10):
        ...     y, tape = model.forward(piece, state=state)
        ...     _ = model.backward(tape, y, input_gradient=False)
        ...     state = tape.state
        >>> [h_n.shape for h_n in state]
        [(1, 4, 8)]
        """
        h_0s = None if state is None else self._check_carried("forward", state)
        h_ns: list[FloatArray] = []
        with PutBack(self._generators().values()):
            y, saved = self._carry_forward(x, lengths, True, h_0s, h_ns)
        return y, Tape(self, saved, y.shape, y.dtype, h_ns)

    def run(
        self,
        x: npt.ArrayLike,
        state: State | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
    ) -> tuple[FloatArray, list[FloatArray]]:
        """Inference from a state: y and the state to go on from.

        Parameters and errors are those of `forward`.

        Examples
        --------
        >>> model = pygru.Sequential(pygru.GRU(1, 8, rng=0), pygru.Linear(8, 1, rng=1))
        >>> x = np.linspace(0.0, 1.0, 6).reshape(6, 1)
        >>> y, state = model.run(x[:4])
        >>> rest, state = model.run(x[4:], state)
        >>> bool(np.array_equal(np.concatenate([y, rest]), model(x)))
        True
        """
        h_0s = None if state is None else self._check_carried("run", state)
        h_ns: list[FloatArray] = []
        y, _ = self._carry_forward(x, lengths, False, h_0s, h_ns)
        return y, h_ns

    def generate(
        self,
        prompt: npt.ArrayLike,
        steps: int,
        *,
        lengths: npt.ArrayLike | None = None,
        temperature: float | None = None,
        rng: Random = None,
    ) -> npt.NDArray[Any]:
        """Read a prompt, then write on: what comes out of one step goes into the next.

        Parameters
        ----------
        prompt : array_like
            In the shape of x, at least one step, or a list of sequences, (T_n,) or (T_n, I), each
            a prompt: integers for a model that begins with an `Embedding` or `OneHot`, else real
            numbers, as many per step as the model gives.
        steps : int
            How many to write.
        lengths : array_like of shape (B,), optional
            Number of steps of each prompt, at least 1.
        temperature : float, optional
            For classes, drawn from softmax(y / temperature), of log y behind a `Softmax`: 1, the
            default, draws by the model's own probabilities, less is more cautious, 0 the likeliest.
        rng : int, numpy.random.Generator or None
            Where the classes are drawn from.

        Returns
        -------
        ndarray
            What was written, without the prompt and in its layout: integers of shape (steps, B),
            (B, steps) or (steps,), or real numbers of shape (steps, B, I) and so on.

        Raises
        ------
        TypeError
            When the prompt does not hold what the model takes.
        ValueError
            When the prompt is empty or of the wrong shape, the model gives other than what it
            takes, a temperature is negative or given for real numbers, or the model looks at more
            than the past, as two directions or a mean over time do.
        FloatingPointError
            When the model gives NaN or infinity.

        Examples
        --------
        >>> model = pygru.Sequential(
        ...     pygru.Embedding(10, 4, rng=0), pygru.GRU(4, 16, rng=1), pygru.Linear(16, 10, rng=2)
        ... )
        >>> model.generate([3, 1, 4], 5, temperature=0.8, rng=0).shape
        (5,)

        A forecast feeds back real values:

        >>> model = pygru.Sequential(
        ...     pygru.GRU(1, 8, rng=0), pygru.LastStep(), pygru.Linear(8, 1, rng=1)
        ... )
        >>> model.generate(np.zeros((20, 1)), 50).shape
        (50, 1)
        """
        where, time = "Sequential.generate", 1 if self.batch_first else 0
        steps = as_size(where, "steps", steps)
        K = self.input_classes
        classes = K is not None
        heat = as_temperature(where, temperature, classes, 1.0)
        for module in self._leaves():
            if isinstance(module, Recurrent) and module.bidirectional:
                raise ValueError(
                    f"{where}: the model must look at the past alone, "
                    f"got a {type(module).__name__} with bidirectional=True"
                )
            if isinstance(module, TimeLayer) and not isinstance(module, LastStep):
                raise ValueError(
                    f"{where}: the model must look at one step after another, "
                    f"got one with {type(module).__name__}"
                )
        x, ends, batched = as_prompt(where, prompt, lengths, classes, self.dtype, time)
        feed = value_feed(where, x.shape[2]) if K is None else class_feed(where, K, heat, rng, self)
        y, state = self.run(x, [None] * len(self._recurrent), lengths=ends)
        if y.ndim == 3:
            y = LastStep(batch_first=self.batch_first)(y, lengths=ends)
        written = write(where, self._one_step, feed, y, state, steps=steps)
        return np.moveaxis(written, 1, time) if batched else np.asarray(written[0])

    def _one_step(self, x: npt.NDArray[Any], state: State) -> tuple[FloatArray, list[FloatArray]]:
        """Run one step, (B,) classes or (B, I), from a state: y (B, O) and the state after it."""
        y, after = self.run(np.expand_dims(x, 1 if self.batch_first else 0), state)
        return y.reshape(len(x), -1), after

    def _check_carried(self, method: str, state: State) -> Iterator[npt.ArrayLike | None]:
        """Return the entries of a state one after another."""
        where, recurrent = f"Sequential.{method}", self.recurrent
        if not isinstance(state, (list, tuple)):
            raise TypeError(
                f"{where}: state must be a list of one h_0 per recurrent module, "
                f"got {type(state).__name__}"
            )
        if len(state) != len(recurrent):
            raise ValueError(
                f"{where}: state must hold one h_0 per recurrent module, {len(recurrent)}, "
                f"got {len(state)}"
            )
        for module in recurrent:
            if module.bidirectional:
                raise ValueError(
                    f"{where}: state must be None where a layer reads sequences backwards, "
                    f"got one for a {type(module).__name__} with bidirectional=True"
                )
        return iter(state)

    def _apply(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None, training: bool, /
    ) -> tuple[FloatArray, list[Any]]:
        return self._carry_forward(x, lengths, training, None, [])

    def _carry_forward(
        self,
        x: npt.ArrayLike,
        lengths: npt.ArrayLike | None,
        training: bool,
        h_0s: Iterator[npt.ArrayLike | None] | None,
        h_ns: list[FloatArray],
        /,
    ) -> tuple[FloatArray, list[Any]]:
        """Run one step after another; see `Layer._carry_forward`."""
        saved = []
        if self._casts:  # what is below the parameters computes in their precision, too
            x = as_real("Sequential.forward", "x", x, self.dtype)
        for step in self._steps:
            x, kept = step._carry_forward(x, lengths, training, h_0s, h_ns)
            saved.append(kept)
            if not step.keeps_time:
                lengths = None  # they are of a time axis that ends here
        if not saved:  # nothing has looked at x yet
            x = as_array("Sequential.forward", "x", x)
        return x, saved  # type: ignore[return-value]

    def _pull(self, saved: list[Any], dy: FloatArray, input_gradient: bool, /) -> FloatArray | None:
        return self._carry_backward(saved, dy, input_gradient, None, None)

    def _carry_backward(
        self,
        saved: list[Any],
        dy: FloatArray | None,
        input_gradient: bool,
        dh_ns: list[FloatArray | None] | None,
        dh_0s: list[FloatArray | None] | None,
        /,
    ) -> FloatArray | None:
        """Back-propagate through one step after another; see `Layer._carry_backward`."""
        gradient = dy
        for i in reversed(range(0 if input_gradient else self._lowest, len(self._steps))):
            step, needed = self._steps[i], i > self._lowest
            dx = step._carry_backward(saved[i], gradient, input_gradient or needed, dh_ns, dh_0s)
            gradient = passed_down(step, gradient, dx) if needed else dx
        return gradient if input_gradient else None
