# SPDX-License-Identifier: MIT
"""Learning-rate schedules: factors on the optimiser's learning rate, as a function of time.

`fit` calls ``schedule(epoch)`` before each step, where epoch counts from 0 and has a fraction (2.5
is half-way through the third epoch), and ``schedule.observe(value)`` after each epoch with the
validation loss, or the training loss without validation.

Depends on `checks`.
"""

from __future__ import annotations

import math
from typing import Any

from pygru import checks

__all__ = ["Constant", "CosineDecay", "ReduceOnPlateau", "Schedule", "StepDecay", "WarmUp"]


class Schedule:
    """Base of the schedules; most look at the time alone and have no state.

    Raises
    ------
    TypeError
        Each, when an argument is of the wrong kind.
    ValueError
        Each, when an argument is out of its range: counts of epochs and factors are above 0.
    """

    def __call__(self, epoch: float) -> float:
        """Return the factor, a finite number >= 0, at a time in epochs."""
        raise NotImplementedError

    def observe(self, value: float) -> None:
        """Take note of an epoch's loss."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a schedule remembers between epochs."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""

    def __repr__(self) -> str:
        told = (f"{name}={value!r}" for name, value in vars(self).items() if name[0] != "_")
        return f"{type(self).__name__}({', '.join(told)})"


class Constant(Schedule):
    """The optimiser's learning rate as it is.

    Examples
    --------
    >>> Constant()(7.5)
    1.0
    """

    def __call__(self, epoch: float) -> float:  # noqa: ARG002
        """Return 1."""
        return 1.0


class StepDecay(Schedule):
    """Multiply by `factor` every `every` epochs.

    Examples
    --------
    >>> schedule = StepDecay(every=10, factor=0.5)
    >>> schedule(0), schedule(9.9), schedule(10), schedule(25)
    (1.0, 1.0, 0.5, 0.25)
    """

    def __init__(self, every: float, factor: float = 0.1) -> None:
        self.every = checks.as_positive("StepDecay", "every", every)
        self.factor = checks.as_positive("StepDecay", "factor", factor)

    def __call__(self, epoch: float) -> float:
        """Return factor ** floor(epoch / every); 0 or infinity where that is beyond a float."""
        try:
            return float(self.factor ** math.floor(epoch / self.every))
        except OverflowError:  # of the power, or of the quotient
            return float(self.factor**math.inf)


class CosineDecay(Schedule):
    """Half a cosine from 1 down to `final` in `epochs` epochs, and `final` from then on.

    References
    ----------
    Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", without
    the restarts.

    Examples
    --------
    >>> schedule = CosineDecay(epochs=10)
    >>> schedule(0), schedule(5), schedule(10), schedule(11)
    (1.0, 0.5, 0.0, 0.0)
    """

    def __init__(self, epochs: float, final: float = 0.0) -> None:
        self.epochs = checks.as_positive("CosineDecay", "epochs", epochs)
        self.final = checks.as_probability("CosineDecay", "final", final)

    def __call__(self, epoch: float) -> float:
        """Return final + (1 - final) (1 + cos(pi epoch / epochs)) / 2."""
        part = min(1.0, epoch / self.epochs)
        return self.final + (1 - self.final) * round(0.5 * (1 + math.cos(math.pi * part)), 15)


class WarmUp(Schedule):
    """Rise from 0 to 1 along a line in `epochs` epochs, then start another schedule.

    Examples
    --------
    >>> schedule = WarmUp(2, then=StepDecay(every=10, factor=0.5))
    >>> schedule(0.5), schedule(2), schedule(11), schedule(12)
    (0.25, 1.0, 1.0, 0.5)
    """

    def __init__(self, epochs: float, then: Schedule | None = None) -> None:
        self.epochs = checks.as_positive("WarmUp", "epochs", epochs)
        self.then = Constant() if then is None else then
        if not isinstance(self.then, Schedule):
            raise TypeError(f"WarmUp: then must be a Schedule or None, got {then!r}")

    def __call__(self, epoch: float) -> float:
        """Return epoch / epochs, and then(epoch - epochs) from there on."""
        return epoch / self.epochs if epoch < self.epochs else self.then(epoch - self.epochs)

    def observe(self, value: float) -> None:
        """Pass the loss on."""
        self.then.observe(value)

    def state_dict(self) -> dict[str, Any]:
        """Return what the other schedule remembers."""
        return self.then.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hand it back to the other schedule."""
        self.then.load_state_dict(state_dict)


class ReduceOnPlateau(Schedule):
    """Multiply by `factor` whenever the loss has not improved for more than `patience` epochs.

    It goes on where it is from one `fit` to the next: a training from the start takes a new one.

    Parameters
    ----------
    factor : float
        Above 0 and below 1.
    patience : int
        At least 0.
    threshold : float
        An epoch improves when its loss is below best - threshold * abs(best); from 0 to 1.
    minimum : float
        The factor never falls below this; from 0 to 1.

    Examples
    --------
    >>> schedule = ReduceOnPlateau(factor=0.5, patience=1)
    >>> for loss in [1.0, 0.9, 0.9, 0.9]:
    ...     schedule.observe(loss)
    >>> schedule(4)
    0.5
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        minimum: float = 0.0,
    ) -> None:
        where = "ReduceOnPlateau"
        self.factor = checks.as_positive(where, "factor", factor)
        if not factor < 1:
            raise ValueError(f"{where}: factor must be below 1, got {factor}")
        self.patience = checks.as_count(where, "patience", patience)
        self.threshold = checks.as_probability(where, "threshold", threshold)
        self.minimum = checks.as_probability(where, "minimum", minimum)
        self._best, self._waited, self._current = math.inf, 0, 1.0

    def __call__(self, epoch: float) -> float:  # noqa: ARG002
        """Return the factor reached so far, whatever the time."""
        return self._current

    def observe(self, value: float) -> None:
        """Count the epochs without improvement."""
        part = self.threshold if self._best > 0 else -self.threshold
        # (The first is one whatever the threshold: infinity times 0 would be no number.)
        if self._best == math.inf or value < self._best * (1 - part):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._current = max(self.minimum, self._current * self.factor)
            self._waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the best loss, the epochs waited since, and the factor."""
        return {"best": self._best, "waited": self._waited, "current": self._current}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises
        ------
        TypeError, ValueError
            When something is missing, unknown, of the wrong kind or out of range.
        """
        where = "ReduceOnPlateau.load_state_dict"
        checks.check_names(where, checks.as_state(where, state_dict), self.state_dict())
        best = checks.as_number(where, "best", state_dict["best"])
        if math.isnan(best):
            raise ValueError(f"{where}: best must be a number, got nan")
        waited = checks.as_count(where, "waited", state_dict["waited"])
        current = checks.as_probability(where, "current", state_dict["current"])
        self._best, self._waited, self._current = best, waited, current
