# SPDX-License-Identifier: MIT
"""GRU networks at the speed of the CPU: C++ kernels, NumPy in, NumPy out.

>>> gru = pygru.GRU(input_size=8, hidden_size=64, rng=0)
>>> y, h_n = gru(np.zeros((7, 2, 8), np.float32))  # x (T, B, I) -> y (T, B, H), h_n (1, B, H)
>>> y.shape, h_n.shape
((7, 2, 64), (1, 2, 64))

Letters, everywhere: T steps, B batch, I inputs, H hidden units, L layers, D directions.
"""

from __future__ import annotations

import typing as _typing

try:
    from pygru._core import __version__
except ModuleNotFoundError as error:
    import sysconfig

    raise ImportError(
        f"pygru: {__path__[0]} holds the sources, without the compiled extension ({error}). An "
        f"installed pygru would be in {sysconfig.get_path('platlib')}: type `pip install .` in the "
        "clone (needs a C++ compiler) if it is not there, and run Python from another folder than "
        "the clone's. The command `pygru` works from any folder."
    ) from error

from pygru import _core, checks, clipping, data, initializers, losses, metrics, optim, schedules
from pygru.activations import ReLU, Sigmoid, Softmax, Tanh
from pygru.cells import GRUCell, RNNCell
from pygru.data import fold, sine, windows
from pygru.encoder_decoder import EncoderDecoder
from pygru.evaluation import evaluate, predict
from pygru.files import load, save
from pygru.history import History
from pygru.layers import GRU, RNN, Embedding, Linear
from pygru.model import Sequential
from pygru.module import Layer, Module
from pygru.optim import SGD, Adam, AdamW, RMSprop
from pygru.parameters import Parameter, StateDict
from pygru.pooling import BothEnds, LastStep, MeanOverTime
from pygru.regularization import Dropout, LayerNorm
from pygru.shapes import OneHot, RepeatVector
from pygru.streaming import Stream
from pygru.tape import Tape
from pygru.training import fit

__all__ = [
    "GRU",
    "RNN",
    "SGD",
    "Adam",
    "AdamW",
    "BothEnds",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "GRUCell",
    "History",
    "LastStep",
    "Layer",
    "LayerNorm",
    "Linear",
    "MeanOverTime",
    "Module",
    "OneHot",
    "Parameter",
    "RMSprop",
    "RNNCell",
    "ReLU",
    "RepeatVector",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "StateDict",
    "Stream",
    "Tanh",
    "Tape",
    "__version__",
    "clipping",
    "data",
    "evaluate",
    "fit",
    "fold",
    "get_num_threads",
    "initializers",
    "load",
    "losses",
    "metrics",
    "optim",
    "predict",
    "save",
    "schedules",
    "set_num_threads",
    "show_config",
    "sine",
    "windows",
]

# A variable that makes no sense is an error now, not at the first call.
_core.isa()
_core.get_num_threads()

if not _typing.TYPE_CHECKING:  # for which every name would be there

    def __getattr__(name: str) -> object:
        """Import what belongs to other systems when it is first named."""
        if name not in ("interop", "torch"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return import_module(f"{__name__}.{name}")


def set_num_threads(n: int) -> None:
    """Use at most ``n`` threads from now on; the results are the same for any number, bit for bit.

    Without this call it is ``PYGRU_NUM_THREADS``, else ``OMP_NUM_THREADS``, else what the CPU
    affinity and the cgroup quota of the process allow (1.5 CPUs are 2 threads).

    Raises
    ------
    TypeError, ValueError
        When n is not an integer from 1 to 1024.

    Examples
    --------
    >>> before = pygru.get_num_threads()
    >>> pygru.set_num_threads(2)
    >>> pygru.get_num_threads()
    2
    >>> pygru.set_num_threads(before)
    """
    _core.set_num_threads(checks.as_size("set_num_threads", "n", n, _core.MOST_THREADS))


def get_num_threads() -> int:
    """Return the number of threads in use.

    Examples
    --------
    >>> pygru.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def show_config() -> None:
    """Print the version, the instruction set, the number of threads and how pygru was built.

    Examples
    --------
    >>> pygru.show_config()  # doctest: +ELLIPSIS
    pygru ...
    """
    lines = {
        "pygru": __version__,
        "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())})",
        "threads": str(get_num_threads()),
        **_core.build_info(),
    }
    width = max(map(len, lines))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in lines.items()))  # noqa: T201
