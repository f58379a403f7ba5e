# SPDX-License-Identifier: MIT
"""What passes from ``forward`` to ``backward``, and what a layer has to hand on in each."""

from __future__ import annotations

from typing import Any

from pygru.checks import FloatArray, FloatDType

__all__ = ["Tape", "as_pair", "check_tape", "passed_down"]


class Tape:
    """What one call of ``forward`` keeps for one call of ``backward``; opaque to the user.

    A tape belongs to the module that made it and serves once. It refers to the arrays given to
    ``forward`` and returned by it, and to the parameters: none of these may be changed before
    ``backward``.

    Attributes
    ----------
    state : list of ndarray
        h_n of every recurrent module that ``forward`` ran: the state to go on from.

    Examples
    --------
    >>> linear = pygru.Linear(3, 2, rng=0)
    >>> y, tape = linear.forward(np.ones(3))
    >>> linear.backward(tape, np.ones(2)).shape
    (3,)
    >>> linear.backward(tape, np.ones(2))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    RuntimeError: Linear.backward: tape was already used by a backward; ...
    """

    __slots__ = ("_owner", "_saved", "dtype", "shape", "state")

    def __init__(
        self,
        owner: object,
        saved: object,
        shape: tuple[int, ...],
        dtype: FloatDType,
        state: list[FloatArray],
    ) -> None:
        self._owner = owner
        self._saved = [saved]  # empty when spent
        self.shape = shape  # of y, hence of dy
        self.dtype = dtype
        self.state = state

    def spend(self) -> Any:
        """Hand out what was kept and let go of it, to one of the threads that ask."""
        try:
            return self._saved.pop()
        except IndexError:
            raise self._spent() from None

    def _spent(self) -> RuntimeError:
        return RuntimeError(
            f"{type(self._owner).__name__}.backward: tape was already used by a backward; a tape "
            "serves once, call forward again for another"
        )


def check_tape(owner: object, tape: Any) -> None:
    """Raise unless ``tape`` is one that ``owner`` made and has not used."""
    where = f"{type(owner).__name__}.backward"
    if not isinstance(tape, Tape):
        raise TypeError(
            f"{where}: tape must be what forward returned (calling the module is inference and "
            f"makes none), got {type(tape).__name__}"
        )
    if tape._owner is not owner:
        raise ValueError(
            f"{where}: tape must come from forward of the same module, "
            f"got one of another {type(tape._owner).__name__}"
        )
    if not tape._saved:
        raise tape._spent()


def as_pair(layer: object, made: Any) -> tuple[FloatArray, Any]:
    """Return the two things that ``_apply`` makes; refuse y alone, which may have two rows."""
    if isinstance(made, tuple) and len(made) == 2:
        return made
    got = f"{len(made)} items" if isinstance(made, tuple) else type(made).__name__
    raise TypeError(f"{type(layer).__name__}._apply: must return (y, what _pull needs), got {got}")


def passed_down(module: Any, dy: FloatArray | None, dx: FloatArray | None) -> FloatArray | None:
    """Return dx; refuse a module that keeps dy from those below, which would never learn."""
    if dx is None and dy is not None and getattr(module, "input_classes", None) is None:
        raise TypeError(
            f"{type(module).__name__}._pull: must return dx, which the modules below it learn "
            "from, got None"
        )
    return dx
