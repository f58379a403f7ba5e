# SPDX-License-Identifier: MIT
"""PyTorch: modules, state_dicts and their files, in and out.

PyTorch's names, shapes and gate order (r, z, n) are pygru's own, and its GRU is ``reset="after"``:
nothing is rearranged here, only recognised. A state_dict in a safetensors file needs no torch; a
.pt file is read through ``torch.load(weights_only=True)`` and through nothing else.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pygru.activations import ReLU, Sigmoid, Softmax, Tanh
from pygru.cells import GRUCell, RNNCell
from pygru.composite import check_own
from pygru.files import read_safetensors
from pygru.interop import blocks, torch_modules
from pygru.interop.blocks import Array, Block
from pygru.interop.checking import compare, unavailable
from pygru.interop.containers import check_into, is_safetensors, path_of, reading
from pygru.interop.state_dicts import as_array, as_arrays, from_arrays, recurrent_block
from pygru.interop.torch_files import read_pt
from pygru.layers import GRU, Embedding, Linear
from pygru.model import Sequential
from pygru.module import Module
from pygru.pooling import BothEnds, LastStep, MeanOverTime, TimePooling
from pygru.recurrent import Recurrent
from pygru.regularization import Dropout, LayerNorm
from pygru.widths import Widths

__all__ = ["from_torch", "to_torch"]

POOLINGS: tuple[type[TimePooling], ...] = (LastStep, BothEnds, MeanOverTime)
ACTIVATIONS: tuple[type[Module], ...] = (ReLU, Sigmoid, Tanh)


def from_torch(source: Any, into: Module | None = None, *, check: bool = False) -> Any:
    """Make a model of PyTorch's: same functions, same weights, bit for bit.

    Parameters
    ----------
    source : torch.nn.Module, mapping or path-like
        nn.GRU, nn.RNN, nn.Linear, nn.Embedding, nn.Dropout, nn.LayerNorm, nn.ReLU, nn.Sigmoid,
        nn.Tanh, nn.Softmax, nn.Identity or nn.Sequential of them; nn.GRUCell or nn.RNNCell; a
        state_dict, of tensors or arrays; or a file with a state_dict, safetensors or .pt.
    into : Module, optional
        A model to load the weights into, module by module in the order of the source's names, those
        of a cell into a layer too. A state_dict does not tell everything: not batch_first, nor the
        nonlinearity of an RNN, nor anything without parameters. Without it, the modules are put in
        a row as they come.
    check : bool
        Where torch is installed run both on random input, print the largest absolute difference.

    Returns
    -------
    Module
        ``into`` if given; otherwise a single layer, or a Sequential where there are several.

    Raises
    ------
    TypeError
        When the source is none of these.
    ValueError
        When something has no equivalent in pygru, named; when a state_dict leaves open what is
        meant; when a file is corrupt, named.
    ImportError
        When a .pt file is given and torch is not installed.

    Examples
    --------
    >>> gru = pygru.GRU(3, 4, num_layers=2, rng=0)
    >>> weights = {f"encoder.{name}": w for name, w in gru.state_dict().items()}
    >>> from_torch(weights)
    GRU(input_size=3, hidden_size=4, num_layers=2, bias=True, batch_first=False, dropout=0.0,
    bidirectional=False, reset='after', dtype='float32')
    """
    check_into("from_torch", into)
    path = path_of("from_torch", source)
    with reading("from_torch", path):
        if not (path or isinstance(source, Mapping)):
            model = blocks.build(_of_module(source, "module"), row=_is_sequential(source))
            if into is not None:
                raise ValueError("into must be None for a module, which tells everything itself")
            theirs = source
        else:
            # A safetensors file is sorted by name, everything else by when a module was defined.
            ordered = path is None or not is_safetensors(path)
            named = as_arrays(_read(path) if path else source)
            model, theirs = from_arrays(named, into, ordered=ordered)
    if check and not unavailable("from_torch", "torch", "torch"):
        compare_with_torch("from_torch", model, theirs)
    return model


# Modules


def _is_sequential(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Sequential)


def _of_module(module: Any, name: str, like: Any = np.float32) -> list[Block]:
    """Return the blocks of a torch module; ``like`` is the dtype of what has no parameters."""
    torch = sys.modules.get("torch")  # whoever holds a module has imported it
    if torch is None or not isinstance(module, torch.nn.Module):
        raise TypeError(
            "from_torch: source must be a torch.nn.Module, a state_dict or a path, "
            f"got {type(module).__name__}"
        )
    nn = torch.nn
    cls = nn.utils.parametrize.type_before_parametrizations(module)
    own, at = torch_modules._classes(), f"{name} ({cls.__name__})"
    if cls in (nn.Sequential, own["Sequential"]):
        # (A module that stands in two places is a child once.)
        kinds = [parameter.dtype for parameter in module.parameters()]
        like = np.float64 if torch.float64 in kinds else np.float32
        return [b for k, child in enumerate(module) for b in _of_module(child, f"module {k}", like)]
    if isinstance(module, (nn.GRU, nn.RNN)) and _computes_as_its_own(module):
        return [_of_recurrent(module, at, isinstance(module, nn.GRU))]
    if cls is nn.Linear:
        w = _weights(module)
        return [blocks.linear(at, w["weight"], w.get("bias"))]
    if cls is nn.Embedding:
        if module.max_norm is not None:
            raise ValueError(f"{at} must have max_norm=None, got {module.max_norm}")
        return [blocks.embedding(at, _weights(module)["weight"])]
    if cls is nn.LayerNorm:
        w = _weights(module)
        if len(module.normalized_shape) != 1:
            raise ValueError(f"{at} must normalise the last axis alone, got {module}")
        scale = w.get("weight", np.ones(module.normalized_shape, like))
        shift = w.get("bias", np.zeros_like(scale))
        return [blocks.norm(at, scale, shift, module.eps)]
    if cls is nn.Identity:
        return []
    if cls in (nn.GRUCell, nn.RNNCell):
        if name != "module":
            raise ValueError(f"{at} must not be in a row, as it takes a state with each input")
        return [_of_cell(module, at)]
    if cls is nn.Dropout:
        return [blocks.plain(at, Dropout, p=module.p)]
    if cls is nn.Softmax and module.dim == -1:
        return [blocks.plain(at, Softmax)]
    for activation in ACTIVATIONS:
        if cls is getattr(nn, activation.__name__):
            return [blocks.plain(at, activation)]
    for pooling in POOLINGS:
        if cls is own[pooling.__name__]:
            return [blocks.plain(at, pooling, batch_first=module.batch_first)]
    described = repr(module) if not list(module.children()) else cls.__name__
    raise ValueError(
        f"{name} must be a module that pygru has, got {described}; of others give the state_dict() "
        "and into="
    )


def _computes_as_its_own(module: Any) -> bool:
    """Return whether forward of an nn.GRU or nn.RNN is PyTorch's, or that of pygru.torch."""
    nn, fast = sys.modules["torch"].nn, sys.modules.get("pygru.torch")
    known = {cls.forward for package in (nn, fast) if package for cls in (package.GRU, package.RNN)}
    return getattr(module.forward, "__func__", None) in known


def _of_recurrent(module: Any, name: str, is_gru: bool) -> Block:
    options: dict[str, Any] = {"batch_first": module.batch_first}
    if is_gru:
        options["reset"] = "after"
    else:
        options["nonlinearity"] = module.nonlinearity
    if module.num_layers > 1:
        options["dropout"] = float(module.dropout)
    return recurrent_block(name, _weights(module), options)


def _of_cell(module: Any, name: str) -> Block:
    I, H = module.input_size, module.hidden_size  # noqa: E741
    config = {"input_size": I, "hidden_size": H, "bias": module.bias}
    variant = {"nonlinearity": module.nonlinearity} if hasattr(module, "nonlinearity") else {}
    cls = RNNCell if variant else GRUCell
    return Block(name, cls, config | variant, _weights(module), Widths(I, H))


def _weights(module: Any) -> dict[str, Array]:
    """Return what a module computes with: of what is parametrised, what becomes of it in eval."""
    named = module.state_dict()
    if "parametrizations" in module._modules:
        module = copy.deepcopy(module).eval()  # to look at one in training may change it
        computed = {name: getattr(module, name) for name in module.parametrizations}
        named = {k: v for k, v in named.items() if not k.startswith("parametrizations.")} | computed
    return {key: as_array(key, value) for key, value in named.items()}


def _read(path: Path) -> Mapping[str, Any]:
    if not is_safetensors(path):
        return read_pt(path)
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") == "pygru":
        raise ValueError("must be a file of PyTorch's, got one of pygru's own: use pygru.load")
    return arrays


# Back


def to_torch(model: Module) -> Any:
    """Make a PyTorch module of a model: same functions, same weights, bit for bit.

    Parameters
    ----------
    model : Module

    Returns
    -------
    torch.nn.Module
        Of PyTorch's own classes, in evaluation mode: ``train()`` turns its dropout on. A Sequential
        becomes one that hands on y of what gives (y, h_n), and LastStep, BothEnds and MeanOverTime
        small modules of the same name; parameters have the names they have in
        ``model.state_dict()``.

    Raises
    ------
    TypeError
        When a derived class computes its own way.
    ValueError
        When a GRU has ``reset="before"``, which PyTorch has not, or another module has no
        equivalent.
    ImportError
        When torch is not installed.

    Examples
    --------
    >>> to_torch(pygru.GRU(3, 4, rng=0))  # doctest: +SKIP
    GRU(3, 4)
    """
    check_own("to_torch", model)
    theirs = _to_torch(model)
    import torch

    weights = {name: torch.from_numpy(w) for name, w in model.state_dict().items()}
    theirs.load_state_dict(weights)
    return theirs.eval()  # as model(x) is


def _to_torch(module: Module) -> Any:
    """Return a torch module with some weights."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("to_torch: needs torch: pip install torch") from error
    own, nn = torch_modules._classes(), torch.nn
    kind: dict[str, Any] = {"dtype": getattr(torch, module.dtype.name)}
    if isinstance(module, Sequential):
        return own["Sequential"](*map(_to_torch, module))
    if isinstance(module, Recurrent):
        config = module.config() | kind
        if isinstance(module, GRU) and config.pop("reset") == "before":
            raise ValueError(
                "to_torch: reset must be 'after', the only one that torch.nn.GRU has, got 'before'"
            )
        return (nn.GRU if isinstance(module, GRU) else nn.RNN)(**config)
    if isinstance(module, GRUCell) and module.reset == "after":
        return nn.GRUCell(module.input_size, module.hidden_size, module.bias, **kind)
    if isinstance(module, RNNCell):
        return nn.RNNCell(**module.config() | kind)
    if isinstance(module, Linear):
        return nn.Linear(module.in_features, module.out_features, module.bias, **kind)
    if isinstance(module, Embedding):
        return nn.Embedding(module.num_embeddings, module.embedding_dim, **kind)
    if isinstance(module, LayerNorm):
        return nn.LayerNorm(module.normalized_shape, module.eps, **kind)
    if isinstance(module, Dropout):
        return nn.Dropout(module.p)
    if isinstance(module, Softmax):
        return nn.Softmax(dim=-1)
    if isinstance(module, ACTIVATIONS):
        return getattr(nn, type(module).__name__)()
    if isinstance(module, POOLINGS):
        return own[type(module).__name__](bool(module.batch_first))
    raise ValueError(f"to_torch: model must be of modules that torch has, got {module!r}")


# The proof


def compare_with_torch(where: str, model: Module, theirs: Any) -> None:
    """Compare with a torch module, or with one that has loaded arrays by the model's names."""
    import torch

    if isinstance(theirs, Mapping):
        weights = {name: torch.tensor(array) for name, array in theirs.items()}
        theirs = _to_torch(model)
        theirs.load_state_dict(weights)
    theirs = copy.deepcopy(theirs).eval().to(getattr(torch, model.dtype.name))
    if _is_sequential(theirs):  # PyTorch's own stops at a recurrent layer
        theirs = torch_modules._classes()["Sequential"](*_row(theirs))

    def run(x: Array) -> list[Any]:
        with torch.no_grad():
            y = theirs(torch.from_numpy(x))
        return [part.numpy() for part in (y if isinstance(y, tuple) else (y,))]

    compare(where, model, f"torch {torch.__version__}", run)


def _row(module: Any) -> list[Any]:
    """Return the modules of a Sequential, and of those inside of it, in order."""
    if not _is_sequential(module):
        return [module]
    return [inner for child in module for inner in _row(child)]
