# SPDX-License-Identifier: MIT
"""Models: modules in a row over one flat buffer, and files that hold them.

A file is safetensors: parameters by name, and in the metadata the classes and their constructor
arguments as JSON. Nothing in a file is ever executed. Files are written beside their place and
then renamed, so that a half-written one never replaces a good one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.checks import FloatArray, FloatDType
from pygru.layers import GRU, RNN, Embedding, Linear
from pygru.module import Config, Layer, Module
from pygru.parameters import Parameter
from pygru.pooling import LastStep, MeanOverTime, TimePooling
from pygru.regularization import Dropout, LayerNorm

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Sequential", "load", "save"]

PathLike: TypeAlias = "str | os.PathLike[str]"

FORMAT = "1"  # raised when a file can no longer be read by an older pygru


class Sequential(Layer):
    """Modules in a row: each reads what the one before it gives; of a recurrent layer, y.

    The model owns one flat buffer. Its modules' parameters move into it and are named
    ``"{index}.{name}"``, so a module belongs to one model only.

    Parameters
    ----------
    *modules : Module
        Those with parameters all have the same dtype, and those that look at time the same layout;
        a `LastStep` or `MeanOverTime` that does not say takes that of the modules before it.

    Raises
    ------
    TypeError
        When something is not a module.
    ValueError
        When a module occurs twice or belongs to another model, or when dtypes or layouts differ.

    Examples
    --------
    >>> model = pygru.Sequential(
    ...     pygru.GRU(1, 64, batch_first=True, rng=0), pygru.LastStep(), pygru.Linear(64, 1, rng=1)
    ... )
    >>> x = np.zeros((2, 5, 1), np.float32)
    >>> y, tape = model.forward(x)
    >>> y.shape, model.backward(tape, np.ones_like(y)).shape
    ((2, 1), (2, 5, 1))
    >>> model.params["2.weight"].shape, model.flat_params.size
    ((1, 64), 12929)
    """

    def __init__(self, *modules: Module) -> None:
        self._modules: tuple[Module, ...] = ()
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: module {i} must be a Module, got {module!r}")
            if module._in_model or any(module is other for other in modules[:i]):
                raise ValueError(
                    f"Sequential: module {i} ({type(module).__name__}) must be in one place only, "
                    "got one that already belongs to a model"
                )
        dtype = _common_dtype(modules)
        layout = _common_layout(modules)
        # Nothing has been changed up to here, and from here on nothing can fail but memory.
        parameters = [
            Parameter(f"{i}.{p.name}", p.shape, p.input_major)
            for i, module in enumerate(modules)
            for p in module._parameters
        ]
        super().__init__(parameters, dtype)
        flat_params, flat_grads = self._flat_params, self._flat_grads
        if modules:
            np.concatenate([module.flat_params for module in modules], out=flat_params)
            np.concatenate([module.flat_grads for module in modules], out=flat_grads)
        self._modules = modules
        self._bind(flat_params, flat_grads)
        self._adopt_layout(layout)

    def _bind(self, flat_params: FloatArray, flat_grads: FloatArray) -> None:
        super()._bind(flat_params, flat_grads)
        start = 0
        for module in self._modules:
            end = start + module.flat_params.size
            module._bind(flat_params[start:end], flat_grads[start:end])
            module._in_model = True
            start = end

    def _adopt_layout(self, batch_first: bool | None) -> None:
        """Give the layout to those modules that were not told one."""
        self.batch_first = batch_first
        for module in self._modules:
            if isinstance(module, (Sequential, TimePooling)) and module.batch_first is None:
                module._adopt_layout(batch_first)

    def config(self) -> Config:
        """Return classes and constructor arguments of the modules, as JSON can hold them."""
        return {"modules": [describe(module) for module in self._modules]}

    def _functions(self) -> dict[str, str]:
        return {f"{i}.{k}": v for i, m in self._numbered() for k, v in m._functions().items()}

    def _generators(self) -> dict[str, np.random.Generator]:
        return {f"{i}.{k}": v for i, m in self._numbered() for k, v in m._generators().items()}

    def _numbered(self) -> Iterator[tuple[int, Module]]:
        return enumerate(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        return self._modules[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)

    def __repr__(self) -> str:
        lines = [f"    {module!r},".replace("\n", "\n    ") for module in self._modules]
        return "\n".join(["Sequential(", *lines, ")"])

    def _apply(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None, training: bool, /
    ) -> tuple[FloatArray, list[Any]]:
        saved = []
        for module in self._modules:
            x, kept = module._apply(x, lengths, training)
            saved.append(kept)
        return x, saved  # type: ignore[return-value]

    def _pull(self, saved: list[Any], dy: FloatArray, input_gradient: bool, /) -> FloatArray | None:
        # Below the lowest module with parameters nobody reads a gradient but the caller.
        lowest = 0
        if not input_gradient:
            sizes = [module.flat_params.size for module in self._modules]
            lowest = next((i for i, size in enumerate(sizes) if size), len(sizes))
        gradient: FloatArray | None = dy
        for i in reversed(range(lowest, len(self._modules))):
            if gradient is None:
                break
            gradient = self._modules[i]._pull(saved[i], gradient, input_gradient or i > lowest)
        return gradient if input_gradient else None

    def save(self, path: PathLike) -> None:
        """Write the model to a file that `pygru.load` reads; see `pygru.save`."""
        save(self, path)


def _common_dtype(modules: tuple[Module, ...]) -> FloatDType:
    """Return the dtype of all modules with parameters."""
    dtypes = [(i, m) for i, m in enumerate(modules) if m.flat_params.size]
    for i, module in dtypes[1:]:
        if module.dtype != dtypes[0][1].dtype:
            raise ValueError(
                f"Sequential: module {i} ({type(module).__name__}) must have the dtype of module "
                f"{dtypes[0][0]}, {dtypes[0][1].dtype}, got {module.dtype}"
            )
    return dtypes[0][1].dtype if dtypes else np.dtype(np.float32)


def _common_layout(modules: tuple[Module, ...]) -> bool | None:
    """Return batch_first of all modules that look at time, None where none says."""
    layouts = [(i, m) for i, m in enumerate(modules) if m.batch_first is not None]
    for i, module in layouts[1:]:
        if module.batch_first != layouts[0][1].batch_first:
            raise ValueError(
                f"Sequential: module {i} ({type(module).__name__}) must have batch_first="
                f"{layouts[0][1].batch_first} as module {layouts[0][0]} has, "
                f"got batch_first={module.batch_first}"
            )
    return layouts[0][1].batch_first if layouts else None


# Files

_CLASSES: dict[str, type[Module]] = {
    cls.__name__: cls
    for cls in (GRU, RNN, Linear, Embedding, Dropout, LayerNorm, LastStep, MeanOverTime, Sequential)
}


def describe(module: Module) -> Config:
    """Return class and constructor arguments of a module, as JSON can hold them."""
    name = type(module).__name__
    if _CLASSES.get(name) is not type(module):
        raise TypeError(
            f"save: module must be one of pygru's own classes {sorted(_CLASSES)}, got {name}; "
            "keep the state_dict of others"
        )
    return {"class": name, "config": module.config()}


def build(description: Any) -> Module:
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
    if name == "Sequential":
        if set(config) != {"modules"} or not isinstance(config["modules"], list):
            raise ValueError(f"config of Sequential must be a list of modules, got {config!r}")
        return Sequential(*map(build, config["modules"]))
    if name in ("GRU", "RNN", "Linear", "Embedding"):
        config = config | {"init": "zeros"}
    return _CLASSES[name](**config)


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
    arrays, metadata = _read(path)
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


def _read(path: Path) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return the arrays and the metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb"):  # the usual OSError, with the usual message, when that is what is wrong
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except (SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"load: {path} is not a readable safetensors file: {error}") from error
