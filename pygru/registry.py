# SPDX-License-Identifier: MIT
"""The classes that can be described and made again: what a file or a model knows of its modules.

A class marked `savable` is in the table; one that holds other modules describes them in its
``config`` with `describe`, and `build` makes those again first and hands them to ``_from_config``.
The table knows no layers: they enter themselves. `pygru.files` writes and reads what it describes.
"""

from __future__ import annotations

from reprlib import repr as short
from typing import Any, TypeVar

from pygru.module import Config, Module
from pygru.parameters import at_most

__all__ = ["build", "describe", "is_own", "overridden", "savable"]

_Class = TypeVar("_Class", bound=type[Module])

_CLASSES: dict[str, type[Module]] = {}

_DESCRIBING = {"config", "_from_config"}  # what a derived class may change and compute the same


def savable(cls: _Class) -> _Class:
    """Enter a class of pygru into the table of those that files can hold."""
    _CLASSES[cls.__name__] = cls
    code = cls.__init__.__code__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    cls._arguments = frozenset((*names, "batch_first"))
    return cls


def is_own(module: Module) -> bool:
    """Whether a module is of one of pygru's own classes, and not of one derived from it."""
    return _CLASSES.get(type(module).__name__) is type(module)


def overridden(module: Module) -> str | None:
    """Return a method that a module's class took from one of pygru's own and changed, if any.

    Whoever computes in a module's place, from its class and its weights, has to ask.

    Examples
    --------
    >>> import pygru
    >>> class Twice(pygru.Linear):
    ...     def _apply(self, x, lengths, training):
    ...         return 2 * super()._apply(x, lengths, training)[0], None
    >>> overridden(pygru.Linear(3, 2)), overridden(Twice(3, 2))
    (None, '_apply')
    """
    classes = type(module).__mro__
    own = next((i for i, cls in enumerate(classes) if _CLASSES.get(cls.__name__) is cls), 0)
    for cls in classes[:own]:
        for name, value in vars(cls).items():
            method = callable(value) or isinstance(value, property)
            computes = name == "__call__" or not name.startswith("__")
            if method and computes and name not in _DESCRIBING and hasattr(classes[own], name):
                return name
    return None


def describe(module: Module) -> Config:
    """Return class and constructor arguments of a module, as JSON can hold them."""
    name = type(module).__name__
    if not is_own(module):
        raise TypeError(
            f"save: module must be one of pygru's own classes {sorted(_CLASSES)}, got {name}; "
            "keep the state_dict of others"
        )
    return {"class": name, "config": module.config()}


def build(description: Any, most: int) -> Any:
    """Make the module that `describe` described, with all parameters 0.

    Parameters
    ----------
    description : dict
    most : int
        How many elements the parameters may have; a module of more is refused before it takes
        memory.

    Raises
    ------
    TypeError, ValueError
        When the description is not one, or has more elements.
    """
    left = most

    def made(description: Any) -> Module:
        nonlocal left
        if not isinstance(description, dict) or set(description) != {"class", "config"}:
            got = short(description)
            raise ValueError(f"a module must be described by class and config, got {got}")
        name, config = description["class"], description["config"]
        if name not in _CLASSES:
            raise ValueError(f"class must be one of {sorted(_CLASSES)}, got {short(name)}")
        if not isinstance(config, dict):
            raise ValueError(f"config of {name} must be a dict, got {short(config)}")
        before = left  # a composite's buffer holds what its parts' held, and they are counted again
        config = {key: argument(value) for key, value in config.items()}
        with at_most(before):
            module = _CLASSES[name]._from_config(config)
        left = before - module.flat_params.size
        return module

    def argument(value: Any) -> Any:
        """Return a value of a config with modules in place of their descriptions."""
        if isinstance(value, list):
            return [argument(entry) for entry in value]
        return made(value) if isinstance(value, dict) else value

    return made(description)
