# SPDX-License-Identifier: MIT
"""Ctrl-C in two stages: the first asks, the second insists.

Depends on the standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Within a ``with`` block, count Ctrl-C; the first is only noted, every further one raises.

    So a training step is never cut in two, and a program that hangs can still be stopped. In any
    thread but the main one, and where Ctrl-C has a handler already, nothing is changed.

    Parameters
    ----------
    say : callable
        Called with a line that says what happens now, and what another Ctrl-C would do.

    Attributes
    ----------
    count : int

    Examples
    --------
    >>> import signal
    >>> with Interrupts(print) as interrupts:
    ...     signal.raise_signal(signal.SIGINT)
    ...     print(interrupts.count)
    stopping after this step; Ctrl-C again stops at once
    1
    """

    __slots__ = ("_before", "_say", "count")

    def __init__(self, say: Callable[[str], None]) -> None:
        self.count, self._say = 0, say
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        import signal  # here, so that importing pygru does not wait for it
        import threading

        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        import signal

        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
        # It may have come in the middle of another line, which is more than a stream can take.
        with suppress(RuntimeError):
            self._say("stopping after this step; Ctrl-C again stops at once")
