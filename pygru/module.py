# SPDX-License-Identifier: MIT
"""What every layer and model is: named parameters over one flat buffer, forward, backward, a tape.

There is no autograd engine. ``forward`` returns its result and a `Tape`; ``backward`` takes the
tape and the gradient of the loss with respect to that result, adds to ``grads`` and returns the
gradient with respect to the input. How parameters lie in memory is told in `pygru.parameters`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from weakref import ReferenceType

import numpy as np
import numpy.typing as npt

from pygru import checks
from pygru.checks import FloatArray, FloatDType, as_buffer, as_real, as_state
from pygru.locks import give_lock
from pygru.parameters import Arrays, Parameter, StateDict, check_size, fitting, overwrite
from pygru.tape import Tape, as_pair, check_tape
from pygru.widths import ANY

__all__ = ["Config", "Layer", "Module", "State"]

Config: TypeAlias = dict[str, Any]
# h_0 or h_n (L*D, B, H) of every recurrent module of a model, one after another
State: TypeAlias = Sequence["npt.ArrayLike | None"]

_FLOAT32 = np.dtype(np.float32)


class Module(ABC):
    """Base of every layer and model.

    A subclass calls ``super().__init__`` with its parameters, if it has any, and their dtype,
    fills ``params``, and implements `config`.

    Attributes
    ----------
    batch_first : bool or None
        Whether time is axis 1 (True) or axis 0 (False) of what goes in; None where the module
        does not look at time.
    keeps_time : bool
        Whether y has the time axis of x, where x has one. ``lengths`` are of that axis: where it
        ends, so do they.

    Examples
    --------
    >>> linear = pygru.Linear(3, 2, rng=0)
    >>> linear.flat_params.shape, {name: w.shape for name, w in linear.params.items()}
    ((8,), {'weight': (2, 3), 'bias': (2,)})
    """

    batch_first: bool | None = None
    # How many axes one sample has, going in and coming out: 2 for (T, K), 1 for (K,). None where
    # the module does not look at time. An integer that stands for a vector counts as the vector.
    _axes: tuple[int, int] | None = None
    keeps_time: bool = True
    _widths = ANY  # of the last axis of x and y; a subclass's own `_apply` may give another
    _owner: ReferenceType[Module] | None = None  # the model that owns the flat buffer
    # What copies and pickles leave to `_bind`. They carry the flat buffers; views would be separate
    # arrays that no longer follow the buffer.
    _made_anew: tuple[str, ...] = ("_params", "_grads", "_adding", "_owner")
    _adding: threading.Lock  # held while adding to the gradients
    # The argument that says which of several functions of the same parameters this is.
    _variant: str | None = None
    # Those of the constructor: set later, they would tell of another function than is computed.
    _arguments: frozenset[str] = frozenset()

    def __init__(self, parameters: Sequence[Parameter] = (), dtype: FloatDType = _FLOAT32) -> None:
        size = check_size(type(self).__name__, parameters, dtype)
        self._parameters = tuple(parameters)
        self._bind(np.zeros(size, dtype), np.zeros(size, dtype))

    def __setattr__(self, name: str, value: Any) -> None:
        now, who = self.__dict__.get(name), type(self).__name__
        if name in self.__dict__.get("_params", ()):
            raise AttributeError(f"{who}: {name} must be set by params[{name!r}] = values")
        if name in self._arguments and now is not None and now != value:
            raise AttributeError(f"{who}: {name} must stay {now!r}, as it was made, got {value!r}")
        super().__setattr__(name, value)

    # Parameters

    @property
    def dtype(self) -> FloatDType:
        """Precision of the parameters and of everything computed."""
        return self._flat_params.dtype

    @property
    def flat_params(self) -> FloatArray:
        """All parameters one after another, (P,), for optimisers; assigning writes into it."""
        return self._flat_params

    @flat_params.setter
    def flat_params(self, values: npt.ArrayLike) -> None:
        overwrite(type(self).__name__, "flat_params", self._flat_params, values)

    @property
    def flat_grads(self) -> FloatArray:
        """All gradients one after another, (P,), as in `flat_params`."""
        return self._flat_grads

    @flat_grads.setter
    def flat_grads(self, values: npt.ArrayLike) -> None:
        overwrite(type(self).__name__, "flat_grads", self._flat_grads, values)

    @property
    def params(self) -> Arrays:
        """Name -> array, a view into `flat_params`; assigning to a name writes into it."""
        return self._params

    @property
    def grads(self) -> Arrays:
        """Name -> gradient of the loss, a view into `flat_grads`; ``backward`` adds to it."""
        return self._grads

    def zero_grad(self) -> None:
        """Set every gradient to 0."""
        self._flat_grads.fill(0.0)

    def _bind(self, flat_params: FloatArray, flat_grads: FloatArray) -> None:
        """Use these two (P,) arrays as parameters and gradients, whatever they hold."""
        self._flat_params, self._flat_grads = flat_params, flat_grads
        self._params = Arrays(self._views(flat_params))
        self._grads = Arrays(self._views(flat_grads))
        give_lock(self)

    def _views(self, flat: FloatArray) -> dict[str, FloatArray]:
        views, start = {}, 0
        for p in self._parameters:
            views[p.name] = p.view(flat[start : start + p.size])
            start += p.size
        return views

    def __copy__(self) -> Module:
        """Return a deep copy: two modules over one flat buffer would move it from each other."""
        from copy import deepcopy  # here, so that importing pygru does not wait for it

        return deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in self._made_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind(as_buffer(state["_flat_params"]), as_buffer(state["_flat_grads"]))

    # Weights in and out

    def state_dict(self) -> StateDict:
        """Return copies of all parameters, C-contiguous, by PyTorch's names.

        Returns
        -------
        StateDict
            A dict of arrays that remembers which function (reset variant, nonlinearity) they
            belong to.

        Examples
        --------
        >>> {name: w.shape for name, w in pygru.Linear(3, 2).state_dict().items()}
        {'weight': (2, 3), 'bias': (2,)}
        """
        return StateDict({name: w.copy() for name, w in self._params.items()}, self._functions())

    def load_state_dict(self, state_dict: Mapping[str, npt.ArrayLike]) -> None:
        """Overwrite all parameters; on any error none.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            From `state_dict` of a module like this one, or arrays under PyTorch's names with its
            gate order r, z, n. Other real dtypes are cast.

        Raises
        ------
        TypeError
            When it is not a mapping.
        ValueError
            With entries that are missing, unknown, misshapen or too large for the dtype, or when
            the weights are known to belong to another function, such as the other reset variant. A
            plain dict does not say what its weights belong to: PyTorch's belong to
            ``reset="after"``.

        Examples
        --------
        >>> a, b = pygru.Linear(3, 2, rng=0), pygru.Linear(3, 2, rng=1)
        >>> b.load_state_dict(a.state_dict())
        >>> bool(np.array_equal(a.flat_params, b.flat_params))
        True
        """
        where = f"{type(self).__name__}.load_state_dict"
        as_state(where, state_dict)
        arrays, problems = fitting(where, self._params, state_dict, self.dtype)
        functions = self._functions()
        for prefix, theirs in getattr(state_dict, "functions", {}).items():
            ours = functions.get(prefix, theirs)
            if ours != theirs:
                at = f"module {prefix.removesuffix('.')} has" if prefix else "this layer has"
                problems.append(f"the weights belong to {theirs}, {at} {ours}")
        if problems:
            told = "; ".join(checks.first_few(problems))
            raise ValueError(f"{where}: the weights do not fit: {told}")
        flat = np.empty_like(self._flat_params)  # what is given may be views of the buffer itself
        for name, view in self._views(flat).items():
            view[...] = arrays[name]
        self._flat_params[...] = flat

    def rng_state(self) -> dict[str, Any]:
        """Return the state of every generator that ``forward`` draws from (dropout)."""
        return {name: rng.bit_generator.state for name, rng in self._generators().items()}

    def load_rng_state(self, state: Mapping[str, Any]) -> None:
        """Go on drawing where `rng_state` was taken.

        Raises
        ------
        TypeError, ValueError
            When it is not the state of a module like this one. Nothing has been changed then.
        """
        where, generators = f"{type(self).__name__}.load_rng_state", self._generators()
        if as_state(where, state, "state").keys() != generators.keys():
            raise ValueError(
                f"{where}: state must be of the generators {sorted(generators)}, "
                f"got {sorted(state, key=str)}"
            )
        for name, rng in generators.items():
            checks.check_generator_state(where, f"state[{name!r}]", rng, state[name])
        for name, rng in generators.items():
            rng.bit_generator.state = state[name]

    # What a subclass says about itself

    @abstractmethod
    def config(self) -> Config:
        """Return the constructor arguments of a module like this one, as JSON can hold them."""

    @classmethod
    def _from_config(cls, config: Config) -> Module:
        """Make a module of its config, in which other modules are no descriptions any more."""
        return cls(**config)

    def _functions(self) -> dict[str, str]:
        """Return prefix -> which of several functions of the same parameters this is."""
        name = self._variant
        return {} if name is None else {"": f"{name}={getattr(self, name)!r}"}

    def _generators(self) -> dict[str, np.random.Generator]:
        """Return prefix -> what `forward` draws from."""
        return {}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"

    def _spend(self, tape: Tape, gradient: npt.ArrayLike, of: str = "y") -> tuple[Any, FloatArray]:
        """Check tape and gradient, use up the tape; return what forward kept and the gradient."""
        check_tape(self, tape)
        array = self._check_gradient(tape, gradient, of)
        return tape.spend(), array

    def _check_gradient(self, tape: Tape, gradient: npt.ArrayLike, of: str = "y") -> FloatArray:
        where = f"{type(self).__name__}.backward"
        array = as_real(where, f"d{of}", gradient, tape.dtype)
        if array.shape != tape.shape:
            raise ValueError(
                f"{where}: d{of} must have the shape of {of}, {tape.shape}, got {array.shape}"
            )
        return array


class Layer(Module):
    """A module with one input and one output: everything but the recurrent layers.

    A subclass implements `_apply` and `_pull` besides `config`, and says ``keeps_time = False``
    where its y has no time axis, or another one than x.

    Examples
    --------
    >>> issubclass(pygru.Sequential, pygru.Layer), issubclass(pygru.GRU, pygru.Layer)
    (True, False)
    """

    def __call__(self, x: npt.ArrayLike, *, lengths: npt.ArrayLike | None = None) -> FloatArray:
        """Inference: y, without a tape and without dropout.

        Parameters and errors are those of `forward`.
        """
        return as_pair(self, self._apply(x, lengths, False))[0]

    def forward(
        self, x: npt.ArrayLike, *, lengths: npt.ArrayLike | None = None
    ) -> tuple[FloatArray, Tape]:
        """Compute y and keep what `backward` needs.

        Parameters
        ----------
        x : array_like
            In the shape the class describes. It is never written to; neither it, nor y, nor a
            parameter must be changed before `backward`.
        lengths : array_like of shape (B,), optional
            Number of steps of each sequence; used where time matters, ignored elsewhere.

        Returns
        -------
        y : ndarray
        tape : Tape
            For one call of `backward`.

        Raises
        ------
        TypeError
            When x does not hold real numbers or lengths no integers.
        ValueError
            When a shape or a length does not fit.
        """
        y, saved = as_pair(self, self._apply(x, lengths, True))
        return y, Tape(self, saved, y.shape, y.dtype, [])

    def backward(
        self, tape: Tape, dy: npt.ArrayLike, *, input_gradient: bool = True
    ) -> FloatArray | None:
        """Add the gradients of all parameters to ``grads`` and return that of x.

        Several threads may call it at once: each adds in turn, so that only the last bits of the
        sums, which depend on the order, can differ from run to run.

        Parameters
        ----------
        tape : Tape
            From `forward` of this module; it serves once.
        dy : array_like
            Gradient of the loss with respect to y, in the shape of y.
        input_gradient : bool
            False when nobody needs dx.

        Returns
        -------
        dx : ndarray or None
            Gradient of the loss with respect to x; None when not wanted, or when x is integer.

        Raises
        ------
        ValueError
            When dy does not have the shape of y (the tape can still be used) or the tape is of
            another module.
        RuntimeError
            When the tape was used before.
        """
        saved, gradient = self._spend(tape, dy)
        return self._pull(saved, gradient, input_gradient)

    @property
    def input_classes(self) -> int | None:
        """Number of classes that x holds integers for; None where x is real numbers."""
        return None

    # What a subclass implements. Shapes are the user's here: nothing has been checked.

    @abstractmethod
    def _apply(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None, training: bool, /
    ) -> tuple[FloatArray, Any]:
        """Return y and, when training, what `_pull` needs."""

    @abstractmethod
    def _pull(self, saved: Any, dy: FloatArray, input_gradient: bool, /) -> FloatArray | None:
        """Add to grads and return dx, or None when it is not wanted; dy has the shape of y."""

    # What a model composes. The state of a model is one flat list however its modules are nested:
    # h_0 comes from an iterator, and h_n goes to the end of a list. Backward visits the modules in
    # reverse order: dh_n comes from the end of a list, and dh_0 goes to the end of another.

    def _carry_forward(
        self,
        x: npt.ArrayLike,
        lengths: npt.ArrayLike | None,
        training: bool,
        _h_0s: Iterator[npt.ArrayLike | None] | None,
        _h_ns: list[FloatArray],
        /,
    ) -> tuple[FloatArray, Any]:
        return as_pair(self, self._apply(x, lengths, training))

    def _carry_backward(
        self,
        saved: Any,
        dy: FloatArray | None,
        input_gradient: bool,
        _dh_ns: list[FloatArray | None] | None,
        _dh_0s: list[FloatArray | None] | None,
        /,
    ) -> FloatArray | None:
        return None if dy is None else self._pull(saved, dy, input_gradient)
