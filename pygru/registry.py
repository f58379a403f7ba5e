# SPDX-License-Identifier: MIT
"""The classes that can be described and made again: what a file or a model knows of its modules.

A class marked `savable` is in the table; one that holds other modules describes them in its
``config`` with `describe` and makes them again in ``_from_config`` with `build`. The table knows no
layers: they enter themselves. `pygru.files` writes and reads what it describes.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pygru.module import Config, Module

__all__ = ["build", "describe", "is_own", "savable"]

_Class = TypeVar("_Class", bound=type[Module])

_CLASSES: dict[str, type[Module]] = {}


def savable(cls: _Class) -> _Class:
    """Enter a class of pygru into the table of those that files can hold."""
    _CLASSES[cls.__name__] = cls
    return cls


def is_own(module: Module) -> bool:
    """Whether a module is of one of pygru's own classes, and not of one derived from it."""
    return _CLASSES.get(type(module).__name__) is type(module)


def describe(module: Module) -> Config:
    """Return class and constructor arguments of a module, as JSON can hold them."""
    name = type(module).__name__
    if not is_own(module):
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
