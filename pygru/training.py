# SPDX-License-Identifier: MIT
"""Training: batches through a model, a loss, an optimiser, epoch after epoch.

`fit` is checks and a loop over epochs; `_Trainer` holds what one step or one epoch needs. All
checks on the data come before the first step, so a step is six calls and no copy of the batch.

Depends on modules, losses, optimisers and data; knows no file formats and no frameworks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import checks, losses
from pygru.clipping import clip_by_global_norm, clip_by_value
from pygru.data import Batch, Sampler, ShuffledBatches
from pygru.evaluation import (
    Samples,
    check_layout,
    check_samples,
    evaluate,
    mean_loss,
    predict,
    weighted_loss,
)
from pygru.history import EpochRecord, History
from pygru.optim import Optimizer
from pygru.progress import Progress
from pygru.schedules import Schedule

__all__ = ["Callback", "EpochRecord", "History", "evaluate", "fit", "predict"]

Array: TypeAlias = npt.NDArray[Any]
Callback: TypeAlias = Callable[[EpochRecord, Any], object]


def fit(
    model: Any,
    X: npt.ArrayLike,
    Y: npt.ArrayLike,
    *,
    loss: str | losses.Loss,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int = 64,
    lengths: npt.ArrayLike | None = None,
    validation: tuple[Any, ...] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    schedule: Schedule | None = None,
    sampler: Sampler | None = None,
    callbacks: Iterable[Callback] = (),
    verbose: int = 1,
    rng: checks.Random = None,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model : Module
        With the batch as its first axis (``batch_first=True``).
    X : array_like of shape (N, T, I), or what the model takes
        N samples; integers are left as they are (for an `Embedding`), real numbers get the model's
        dtype.
    Y : array_like of shape (N, ...)
        Targets, as the loss wants them.
    loss : str or callable
        See `pygru.losses`.
    optimizer : Optimizer
        Keeps its state: a second `fit` with the same one goes on.
    epochs : int
    batch_size : int
    lengths : integer array_like of shape (N,), optional
        Valid steps of each sample. Given to the model, and to the loss where the model's output
        still has a time axis (three axes or more).
    validation : (X, Y) or (X, Y, lengths), optional
        Evaluated after each epoch.
    clip_norm : float, optional
        Clip the gradient to this Euclidean norm before the step.
    clip_value : float, optional
        Clip each element of the gradient to -clip_value .. clip_value, before `clip_norm`.
    schedule : Schedule, optional
        Factor on the optimiser's learning rate, which `fit` leaves as it found it.
    sampler : callable, optional
        ``sampler(n, batch_size, rng)`` gives the batches of one epoch; default `ShuffledBatches()`.
    callbacks : iterable of callables
        Each called as ``callback(record, model)`` after every epoch; True ends the training.
    verbose : int
        0: silent. 1: a progress bar on a terminal, a line after every epoch elsewhere. k > 1: a
        line after every k-th epoch, with the bar below it on a terminal.
    rng : int, Generator or None
        For the sampler.

    Returns
    -------
    history : History
        After Ctrl-C, too: the model then holds the parameters of the best epoch.

    Raises
    ------
    ValueError
        Shapes do not fit, or NaN or infinity in the data, before the first step.
    TypeError
        Data that does not hold real numbers.
    FloatingPointError
        The loss or a parameter has become NaN or infinite. The message has epoch and step; the
        model holds the last parameters that gave a finite loss.

    Examples
    --------
    >>> import pygru
    >>> X, Y = pygru.windows(pygru.sine(0, 100, 1000), length=5)
    >>> model = pygru.Sequential(
    ...     pygru.GRU(1, 8, batch_first=True, rng=0), pygru.LastStep(), pygru.Linear(8, 1, rng=1)
    ... )
    >>> history = pygru.fit(
    ...     model, X, Y, loss="mae", optimizer=pygru.Adam(1e-2), epochs=3, verbose=0, rng=0
    ... )
    >>> len(history.epochs), history.loss[-1] < history.loss[0]
    (3, True)
    """
    epochs = checks.as_size("fit", "epochs", epochs)
    check_layout("fit", model)
    data = check_samples("fit", model, X, Y, lengths)
    held_out = None
    if validation is not None:
        if len(validation) not in (2, 3):
            raise ValueError(
                f"fit: validation must be (X, Y) or (X, Y, lengths), got {len(validation)} items"
            )
        X_v, Y_v, lengths_v = (*validation, None)[:3]
        held_out = check_samples("fit", model, X_v, Y_v, lengths_v, "validation ")
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if limit is not None and not limit > 0:
            raise ValueError(f"fit: {name} must be above 0, got {limit}")
    trainer = _Trainer(
        model=model,
        data=data,
        validation=held_out,
        loss=losses.get(loss),
        optimizer=optimizer,
        batch_size=checks.as_size("fit", "batch_size", batch_size),
        clip_norm=clip_norm,
        clip_value=clip_value,
        schedule=schedule,
        sampler=ShuffledBatches() if sampler is None else sampler,
        rng=np.random.default_rng(rng),
    )
    history = History()
    callbacks = tuple(callbacks)
    progress = Progress(epochs, verbose)
    try:
        # Overflow is found in the loss, once, with epoch and step; not warned of in each pass.
        with np.errstate(over="ignore", invalid="ignore"):
            for epoch in range(1, epochs + 1):
                record = trainer.run_epoch(epoch, progress)
                history.epochs.append(record)
                progress.end_epoch(record)
                answers = [callback(record, model) for callback in callbacks]
                if any(answers):
                    break
    except KeyboardInterrupt:
        history.interrupted = True
        progress.say(f"interrupted: the model keeps {trainer.keep_best()}")
    finally:
        optimizer.lr = trainer.base_lr
        progress.close()
    return history


class _Trainer:
    """The state of one call of `fit` and what happens in one epoch and in one step."""

    def __init__(
        self,
        *,
        model: Any,
        data: Samples,
        validation: Samples | None,
        loss: losses.Loss,
        optimizer: Optimizer,
        batch_size: int,
        clip_norm: float | None,
        clip_value: float | None,
        schedule: Schedule | None,
        sampler: Sampler,
        rng: np.random.Generator,
    ) -> None:
        self.model, self.data, self.validation, self.loss = model, data, validation, loss
        self.optimizer, self.base_lr, self.schedule = optimizer, optimizer.lr, schedule
        self.batch_size, self.sampler, self.rng = batch_size, sampler, rng
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.params, self.grads = model.flat_params, model.flat_grads  # (P,) each
        self.last_good = self.params.copy()  # (P,)  gave a finite loss
        self.best = self.params.copy()  # (P,)  after the epoch of best_record
        self.best_record: EpochRecord | None = None

    def run_epoch(self, epoch: int, progress: Progress) -> EpochRecord:
        """Take the steps of one epoch (counted from 1), then evaluate."""
        started = time.perf_counter()
        plan = list(self.sampler(len(self.data.X), self.batch_size, self.rng))
        if not plan:
            raise ValueError(
                f"fit: sampler must give at least one batch, got none in epoch {epoch}"
            )
        advance = progress.start_epoch(epoch, len(plan))
        total = weight = 0.0
        for i, batch in enumerate(plan):
            if self.schedule is not None:
                self.optimizer.lr = self.base_lr * self.schedule(epoch - 1 + i / len(plan))
            value, elements = self.step(batch)
            if not math.isfinite(value):
                self._fail(f"the loss became {value} in epoch {epoch}, step {i + 1}")
            total += value * elements
            weight += elements
            if advance is not None:
                advance()
        if not np.isfinite(self.params).all():
            self._fail(f"a parameter became NaN or infinite in epoch {epoch}, step {len(plan)}")
        validation = None
        if self.validation is not None:
            validation = mean_loss(self.model, self.validation, self.loss, self.batch_size)
        record = EpochRecord(
            epoch=epoch,
            loss=total / max(1.0, weight),
            validation=validation,
            lr=self.optimizer.lr,
            steps=len(plan),
            seconds=time.perf_counter() - started,
        )
        if self.best_record is None or record.monitored < self.best_record.monitored:
            np.copyto(self.best, self.params)
            self.best_record = record
        if self.schedule is not None:
            self.schedule.observe(record.monitored)
        return record

    def step(self, batch: Batch) -> tuple[float, float]:
        """Forward, loss, backward, update; return the loss and how many elements it is a mean of.

        When the loss is not finite nothing is updated.
        """
        X, Y, lengths = self.data
        ends = None if lengths is None else lengths[batch]
        # A recurrent layer by itself gives (y, h_n, tape), everything else (y, tape).
        if ends is None:
            y, *_, tape = self.model.forward(X[batch])
        else:
            y, *_, tape = self.model.forward(X[batch], lengths=ends)
        value, dy, elements = weighted_loss(self.loss, y, Y[batch], ends)
        if not math.isfinite(value):
            return value, elements
        grads = self.grads
        grads.fill(0)
        self.model.backward(tape, dy, input_gradient=False)
        if self.clip_value is not None:
            clip_by_value(grads, self.clip_value)
        if self.clip_norm is not None:
            clip_by_global_norm(grads, self.clip_norm)
        np.copyto(self.last_good, self.params)
        self.optimizer.step(self.params, grads)
        return value, elements

    def keep_best(self) -> str:
        """Put the best epoch's parameters into the model, and say which these are."""
        if self.best_record is None:
            np.copyto(self.params, self.last_good)
            return "its latest parameters, as no epoch was complete"
        np.copyto(self.params, self.best)
        kind = "training" if self.best_record.validation is None else "validation"
        return (
            f"the parameters of epoch {self.best_record.epoch} "
            f"({kind} loss {self.best_record.monitored:.4g})"
        )

    def _fail(self, what: str) -> None:
        np.copyto(self.params, self.last_good)
        raise FloatingPointError(
            f"fit: {what}; the model holds the last parameters that gave a finite loss "
            "(a lower learning rate or clip_norm may help)"
        )
