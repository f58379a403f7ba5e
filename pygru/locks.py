# SPDX-License-Identifier: MIT
"""One thread at a time adds to a module's gradients.

The kernels run without the GIL, and ``dW += ...`` of two threads at once loses what one of them
added. The locks are kept beside the modules, which can thus be copied and pickled as they are.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakKeyDictionary

__all__ = ["adding_to"]

_locks: WeakKeyDictionary[object, threading.Lock] = WeakKeyDictionary()

# A lock that some thread held at a fork would stay locked in the child, which lacks that thread.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.clear)


def adding_to(module: object) -> threading.Lock:
    """Return what a thread holds while it adds to the gradients of ``module``."""
    return _locks.setdefault(module, threading.Lock())
