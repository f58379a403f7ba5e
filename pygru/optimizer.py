# SPDX-License-Identifier: MIT
"""What all optimisers share: one flat array of parameters, one of gradients, and state for them.

State and settings come in from files, too; whatever does not fit is refused before anything is
changed.

Depends on NumPy and `checks`. An optimiser belongs to one model: its state has that model's size.
"""

from __future__ import annotations

import math
import warnings
from reprlib import repr as short
from typing import Any, TypeAlias
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt

from pygru import checks

__all__ = ["BLOCK", "Optimizer", "begin_with"]

Array: TypeAlias = npt.NDArray[Any]

# Elements updated at a time: parameters, gradients, two state arrays and the scratch array are
# 320 KiB in float32, which a second-level cache of 512 KiB holds.
BLOCK = 16384

# These settings, whoever changes them, are at least 0 and less than this.
BELOW = {
    **dict.fromkeys(("lr", "eps", "weight_decay"), math.inf),
    **dict.fromkeys(("momentum", "betas", "alpha"), 1.0),
}


class Optimizer:
    """What all optimisers share: counting, state, saving and loading it.

    A subclass names its state arrays in `slots`, those of them that are never negative in
    `squares`, and its scalars in `settings`; and updates one block in `_update`.

    Attributes
    ----------
    lr : float
        The learning rate; like all settings it may be changed between steps.
    steps : int
        Steps taken so far.

    Raises
    ------
    TypeError, ValueError
        When a setting is of the wrong kind, or out of its range: given, assigned or loaded.
    """

    settings: tuple[str, ...] = ("lr",)
    slots: tuple[str, ...] = ()
    squares: tuple[str, ...] = ()

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.steps = 0
        self._like: tuple[Any, Any] | None = None  # shape and dtype of the parameters
        self._state: tuple[Array, ...] | None = None
        self._scratch: Array = np.empty(0)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._scratch = checks.as_buffer(self._scratch)
        if self._state is not None:
            self._state = tuple(checks.as_buffer(array) for array in self._state)

    def __copy__(self) -> Optimizer:
        """Return a deep copy: two optimisers over one state would each undo the other's."""
        from copy import deepcopy  # here, so that importing pygru does not wait for it

        return deepcopy(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.settings and (name in BELOW or isinstance(getattr(self, name, 0), bool)):
            value = self._setting(type(self).__name__, name, value)
        super().__setattr__(name, value)

    def step(self, flat_params: Array, flat_grads: Array) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        flat_params, flat_grads : contiguous arrays of shape (P,), both float32 or both float64
            `flat_grads` is only read. Whether it is finite, and its squares are, is not looked at
            here; `fit` does that.

        Raises
        ------
        ValueError
            When the arrays are not one-dimensional, differ in shape or dtype, are not contiguous
            and aligned, or have another size than before. Nothing has been changed then.
        TypeError
            When something is no array.
        """
        for array in (flat_params, flat_grads):
            if not isinstance(array, np.ndarray):
                raise TypeError(
                    f"{type(self).__name__}.step: flat_params and flat_grads must be arrays, "
                    f"got {type(array).__name__}"
                )
        like = (flat_params.shape, flat_params.dtype)
        if like != (flat_grads.shape, flat_grads.dtype):
            raise ValueError(
                f"{type(self).__name__}.step: flat_grads must be like flat_params, "
                f"{like[0]} {like[1]}, got {flat_grads.shape} {flat_grads.dtype}"
            )
        if not flat_params.flags.carray:
            raise ValueError(
                f"{type(self).__name__}.step: flat_params must be contiguous, aligned and "
                f"writeable, got strides {flat_params.strides}, "
                f"aligned={flat_params.flags.aligned} and writeable={flat_params.flags.writeable}"
            )
        if not (flat_grads.flags.c_contiguous and flat_grads.flags.aligned):
            raise ValueError(
                f"{type(self).__name__}.step: flat_grads must be contiguous and aligned, got "
                f"strides {flat_grads.strides} and aligned={flat_grads.flags.aligned}"
            )
        if like != self._like:
            self._begin(flat_params)
        state, scratch, size = self._state or (), self._scratch, flat_params.size
        vars(self)["steps"] += 1  # which is no setting: past __setattr__
        if size <= BLOCK:
            self._update(flat_params, flat_grads, scratch, *state)
            return
        for start in range(0, size, BLOCK):
            block = slice(start, min(start + BLOCK, size))
            self._update(
                flat_params[block],
                flat_grads[block],
                scratch[: block.stop - start],
                *(array[block] for array in state),
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later `load_state_dict` needs to go on exactly: copies.

        Returns
        -------
        dict
            "type" (str), "steps" (int), the settings by name (numbers), and after the first step
            the state arrays by name, (P,) each.

        Examples
        --------
        >>> import pygru
        >>> pygru.Adam(1e-3).state_dict()
        {'type': 'Adam', 'steps': 0, 'lr': 0.001, 'betas': [0.9, 0.999], 'eps': 1e-08}
        """
        result: dict[str, Any] = {"type": type(self).__name__, "steps": self.steps}
        for name in self.settings:
            value = getattr(self, name)
            result[name] = list(value) if isinstance(value, tuple) else value
        if self._state is not None:
            result.update({name: a.copy() for name, a in zip(self.slots, self._state, strict=True)})
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the settings are taken over, too.

        Raises
        ------
        ValueError
            When the state is of another type of optimiser, or an entry is missing, unknown,
            misshapen or out of range.
        TypeError
            When an entry is of the wrong kind. Nothing has been changed then, either.

        Examples
        --------
        >>> import pygru
        >>> first, second, params = pygru.Adam(1e-3), pygru.Adam(0.5), np.zeros(3)
        >>> first.step(params, np.ones(3))
        >>> second.load_state_dict(first.state_dict())
        >>> second.lr, second.steps
        (0.001, 1)

        In a file: ``np.savez(path, **optimizer.state_dict())``, and back with
        ``load_state_dict(dict(np.load(path)))``.
        """
        who = f"{type(self).__name__}.load_state_dict"
        theirs = checks.as_state(who, state_dict).get("type")
        if isinstance(theirs, np.ndarray) and theirs.shape == ():  # as np.savez makes it
            theirs = theirs.item()
        if not isinstance(theirs, str) or theirs != type(self).__name__:
            raise ValueError(
                f"{who}: state_dict must be of type {type(self).__name__!r}, got {short(theirs)}"
            )
        for name in state_dict.keys() & {"steps", *self.settings}:  # as np.savez makes them
            value, axes = state_dict[name], int(isinstance(getattr(self, name), tuple))
            if isinstance(value, np.ndarray) and value.ndim == axes:
                state_dict = state_dict | {name: value.tolist()}
        other = object.__new__(type(self))  # whose slots follow from its settings
        vars(other).update(vars(self) | {"_like": None, "_state": None})
        for name in state_dict.keys() & set(self.settings):
            setattr(other, name, self._setting(who, name, state_dict[name]))
        wanted = {"type", "steps", *self.settings}
        other.steps = checks.as_count(who, "steps", state_dict.get("steps", 0), checks.LARGEST)
        if other.steps:
            wanted.update(other.slots)
        checks.check_names(who, state_dict, wanted)
        arrays = {
            name: np.array(checks.as_array(who, name, state_dict[name]))
            for name in other.slots
            if name in wanted
        }
        shapes = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        if len(set(shapes.values())) > 1 or any(array.ndim != 1 for array in arrays.values()):
            raise ValueError(
                f"{who}: the state arrays must have one shape (P,) and dtype, got {shapes}"
            )
        for name, array in arrays.items():
            _check_floating(who, name, array)
            low = 0.0 if name in other.squares else -math.inf
            wrong = array[~(np.isfinite(array) & (array >= low))]
            if wrong.size:
                valid = "finite numbers" + " >= 0" * (low == 0.0)
                raise ValueError(f"{who}: {name} must hold {valid}, got {wrong[0]}")
        if arrays:
            first = next(iter(arrays.values()))
            other._allocate(first.shape, first.dtype)
            other._state = tuple(arrays.values())
        vars(self).update(vars(other))

    def _begin(self, params: Array) -> None:
        """Make state and scratch for the first parameters; refuse any others later."""
        where = f"{type(self).__name__}.step"
        if self._like is not None:
            raise ValueError(
                f"{where}: the state of this optimiser belongs to parameters "
                f"{self._like[0]} {self._like[1]}, got {params.shape} {params.dtype}; "
                "make another for another model"
            )
        _check_floating(where, "flat_params", params)
        self._allocate(params.shape, params.dtype)

    def _allocate(self, shape: tuple[int], dtype: np.dtype[Any]) -> None:
        self._like = (shape, dtype)
        self._state = tuple(np.zeros(shape, dtype) for _ in self.slots)
        self._scratch = np.empty(min(*shape, BLOCK), dtype)

    def _setting(self, where: str, name: str, value: Any) -> Any:
        """Return a setting if it is of the kind it has now, and in its range."""
        now = getattr(self, name, None)  # None: a number, given for the first time
        if isinstance(now, bool):
            if not isinstance(value, bool):
                raise TypeError(f"{where}: {name} must be True or False, got {value!r}")
            return value
        if isinstance(now, tuple):
            if not isinstance(value, (list, tuple)) or len(value) != len(now):
                raise TypeError(f"{where}: {name} must be {len(now)} numbers, got {value!r}")
            return tuple(self._number(where, f"{name}[{i}]", v) for i, v in enumerate(value))
        return self._number(where, name, value)

    def _number(self, where: str, name: str, value: Any) -> float:
        """Return a number if it is in the range of settings of this name."""
        high = BELOW.get(name.partition("[")[0], math.inf)
        if not 0 <= checks.as_number(where, name, value) < high:
            raise ValueError(f"{where}: {name} must satisfy 0 <= {name} < {high:g}, got {value}")
        return float(value)

    def _update(self, params: Array, grads: Array, scratch: Array, *state: Array) -> None:
        """Update one block in place; all arrays have one shape, `scratch` is free to use."""
        raise NotImplementedError

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
        return f"{type(self).__name__}({settings})"


def _check_floating(where: str, name: str, array: Array) -> None:
    if array.ndim != 1 or array.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"{where}: {name} must be a float32 or float64 array of shape (P,), "
            f"got {array.shape} {array.dtype}"
        )


# optimiser -> the parameters that a training with it was of last
_trained: WeakKeyDictionary[Optimizer, ReferenceType[Array]] = WeakKeyDictionary()


def begin_with(where: str, optimizer: Optimizer, flat_params: Array, resumes: bool) -> None:
    """Begin to train these parameters; warn the caller's caller where the last ones were others.

    Not where a checkpoint is about to replace the optimiser's state.
    """
    last = _trained.get(optimizer)
    if optimizer.steps and last is not None and last() is not flat_params and not resumes:
        warnings.warn(
            f"{where}: optimizer goes on after {optimizer.steps} steps on another model, with what "
            f"it kept of its gradients: make a new {type(optimizer).__name__} for each model",
            stacklevel=3,
        )
    _trained[optimizer] = ref(flat_params)
