# SPDX-License-Identifier: MIT
"""What `fit` returns: one record per epoch, as numbers, as a table and as a picture.

Depends on the standard library; matplotlib is imported when a picture is asked for.
"""

from __future__ import annotations

import csv
import os
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

__all__ = ["EpochRecord", "History"]


@dataclass(frozen=True)
class EpochRecord:
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
    """

    epoch: int
    loss: float
    validation: float | None
    lr: float
    steps: int
    seconds: float

    @property
    def monitored(self) -> float:
        """What tells good from bad: the validation loss if there is one, else the training loss."""
        return self.loss if self.validation is None else self.validation


@dataclass
class History:
    """The epochs of one call of `fit`.

    Attributes
    ----------
    epochs : list of EpochRecord
    interrupted : bool
        Whether Ctrl-C ended the training; the model then holds the parameters of `best`.

    Examples
    --------
    >>> history = History([EpochRecord(1, 0.5, None, 1e-3, 156, 0.1)])
    >>> history.loss, history.best.epoch
    ([0.5], 1)
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    interrupted: bool = False

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
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([column.name for column in fields(EpochRecord)])
            writer.writerows(astuple(record) for record in self.epochs)

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses against the epoch.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default a new figure's.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError(
                    'History.plot: needs matplotlib: pip install "pygru[plot]"'
                ) from error
            _, ax = plt.subplots()
        epochs = [record.epoch for record in self.epochs]
        ax.plot(epochs, self.loss, label="training")
        if self.validation:
            ax.plot(epochs, self.validation, label="validation")
            ax.legend()
        if all(value > 0 for value in self.loss + self.validation):
            ax.set_yscale("log")
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        return ax
