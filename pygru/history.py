# SPDX-License-Identifier: MIT
"""What `fit` returns: one record per epoch, as numbers, as a table and as a picture.

Depends on the standard library; matplotlib is imported when a picture is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import os

__all__ = ["COLUMNS", "EpochRecord", "History"]


class EpochRecord(NamedTuple):
    """One epoch of training.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    loss : float
        Mean training loss over the epoch's samples, each measured before the step it led to.
    validation : float or None
        Loss on the validation data after the epoch.
    lr : float
        Learning rate of the last step.
    steps : int
    seconds : float
        Training and validation.
    metrics, validation_metrics : mapping of str to float
        By name, measured where and when the two losses were.
    """

    epoch: int
    loss: float
    validation: float | None
    lr: float
    steps: int
    seconds: float
    metrics: Mapping[str, float] = MappingProxyType({})
    validation_metrics: Mapping[str, float] = MappingProxyType({})

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what copies are made of: no views of mappings, which cannot be pickled."""
        *columns, metrics, validation_metrics = self
        return type(self), (*columns, dict(metrics), dict(validation_metrics))

    @property
    def monitored(self) -> float:
        """What tells good from bad: the validation loss if there is one, else the training loss."""
        return self.loss if self.validation is None else self.validation

    def row(self) -> dict[str, float | None]:
        """Return all numbers in one dict; those of validation metrics as "validation_" + name."""
        *columns, metrics, validation_metrics = self
        row: dict[str, Any] = dict(zip(self._fields, columns, strict=False))
        row |= metrics
        return row | {f"validation_{name}": value for name, value in validation_metrics.items()}


COLUMNS = EpochRecord._fields[:6]  # of every table; those of metrics follow


class History:
    """The epochs of one training.

    Attributes
    ----------
    epochs : list of EpochRecord
        After a resume those before the stop, too.
    interrupted : bool
        Whether Ctrl-C ended the training; the model then holds the parameters of `best`, or those
        after the last step where no epoch was complete.

    Examples
    --------
    >>> history = History([EpochRecord(1, 0.5, None, 1e-3, 156, 0.1, {"accuracy": 0.75})])
    >>> history.loss, history.best.epoch, history["accuracy"]
    ([0.5], 1, [0.75])
    """

    def __init__(self, epochs: list[EpochRecord] | None = None, interrupted: bool = False) -> None:
        self.epochs = [] if epochs is None else epochs
        self.interrupted = interrupted

    @property
    def loss(self) -> list[float]:
        """Mean training loss of each epoch."""
        return [record.loss for record in self.epochs]

    @property
    def validation(self) -> list[float]:
        """Validation loss of each epoch; empty without validation data."""
        return [record.validation for record in self.epochs if record.validation is not None]

    @property
    def seconds(self) -> float:
        """Time of all epochs together."""
        return sum(record.seconds for record in self.epochs)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the lowest validation loss (training loss without validation)."""
        return min(self.epochs, key=lambda record: record.monitored, default=None)

    def __getitem__(self, name: str) -> list[Any]:
        """Return a column of the table: "lr", "accuracy", "validation_accuracy", ...

        None stands for what an epoch did not measure; a name of no epoch is a KeyError.
        """
        rows = [record.row() for record in self.epochs]
        if rows and not any(name in row for row in rows):
            raise KeyError(f"History: name must be one of {_columns(rows)}, got {name!r}")
        return [row.get(name) for row in rows]

    def __repr__(self) -> str:
        if self.best is None:
            return "History(no epochs)"
        plural = "s" * (len(self.epochs) > 1)
        return (
            f"History({len(self.epochs)} epoch{plural} in {self.seconds:.3g} s, "
            f"best {self.best.monitored:.4g} in epoch {self.best.epoch})"
        )

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line per epoch, with a header.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "history.csv"
        ...     History([EpochRecord(1, 0.5, None, 1e-3, 156, 0.25)]).to_csv(path)
        ...     print(path.read_text(), end="")
        epoch,loss,validation,lr,steps,seconds
        1,0.5,,0.001,156,0.25
        """
        import csv  # here, so that importing pygru does not wait for it
        from pathlib import Path

        rows = [record.row() for record in self.epochs]
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _columns(rows), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def plot(self, ax: Any = None, *, of: str = "loss") -> Any:
        """Draw the losses, or a metric, against the epoch.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default a new figure's.
        of : str
            "loss" or the name of a metric, or of another column, which is drawn by itself.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            Without matplotlib.
        TypeError
            When ax is no Axes: ``plot().figure.savefig(path)`` writes a picture.
        ValueError
            No such column, or nothing in it.
        """
        validation = "validation" if of == "loss" else f"validation_{of}"
        columns = _columns([record.row() for record in self.epochs])
        measured = [c for c in columns if any(value is not None for value in self[c])]
        if of not in (measured or ["loss"]):
            raise ValueError(f"History.plot: of must be one of {measured}, got {of!r}")
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError(
                    'History.plot: needs matplotlib: pip install "pygru[plot]"'
                ) from error
            _, ax = plt.subplots()
            ax.xaxis.get_major_locator().set_params(integer=True)  # no half epochs
        elif not hasattr(ax, "set_xlabel"):
            got = type(ax).__name__
            raise TypeError(
                f"History.plot: ax must be a matplotlib Axes, got {got}; to write a picture: "
                "plot().figure.savefig(path)"
            )
        drawn = self[of]
        of_validation = of.startswith("validation")
        marker = "o" if len(self.epochs) == 1 else None  # a line of one point is not to be seen
        label = "validation" if of_validation else "training"
        ax.plot(self["epoch"], drawn, label=label, marker=marker)
        if validation in measured:
            ax.plot(self["epoch"], self[validation], label="validation", marker=marker)
            drawn = drawn + self[validation]
            ax.legend()
        if of in ("loss", "validation") and all(value and value > 0 for value in drawn):
            ax.set_yscale("log")
        ax.set_xlabel("epoch")
        ax.set_ylabel(of)
        return ax


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Return the names of all columns, in the order in which they come up."""
    return list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
