# SPDX-License-Identifier: MIT
"""Training: `fit`, which checks everything first and then goes through the epochs.

Depends on modules, losses, optimisers and data; leaves files to `pygru.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from pygru import checks, losses
from pygru import metrics as metrics_
from pygru.checkpoint import Checkpoint
from pygru.data import BucketedBatches, Sampler, ShuffledBatches
from pygru.evaluation import check_targets
from pygru.history import EpochRecord, History
from pygru.interrupts import Interrupts
from pygru.model import Sequential
from pygru.optim import Optimizer
from pygru.optimizer import begin_with
from pygru.probabilities import warn_of_probabilities
from pygru.progress import Progress
from pygru.ragged import Ragged
from pygru.recurrent import Recurrent
from pygru.samples import Samples, check_layout, check_samples, reads_targets, reads_vectors
from pygru.schedules import Schedule
from pygru.trainer import GradientHook, Settings, Trainer

if TYPE_CHECKING:
    import os

__all__ = ["Callback", "fit"]

Callback: TypeAlias = Callable[[EpochRecord, Any], object]
_T = TypeVar("_T")


def fit(
    model: Any,
    X: Any,
    Y: Any,
    *,
    loss: str | losses.Loss,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int = 64,
    lengths: npt.ArrayLike | None = None,
    validation: tuple[Any, ...] | None = None,
    metrics: metrics_.MetricLike | Iterable[metrics_.MetricLike] = (),
    bptt: int | None = None,
    stateful: bool = True,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    on_gradient: GradientHook | None = None,
    schedule: Schedule | None = None,
    sampler: Sampler | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callbacks: Callback | Iterable[Callback] = (),
    verbose: int = 1,
    rng: checks.Random = None,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model : Module
        With the batch as its first axis (``batch_first=True``).
    X : array_like of shape (N, T, I), or what the model takes; or list of sequences (T_n, I)
        N samples; integers are left as they are (for an `Embedding`), real numbers get the model's
        dtype, batch by batch. So are sequences of unequal lengths padded.
    Y : array_like of shape (N, ...), or list of sequences (T_n, ...)
        Targets, as the loss wants them: one per sample, or one per step. An `EncoderDecoder` reads
        them, too, and they may have other lengths than X.
    loss : str or callable
        See `pygru.losses`.
    optimizer : Optimizer
        Keeps its state: a second `fit` with the same one goes on. On another model, which would
        begin with what it kept of the first one's gradients, it warns.
    epochs : int
    batch_size : int
    lengths : integer array_like of shape (N,), optional
        Valid steps of each sample of an array that is padded already, with anything, NaN included.
        Given to the model, and to loss and metrics where the model's output still has that time
        axis (`keeps_time`); functions of your own must take them then, as `pygru.losses` do.
    validation : (X, Y) or (X, Y, lengths), optional
        Evaluated after each epoch; with `bptt` and the state carried, in pieces, too.
    metrics : str, callable or iterable of these
        Reported beside the loss, as means over the elements of all batches; see `pygru.metrics`.
        (What is no such mean, as the recall of a class that batches may lack, takes `predict`.)
    bptt : int, optional
        Truncated BPTT: samples are long series, cut along time into pieces of this many steps (the
        last may be shorter), and a step is taken after every piece. `pygru.fold` makes a batch of
        one long series. Y must have a target for every step.
    stateful : bool
        With `bptt`, whether each piece goes on from the state that the piece before it ended with,
        or from zero. No gradient flows from one piece to another.
    clip_norm : float, optional
        Clip the gradient to this Euclidean norm before the step.
    clip_value : float, optional
        Clip each element of the gradient to -clip_value .. clip_value, before `clip_norm`.
    on_gradient : callable, optional
        ``on_gradient(flat_grads)`` sees the gradient of all parameters (P,) after every backward
        pass, before it is clipped, and may change it in place: the mean over several processes,
        for data-parallel training.
    schedule : Schedule, optional
        Factor on the optimiser's learning rate, which `fit` leaves as it found it. Like the
        optimiser it keeps what it has seen, as `ReduceOnPlateau` does the losses.
    sampler : callable, optional
        ``sampler(n, batch_size, rng)`` gives the batches of one epoch; by default
        `pygru.data.ShuffledBatches()`, for sequences of unequal lengths
        `pygru.data.BucketedBatches(lengths)`.
    patience : int, optional
        Early stopping: end when the validation loss (without validation the training loss) has not
        improved for this many epochs. In the end the model holds the parameters of the best epoch,
        without `patience` those of the last: with ``patience=epochs`` it keeps the best and never
        ends early.
    checkpoint : path-like, optional
        Write all that is needed to go on into this file after every epoch.
    resume : bool
        Go on from `checkpoint` if there is one, with the same bits as if nothing had happened: the
        optimiser, the schedule and the generators take the state they had. Only `epochs` (counted
        from the very beginning), `patience`, `callbacks` and `verbose` may differ from before. An
        error names whatever else does, except the values of the data and what a function does,
        which are not compared.
    callbacks : callable or iterable of callables
        Each called as ``callback(record, model)`` after every epoch, where ``record.loss``,
        ``record.validation``, ``record.metrics`` and more are those of a
        `pygru.history.EpochRecord`; True ends the training, any other answer does not. One may set
        the optimiser's ``lr`` for the next epoch where there is no `schedule`, which would do so
        after it.
    verbose : int
        0: silent. 1: a progress bar on a terminal, a line after every epoch elsewhere. k > 1: a
        line after every k-th epoch, with the bar below it on a terminal.
    rng : int, Generator or None
        For the sampler.

    Returns
    -------
    history : History
        After Ctrl-C, too: it ends the training after the current step, and the model then holds the
        parameters of the best epoch, or those after the step where no epoch was complete. A second
        Ctrl-C stops at once, with a KeyboardInterrupt.

    Raises
    ------
    ValueError, TypeError
        Something does not fit, there is NaN or infinity in the data, or `checkpoint` is of another
        model or version. All this is found before the first step.
    OSError
        The checkpoint cannot be written, which is tried before the first step, or read; or there is
        one already and `resume` is False.
    FloatingPointError
        The loss, the gradient or a parameter has become NaN or infinite, or the gradient so large
        that the optimiser's state would. The message has epoch and step; the model holds the last
        parameters that gave a finite loss, and the optimiser has taken no step on such a gradient.

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
    check_layout("fit", model, "forward", "backward", "flat_params", "flat_grads")
    _check_kind("optimizer", optimizer, Optimizer, "an Optimizer such as Adam(1e-3)")
    data = check_samples("fit", model, X, Y, lengths)
    held_out = None
    if validation is not None:
        held_out = check_samples("fit", model, *_held_out(validation), "validation ")
    if schedule is not None:
        _check_kind("schedule", schedule, Schedule, "a Schedule such as StepDecay(10)")
    for name, hook in (("sampler", sampler), ("on_gradient", on_gradient)):
        if hook is not None:
            _check_kind(name, hook, Callable, "a callable or None")
    hooks = _check_callbacks(callbacks)
    patience = _or_none(checks.as_size, "patience", patience)
    bptt = _or_none(checks.as_size, "bptt", bptt)
    if not isinstance(verbose, bool):
        verbose = checks.as_count("fit", "verbose", verbose)
    resume = checks.as_bool("fit", "resume", resume)
    if resume and checkpoint is None:
        raise ValueError("fit: resume needs a checkpoint to go on from, got None")
    settings = Settings(
        loss=losses.get(loss, "fit"),
        metrics=metrics_.get(metrics, "fit"),
        batch_size=checks.as_size("fit", "batch_size", batch_size),
        sampler=_default_sampler(data) if sampler is None else sampler,
        schedule=schedule,
        bptt=bptt,
        stateful=checks.as_bool("fit", "stateful", stateful),
        clip_norm=_or_none(checks.as_positive, "clip_norm", clip_norm),
        clip_value=_or_none(checks.as_positive, "clip_value", clip_value),
        on_gradient=on_gradient,
    )
    warn_of_probabilities("fit", model, settings.loss)
    if bptt is not None:
        _check_series(model, data, bptt, stateful)
        if held_out is not None:
            _check_every_step(held_out, "validation ")
    check_targets("fit", model, data, settings.loss, bptt)
    if held_out is not None:
        check_targets("fit", model, held_out, settings.loss, bptt, "validation ")

    rng = checks.as_generator("fit", rng)
    trainer = Trainer(model, optimizer, data, held_out, settings, rng)
    file = None
    if checkpoint is not None:
        file = Checkpoint(
            checkpoint,
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            rng=rng,
            settings=_decisive(trainer),
        )
        _start_from(trainer, file, resume)
    begin_with("fit", optimizer, model.flat_params, resume)
    return _train(trainer, file, epochs, patience, hooks, Progress(epochs, verbose))


def _train(
    trainer: Trainer,
    file: Checkpoint | None,
    epochs: int,
    patience: int | None,
    callbacks: tuple[Callback, ...],
    progress: Progress,
) -> History:
    """Go through the epochs until there is a reason to stop."""
    history = trainer.history
    # Overflow is found in the loss, once, with epoch and step; not warned of in each pass.
    with np.errstate(over="ignore", invalid="ignore"), Interrupts(progress.say) as interrupts:
        try:
            ended = False
            while not ended and len(history.epochs) < epochs and not _waited(trainer, patience):
                record = trainer.run_epoch(len(history.epochs) + 1, progress, interrupts)
                progress.end_epoch(record)
                answers = [callback(record, trainer.model) for callback in callbacks]
                ended = any(answer is True or answer is np.True_ for answer in answers)
                if file is not None:
                    file.save(trainer.snapshot())
                if interrupts.count:
                    raise KeyboardInterrupt
            if patience is not None:
                trainer.keep_best()
        except KeyboardInterrupt:
            history.interrupted = True
            kept = trainer.keep_best()
            if interrupts.count > 1:
                raise
            progress.say(f"interrupted: the model keeps {kept}")
        finally:
            trainer.optimizer.lr = trainer.base_lr
            progress.close()
    return history


def _waited(trainer: Trainer, patience: int | None) -> bool:
    """Whether the best epoch is as long ago as patience lasts."""
    best = trainer.best_record
    if patience is None or best is None:
        return False
    return len(trainer.history.epochs) - best.epoch >= patience


def _start_from(trainer: Trainer, file: Checkpoint, resume: bool) -> None:
    """Go on from a file if there is one and that is what is wanted."""
    if not file.path.exists():
        return
    if not resume:
        raise FileExistsError(
            f"fit: checkpoint {file.path} must not exist yet, or pass resume=True to go on from it"
        )
    trainer.go_on_from(file.load())


def _decisive(trainer: Trainer) -> dict[str, object]:
    """Return what decides the bits of a training, besides model, optimiser and schedule."""
    settings = trainer.settings
    facts: dict[str, object] = {
        "loss": settings.loss,
        "metrics": tuple(metric.name for metric in settings.metrics),
        "batch_size": settings.batch_size,
        "sampler": settings.sampler,
        "bptt": settings.bptt,
        "stateful": settings.stateful,
        "clip_norm": settings.clip_norm,
        "clip_value": settings.clip_value,
        "on_gradient": settings.on_gradient is not None,
    }
    for of, samples in (("", trainer.data), ("validation ", trainer.validation)):
        for name in ("X", "Y", "lengths"):
            array = getattr(samples, name, None)
            facts[of + name] = None if array is None else array.shape
    return facts


def _default_sampler(data: Samples) -> Sampler:
    for array in (data.X, data.Y):
        if isinstance(array, Ragged):
            return BucketedBatches(array.lengths)
    return ShuffledBatches()


def _or_none(check: Callable[[str, str, Any], _T], name: str, value: Any) -> _T | None:
    """Return a checked argument, or None as it is."""
    return None if value is None else check("fit", name, value)


def _held_out(validation: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Return X, Y and lengths, or None, of the validation data."""
    wanted = "fit: validation must be (X, Y) or (X, Y, lengths)"
    if not isinstance(validation, (tuple, list)):
        raise TypeError(f"{wanted}, got {type(validation).__name__}")
    if len(validation) not in (2, 3):
        raise ValueError(f"{wanted}, got {len(validation)} items")
    X, Y, lengths = (*validation, None)[:3]
    return X, Y, lengths


def _check_kind(name: str, value: object, kind: Any, wanted: str) -> None:
    """Refuse an argument that is not of its kind."""
    if not isinstance(value, kind):
        raise TypeError(f"fit: {name} must be {wanted}, got {value!r}")


def _check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Return one or several callables as a tuple."""
    if callable(callbacks):
        return (callbacks,)
    if isinstance(callbacks, str) or not isinstance(callbacks, Iterable):
        wanted = "a callable or an iterable of callables"
        raise TypeError(f"fit: callbacks must be {wanted}, got {callbacks!r}")
    result = tuple(callbacks)
    for i, callback in enumerate(result):
        _check_kind(f"callbacks[{i}]", callback, Callable, "a callable")
    return result


def _check_series(model: Any, data: Samples, bptt: int, stateful: bool) -> None:
    """Refuse what truncated BPTT cannot be used on."""
    if reads_targets(model):
        raise TypeError(
            f"fit: bptt must be None for an {type(model).__name__}, whose parts read whole "
            f"sequences, got {bptt}"
        )
    if reads_vectors(model):
        raise ValueError(
            f"fit: bptt must be None for a model that reads single vectors, got {bptt}"
        )
    T = data.longest(slice(None))
    if bptt > T:
        raise ValueError(f"fit: bptt must be at most T = {T}, the steps of the series, got {bptt}")
    _check_every_step(data)
    if not stateful:
        return
    if not isinstance(model, (Recurrent, Sequential)):
        raise TypeError(
            "fit: model must be a Sequential or a recurrent layer to carry its state, "
            f"got {type(model).__name__}: pass stateful=False"
        )
    layers = (model,) if isinstance(model, Recurrent) else model.recurrent
    if any(layer.bidirectional for layer in layers):
        raise ValueError(
            "fit: stateful must be False where a layer reads sequences backwards, got True: "
            "the second direction has no past to be carried"
        )


def _check_every_step(data: Samples, of: str = "") -> None:
    """Refuse targets that cannot be cut along time with their samples."""
    X, Y = data.X, data.Y
    if Y.shape[:2] != X.shape[:2] or isinstance(X, Ragged) != isinstance(Y, Ragged):
        raise ValueError(
            f"fit: {of}Y must have a target for every step of {of}X, shape (N, T, ...) = "
            f"{X.shape[:2]} and more, got {Y.shape}"
        )
