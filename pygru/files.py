# SPDX-License-Identifier: MIT
"""Files that hold a module: `save` and `load`.

A file is safetensors: parameters by name, and in the metadata the class and its constructor
arguments as JSON, as `pygru.registry` describes them. Nothing in a file is ever executed. Files are
written beside their place and then renamed, so that a half-written one never replaces a good one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.checks import Random, as_generator, listed
from pygru.module import Module
from pygru.registry import build, describe

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CHECKPOINT",
    "PathLike",
    "as_path",
    "check_writable",
    "load",
    "read_safetensors",
    "save",
    "write_beside",
]

PathLike: TypeAlias = "str | os.PathLike[str]"

FORMAT = "1"  # raised when a file can no longer be read by an older pygru
# Elements that a file's model may have beyond twice what the file holds: so that of a file with
# something wrong it can be told what.
SLACK = 1 << 16
CHECKPOINT = "pygru checkpoint"  # what a file of pygru.checkpoint calls itself


def save(module: Module, path: PathLike) -> None:
    """Write a module's parameters and configuration to a safetensors file.

    Parameters
    ----------
    module : Module
        A model or a single layer, of pygru's own classes.
    path : path-like
        Replaced if it exists, and only once the whole file has been written.

    Raises
    ------
    TypeError
        When a class is not pygru's own, so that `load` could not make it again, or `path` is no
        path.
    ValueError
        When `path` does not name a file.
    OSError
        When the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> gru = pygru.GRU(3, 4, reset="before", rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pygru.save(gru, pathlib.Path(folder) / "gru.safetensors")
    ...     pygru.load(pathlib.Path(folder) / "gru.safetensors").reset
    'before'
    """
    import json  # here and below, so that importing pygru does not wait for what only files need

    from safetensors.numpy import save as to_bytes

    file = as_path("save", "path", path)
    metadata = {
        "format": "pygru",
        "format_version": FORMAT,
        "pygru_version": _core.__version__,
        "model": json.dumps(describe(module)),
    }
    write_beside(file, to_bytes(dict(module.state_dict()), metadata))


def as_path(where: str, name: str, path: PathLike) -> Path:
    """Return the path of a file, there or not: a TypeError or ValueError for what can be none."""
    from pathlib import Path

    try:
        result = Path(path)
    except TypeError:
        raise TypeError(f"{where}: {name} must be a path, got {short(path)}") from None
    if not result.name or "\0" in str(result):
        raise ValueError(f"{where}: {name} must be the name of a file, got {str(path)!r}")
    return result


def write_beside(path: Path, content: bytes) -> None:
    """Write a file under another name, then rename it: all of it is there or none.

    A link stays one, what it points to is replaced; of several writers the last one stays.
    """
    with _beside(path) as (part, target):
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)


def check_writable(path: Path) -> None:
    """Raise what `write_beside` would raise, but for a disk that is full by then."""
    with _beside(path) as (part, _):
        part.touch()


@contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, Path]]:
    """Give a new name beside a file, and the file itself; errors name what was meant."""
    from pathlib import Path

    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        # Renaming would put a file in the place of a pipe or a device: of /dev/null, for root.
        raise OSError(errno.EINVAL, "Not a regular file, the only kind to replace", str(path))
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        yield part, target
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            part.unlink()


def load(path: PathLike, *, rng: Random = None) -> Any:
    """Read a model or layer that `save` wrote.

    Parameters
    ----------
    path : path-like
    rng : int, numpy.random.Generator or None
        Where the seeds of its dropouts come from, should it be trained further.

    Returns
    -------
    Module
        Of the class that was saved.

    Raises
    ------
    OSError
        When there is no such file, or it cannot be read.
    TypeError
        When `path` is no path, or `rng` nothing to draw from.
    ValueError
        When `path` does not name a file, or the file is not one of pygru's, is truncated or
        corrupt, or was written by a later format. The message says what is wrong with it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> model = pygru.Sequential(pygru.GRU(1, 8, rng=0), pygru.LastStep(), pygru.Linear(8, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(pathlib.Path(folder) / "model.safetensors")
    ...     same = pygru.load(pathlib.Path(folder) / "model.safetensors")
    >>> x = np.zeros((5, 2, 1))
    >>> bool(np.array_equal(model(x), same(x)))
    True
    """
    import json

    path, seeds = as_path("load", "path", path), None if rng is None else as_generator("load", rng)
    problem = (
        f"load: {path} is not a readable safetensors file (those of other systems are read by "
        "pygru.interop)"
    )
    arrays, metadata = read_safetensors(path, problem)
    if metadata.get("format") == CHECKPOINT:
        raise ValueError(
            f"load: {path} must be a file that save wrote, got a checkpoint of fit, which "
            "fit(..., checkpoint=..., resume=True) goes on with"
        )
    if metadata.get("format") != "pygru":
        raise ValueError(
            f"load: {path} must be a file that pygru saved, got safetensors without pygru's "
            "metadata (weights of other origin go through load_state_dict)"
        )
    if metadata.get("format_version") != FORMAT:
        raise ValueError(
            f"load: {path} must have format version {FORMAT!r}, got "
            f"{metadata.get('format_version')!r} by pygru {metadata.get('pygru_version')!r}"
        )
    try:
        most = 2 * sum(array.size for array in arrays.values()) + SLACK
        module = build(json.loads(metadata["model"]), most)
        wrong = [name for name, array in arrays.items() if array.dtype != module.dtype]
        if wrong:
            raise ValueError(f"dtype of {listed(wrong)} must be {module.dtype}")
        module.load_state_dict(arrays)
    except (KeyError, TypeError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"load: {path} is corrupt: {error}") from error
    if seeds is not None:
        for generator in module._generators().values():
            fresh = np.random.default_rng(seeds.integers(2**63))
            generator.bit_generator.state = fresh.bit_generator.state
    return module


def read_safetensors(
    path: Path, problem: str = "not a readable safetensors file"
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Return the arrays and the metadata of a safetensors file.

    Parameters
    ----------
    path : Path
    problem : str
        What the error says, before what safetensors says, when the file is none.

    Raises
    ------
    OSError
        When the file is not there or cannot be read.
    ValueError
        When it is not safetensors, or not all of it.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb"):  # the usual OSError, with the usual message, when that is what is wrong
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{problem}: {error}") from error  # of a dtype that NumPy lacks, too
