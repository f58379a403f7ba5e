# SPDX-License-Identifier: MIT
"""How `fit` shows that it is getting on: a bar on a terminal, plain lines elsewhere.

Depends on tqdm, imported when there is a terminal to draw on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pygru.history import EpochRecord

__all__ = ["Progress"]


class Progress:
    """The display of one call of `fit`.

    Parameters
    ----------
    epochs : int
        Epochs in all.
    verbose : int
        0: silent. 1: a bar on a terminal, a line after every epoch elsewhere. k > 1: a line after
        every k-th epoch, with the bar below it on a terminal.

    Examples
    --------
    >>> progress = Progress(epochs=2, verbose=1)
    >>> progress.end_epoch(EpochRecord(1, 0.0223, 0.025, 1e-3, 156, 0.5, {"mae": 0.1}))
    epoch 1/2  loss 0.0223  validation 0.0250  mae 0.1000  0.50 s  312 steps/s  0.50 s left
    """

    def __init__(self, epochs: int, verbose: int) -> None:
        self.epochs = epochs
        self.verbose = int(verbose)
        self._terminal = self.verbose > 0 and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = None
        self._widths: dict[str, int] = {}

    def start_epoch(self, epoch: int, steps: int) -> Callable[[], bool | None] | None:
        """Announce an epoch (from 1); return what to call after each of its steps, if anything.

        A call that answers True has just drawn the bar: the time to give `show` new numbers.
        """
        if not self._terminal:
            return None
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=self.epochs * steps, unit="step", file=sys.stderr)
        self._bar.total = self._bar.n + (self.epochs - epoch + 1) * steps
        self._bar.set_description(f"epoch {epoch}/{self.epochs}", refresh=False)
        update: Callable[[], bool | None] = self._bar.update
        return update

    def show(self, loss: float) -> None:
        """Let the bar show the loss so far when it is next drawn."""
        self._bar.set_postfix_str(f"loss {_short(loss)}", refresh=False)

    def end_epoch(self, record: EpochRecord) -> None:
        """Show an epoch's numbers."""
        aside = ("epoch", "lr", "steps", "seconds")
        numbers = [  # both losses first, because a narrow terminal cuts the bar's line
            f"{name} {self._aligned(name, _short(value))}"
            for name, value in record.row().items()
            if name not in aside and value is not None
        ]
        if self._bar is not None:
            self._bar.set_postfix_str("  ".join(numbers))
        due = record.epoch % max(1, self.verbose) == 0 or record.epoch == self.epochs
        if due and (self.verbose > 1 or not self._terminal):
            width = len(str(self.epochs))
            numbers.insert(0, f"epoch {record.epoch:{width}}/{self.epochs}")
            numbers.append(self._aligned("s", _duration(record.seconds)))
            rate = record.steps / max(record.seconds, 1e-9)
            per_second = f"{rate:.0f} steps/s" if rate >= 10 else f"{rate:.2g} steps/s"
            numbers.append(self._aligned("steps/s", per_second))
            if record.epoch < self.epochs:
                left = (self.epochs - record.epoch) * record.seconds
                numbers.append(self._aligned("left", f"{_duration(left)} left"))
            self.say("  ".join(numbers))

    def _aligned(self, column: str, text: str) -> str:
        """Return a text as wide as the widest so far in its column."""
        width = self._widths[column] = max(self._widths.get(column, 0), len(text))
        return text.rjust(width)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one; nothing when silent."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
        elif self.verbose:
            print(line, flush=True)  # noqa: T201  this is what the class is for

    def close(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._bar is not None:
            self._bar.close()


def _short(value: float) -> str:
    """Four decimals for losses of the usual size, three digits for others."""
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    """Two units at most."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
