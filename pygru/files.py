# SPDX-License-Identifier: MIT
"""Files that hold a module: `save`, `load`, and what they know about classes.

A file is safetensors: parameters by name, and in the metadata the class and its constructor
arguments as JSON. Nothing in a file is ever executed. Files are written beside their place and
then renamed, so that a half-written one never replaces a good one.

A class marked `savable` is in the table; one that holds other modules describes them in its
``config`` with `describe` and makes them again in ``_from_config`` with `build`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy.typing as npt

from pygru import _core
from pygru.module import Config, Module

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "PathLike",
    "build",
    "describe",
    "load",
    "read_safetensors",
    "savable",
    "save",
    "write_beside",
]

PathLike: TypeAlias = "str | os.PathLike[str]"

FORMAT = "1"  # raised when a file can no longer be read by an older pygru

_Class = TypeVar("_Class", bound=type[Module])

_CLASSES: dict[str, type[Module]] = {}


def savable(cls: _Class) -> _Class:
    """Enter a class of pygru into the table of those that files can hold."""
    _CLASSES[cls.__name__] = cls
    return cls


def describe(module: Module) -> Config:
    """Return class and constructor arguments of a module, as JSON can hold them."""
    name = type(module).__name__
    if _CLASSES.get(name) is not type(module):
        raise TypeError(
            f"save: module must be one of pygru's own classes {sorted(_CLASSES)}, got {name}; "
            "keep the state_dict of others"
        )
    return {"class": name, "config": module.config()}


def build(description: Any) -> Any:
    """Make the module that `describe` described, with all parameters 0.

    Raises
    ------
    TypeError, ValueError
        When the description is not one.
    """
    if not isinstance(description, dict) or set(description) != {"class", "config"}:
        raise ValueError(f"a module must be described by class and config, got {description!r}")
    name, config = description["class"], description["config"]
    if name not in _CLASSES:
        raise ValueError(f"class must be one of {sorted(_CLASSES)}, got {name!r}")
    if not isinstance(config, dict):
        raise ValueError(f"config of {name} must be a dict, got {config!r}")
    return _CLASSES[name]._from_config(config)


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
        When a class is not pygru's own, so that `load` could not make it again.
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
    from pathlib import Path

    from safetensors.numpy import save as to_bytes

    metadata = {
        "format": "pygru",
        "format_version": FORMAT,
        "pygru_version": _core.__version__,
        "model": json.dumps(describe(module)),
    }
    write_beside(Path(path), to_bytes(dict(module.state_dict()), metadata))


def write_beside(path: Path, content: bytes) -> None:
    """Write a file under another name, then rename it: all of it is there or none."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def load(path: PathLike) -> Any:
    """Read a model or layer that `save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Module
        Of the class that was saved.

    Raises
    ------
    OSError
        When there is no such file, or it cannot be read.
    ValueError
        When the file is not one of pygru's, is truncated or corrupt, or was written by a later
        format. The message names the file and what is wrong with it.

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
    from pathlib import Path

    path = Path(path)
    problem = f"load: {path} is not a readable safetensors file"
    arrays, metadata = read_safetensors(path, problem)
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
        module = build(json.loads(metadata["model"]))
        wrong = [name for name, array in arrays.items() if array.dtype != module.dtype]
        if wrong:
            raise ValueError(f"dtype of {wrong} must be {module.dtype}")
        module.load_state_dict(arrays)
    except (KeyError, TypeError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"load: {path} is corrupt: {error}") from error
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
    except (SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{problem}: {error}") from error
