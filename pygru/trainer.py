# SPDX-License-Identifier: MIT
"""One step and one epoch of training, and the parameters to fall back on.

A step is a forward pass, the loss, a backward pass and an update. All checks on the data have been
made by then, so that a step adds little to what the kernels do.

Depends on modules, losses, metrics, optimisers and data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import checks, losses
from pygru.checkpoint import Snapshot
from pygru.clipping import clip_by_value, shrink
from pygru.data import Batch, Sampler
from pygru.evaluation import measure
from pygru.history import EpochRecord, History
from pygru.interrupts import Interrupts
from pygru.means import Means, lengths_of, weighted_loss
from pygru.metrics import Metric
from pygru.optim import Optimizer
from pygru.probabilities import as_decided
from pygru.progress import Progress
from pygru.recurrent import Recurrent
from pygru.registry import is_own
from pygru.samples import Piece, Samples, keeps_time, reads_targets
from pygru.schedules import Schedule
from pygru.sums import dot

__all__ = ["GradientHook", "Settings", "Trainer"]

Array: TypeAlias = npt.NDArray[Any]
GradientHook: TypeAlias = "Callable[[Array], object]"


class Settings(NamedTuple):
    """How to train; see `fit`."""

    loss: losses.Loss
    metrics: tuple[Metric, ...]
    batch_size: int
    sampler: Sampler
    schedule: Schedule | None
    bptt: int | None
    stateful: bool
    clip_norm: float | None
    clip_value: float | None
    on_gradient: GradientHook | None


class Trainer:
    """The state of one training.

    Attributes
    ----------
    history : History
    best_record : EpochRecord or None
        The best epoch so far.
    best : array of shape (P,)
        The parameters after it.
    base_lr : float
        The optimiser's learning rate before any schedule.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Optimizer,
        data: Samples,
        validation: Samples | None,
        settings: Settings,
        rng: np.random.Generator,
    ) -> None:
        self.model, self.optimizer, self.rng = model, optimizer, rng
        self.data, self.validation, self.settings = data, validation, settings
        self.base_lr = optimizer.lr
        self.history = History()
        self.last_good = self.params.copy()  # (P,)  gave a finite loss; after Ctrl-C, finite
        self.best = self.params.copy()  # (P,)  after the epoch of best_record
        self.best_record: EpochRecord | None = None
        self._teaches = reads_targets(model)
        self._carries = settings.bptt is not None and settings.stateful
        # A running mean kept as a sum grows to at most 1 / eps of the largest summand: below
        # this, no optimiser's state overflows.
        info = np.finfo(self.params.dtype)
        self._room = float(info.max) * float(info.eps)
        self._state: Any = None  # of the recurrent modules, between two pieces

    @property
    def params(self) -> Array:
        """The model's parameters (P,), wherever they are: a hook may put it into another model."""
        params: Array = self.model.flat_params
        return params

    # An epoch

    def run_epoch(self, epoch: int, progress: Progress, interrupts: Interrupts) -> EpochRecord:
        """Take the steps of one epoch (counted from 1), then evaluate.

        Raises
        ------
        FloatingPointError
            As `fit` does.
        KeyboardInterrupt
            Between two steps, after somebody asked for it.
        """
        settings, schedule = self.settings, self.settings.schedule
        started = time.perf_counter()
        plan = self._plan(epoch)
        steps = sum(map(self._pieces_in, plan))
        advance = progress.start_epoch(epoch, steps)
        means = Means(as_decided(settings.metrics, self.model))
        pieces = (piece for batch in plan for piece in self.data.pieces(batch, settings.bptt))
        for i, piece in enumerate(pieces):
            if schedule is not None:
                factor = _as_factor(schedule(epoch - 1 + i / steps), epoch)
                self.optimizer.lr = self.base_lr * factor
            broken = self.step(piece, means)
            if broken:
                self._fail(f"{broken} in epoch {epoch}, step {i + 1}")
            if advance is not None and advance():
                progress.show(means.loss)
            if interrupts.count:
                if np.isfinite(self.params).all():  # the step is whole, though no loss shows it yet
                    self.last_good[...] = self.params
                raise KeyboardInterrupt
        if not np.isfinite(self.params).all():
            self._fail(f"a parameter became NaN or infinite in epoch {epoch}, step {steps}")
        held_out = None
        if self.validation is not None:
            held_out = measure(
                self.model,
                self.validation,
                settings.loss,
                settings.metrics,
                settings.batch_size,
                settings.bptt if self._carries and _goes_step_by_step(self.model) else None,
            )
            if not math.isfinite(held_out.loss):
                self._fail(f"the validation loss became {held_out.loss} in epoch {epoch}")
        record = EpochRecord(
            epoch=epoch,
            loss=means.loss,
            validation=None if held_out is None else held_out.loss,
            lr=self.optimizer.lr,
            steps=steps,
            seconds=time.perf_counter() - started,
            metrics=means.named(),
            validation_metrics={} if held_out is None else held_out.named(),
        )
        self.history.epochs.append(record)
        if self.best_record is None or record.monitored < self.best_record.monitored:
            self.best_record = record
            self.best[...] = self.params
        if schedule is not None:
            schedule.observe(record.monitored)
        return record

    def _plan(self, epoch: int) -> list[Batch]:
        """Return the batches of an epoch, slices or indices of samples that there are."""
        settings, samples = self.settings, np.arange(len(self.data.X))
        given = settings.sampler(len(samples), settings.batch_size, self.rng)
        try:
            each = iter(given)
        except TypeError:
            raise TypeError(
                f"fit: sampler must give an iterable of batches, got {given!r} in epoch {epoch}"
            ) from None
        plan: list[Batch] = []
        for batch in each:
            try:
                chosen = samples[batch]
            except (IndexError, ValueError):
                chosen = samples[:0]
            if chosen.ndim != 1 or not chosen.size:
                raise ValueError(
                    f"fit: sampler must give slices or arrays of at least one index below N = "
                    f"{len(samples)}, got {batch!r} in epoch {epoch}"
                )
            plan.append(batch if isinstance(batch, slice) else chosen)
        if not plan:
            raise ValueError(
                f"fit: sampler must give at least one batch, got none in epoch {epoch}"
            )
        return plan

    def _pieces_in(self, batch: Batch) -> int:
        """Return how many steps a batch makes."""
        bptt = self.settings.bptt
        return 1 if bptt is None else -(-self.data.longest(batch) // bptt)

    # A step

    def step(self, piece: Piece, means: Means) -> str:
        """Forward, loss, backward, update; or update nothing and return what is not finite."""
        x, target, _, target_ends, _ = piece
        settings, grads = self.settings, self.model.flat_grads
        y, tape = self._forward(*piece)
        ends = lengths_of(y, x, target_ends)
        value, dy, elements = weighted_loss(settings.loss, y, target, ends, trains=True)
        if not math.isfinite(value):
            return f"the loss became {value}"
        self.last_good[...] = self.params
        means.add(value, y, target, ends, elements)
        grads.fill(0)
        self.model.backward(tape, dy, input_gradient=False)
        if settings.on_gradient is not None:
            grads = self._given(settings.on_gradient, grads)
        if settings.clip_value is not None:
            clip_by_value(grads, settings.clip_value)
        # A NaN or infinity in an optimiser's moments would stay there for ever. The sum of squares
        # (which is there already where the norm is clipped) tells at once that there will be none.
        if settings.clip_norm is None:
            squares = dot(grads, grads)
        else:
            norm = shrink(grads, settings.clip_norm)
            squares = norm * norm
        if not squares <= self._room:
            largest = float(np.abs(grads).max())
            if not math.isfinite(largest):
                return "the gradient became NaN or infinite"
            if largest > self._most():
                return f"the gradient became too large for {type(self.optimizer).__name__}"
        self.optimizer.step(self.params, grads)
        return ""

    def _given(self, hook: GradientHook, grads: Array) -> Array:
        """Return the gradient after a function of the user's has changed it in place."""
        answer = hook(grads)
        another = isinstance(answer, np.ndarray) and answer.shape == grads.shape
        if another and not np.shares_memory(answer, grads):
            raise TypeError(
                "fit: on_gradient must change the gradient in place, got one that returns another"
            )
        now: Array = self.model.flat_grads  # moved, where the hook has put the model into another
        return now

    def _most(self) -> float:
        """Return up to where an element of the gradient leaves the optimiser's state finite."""
        optimizer = self.optimizer
        if optimizer.squares:
            return math.sqrt(self._room)
        return self._room if optimizer.slots else math.inf

    def _forward(
        self,
        x: Array,
        target: Array,
        ends: Array | None,
        target_ends: Array | None,
        goes_on: bool,
    ) -> tuple[Array, Any]:
        """Return y and the tape; keep the state where a next piece goes on from it."""
        model = self.model
        if self._teaches:
            y, tape = model.forward(x, target, lengths=ends, target_lengths=target_ends)
            return y, tape
        if not self._carries:
            # A recurrent layer by itself gives (y, h_n, tape), everything else (y, tape).
            y, *_, tape = model.forward(x) if ends is None else model.forward(x, lengths=ends)
            return y, tape
        state = self._state if goes_on else None
        if isinstance(model, Recurrent):
            y, self._state, tape = model.forward(x, state, lengths=ends)
        else:
            y, tape = model.forward(x, lengths=ends, state=state)
            self._state = tape.state
        return y, tape

    # What to go on from, and what to fall back on

    def snapshot(self) -> Snapshot:
        """Return how far the training has come."""
        return Snapshot(self.history.epochs, self.best)

    def go_on_from(self, snapshot: Snapshot) -> None:
        """Take over how far another training had come."""
        epochs, best = snapshot
        self.history.epochs[:] = epochs
        self.best_record = self.history.best
        self.best[...] = best
        self.last_good[...] = self.params

    def keep_best(self) -> str:
        """Put the best epoch's parameters into the model, and say which these are."""
        best = self.best_record
        if best is None:
            self.params[...] = self.last_good
            return "its latest parameters, as no epoch was complete"
        self.params[...] = self.best
        kind = "training" if best.validation is None else "validation"
        return f"the parameters of epoch {best.epoch} ({kind} loss {best.monitored:.4g})"

    def _fail(self, what: str) -> None:
        self.params[...] = self.last_good
        raise FloatingPointError(
            f"fit: {what}; the model holds the last parameters that gave a finite loss "
            "(a lower learning rate or clip_norm may help)"
        )


def _goes_step_by_step(model: Any) -> bool:
    """Whether a model that carries its state is known to do the same in pieces as on the whole."""
    parts = getattr(model, "_parts", {}).values()
    return is_own(model) and keeps_time(model) and all(map(_goes_step_by_step, parts))


def _as_factor(factor: Any, epoch: int) -> float:
    """Return what a schedule gave if it is a factor on the learning rate."""
    if type(factor) is float and 0 <= factor < math.inf:
        return factor
    name, valid = f"what schedule gives in epoch {epoch}", "a finite number >= 0"
    if isinstance(factor, np.ndarray) and factor.ndim == 0:  # of np.where, perhaps
        factor = factor[()]
    if not 0 <= checks.as_number("fit", name, factor, valid) < math.inf:
        raise ValueError(f"fit: {name} must be {valid}, got {factor}")
    return float(factor)
