# SPDX-License-Identifier: MIT
"""One thread at a time adds to a module's gradients.

The kernels run without the GIL, and ``dW += ...`` of two threads at once loses what one of them
added. So a module has a lock, which whoever adds to its gradients holds.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakValueDictionary

__all__ = ["Locked", "give_lock"]


class Locked(Protocol):
    """Something with a lock."""

    _adding: threading.Lock


# By id, because a subclass may compare by value, as a dataclass does, and have no hash.
_locked: WeakValueDictionary[int, Locked] = WeakValueDictionary()


def give_lock(module: Locked) -> None:
    """Give a module a lock of its own, to hold while adding to its gradients."""
    module._adding = threading.Lock()
    _locked[id(module)] = module


def _give_new_locks() -> None:
    for module in _locked.values():
        module._adding = threading.Lock()


# A lock that some thread held at a fork would stay locked in the child, which lacks that thread.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_give_new_locks)
