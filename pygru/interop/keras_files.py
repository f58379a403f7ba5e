# SPDX-License-Identifier: MIT
"""Keras 3 files without Keras: the zip archive .keras, and HDF5 weights through h5py.

A .keras archive holds ``config.json`` and ``model.weights.h5``. In the HDF5 file the arrays of the
layer ``gru`` are ``layers/gru/cell/vars/0``, ``1``, ``2``; a layer is called by its class in snake
case and, from the second on, a number.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pygru.interop.blocks import Array
from pygru.interop.containers import open_zip

__all__ = ["read_archive", "read_weights", "write_weights"]

DEEPEST = 8  # groups inside groups; Keras needs 6
MOST = 4096  # groups and arrays in one file
CONFIG = 1 << 18  # bytes of JSON however small the file is; one layer takes 1000 to 4000


def read_archive(path: Path) -> tuple[Any, BinaryIO]:
    """Return what config.json holds, and the file of weights."""
    import json

    with open_zip(path, compressed=True) as archive:
        names = archive.namelist()
        for needed in ("config.json", "model.weights.h5"):
            if names.count(needed) != 1:
                raise ValueError(f"must hold one {needed}, as a .keras file of Keras 3 does")
        # A byte of JSON can become an object of 64 in memory.
        limit = max(CONFIG, path.stat().st_size // 32)
        if archive.getinfo("config.json").file_size > limit:
            raise ValueError(f"must hold a config.json of at most {limit} bytes")
        config = json.loads(archive.read("config.json"))
        return config, io.BytesIO(archive.read("model.weights.h5"))


def read_weights(file: BinaryIO) -> dict[str, list[Array]]:
    """Return the arrays of every group of variables in an HDF5 file, by the group's name."""
    h5py = _h5py("from_keras")
    found: dict[str, dict[int, Array]] = {}
    size = file.seek(0, io.SEEK_END)
    with h5py.File(file, "r") as root:
        if "layers" not in root:
            whole = ", got a whole model in HDF5: load it and save it as .keras"
            raise ValueError(
                "must hold the group 'layers', as a weights file of Keras 3 does"
                + whole * ("model_weights" in root)
            )
        seen = 0
        for name, dataset in _datasets(h5py, root["layers"], "layers", DEEPEST):
            seen += 1
            group, _, key = name.rpartition("/")
            if seen > MOST or not key.isdigit():
                raise ValueError(f"must hold at most {MOST} arrays called 0, 1, 2 ..., got {name}")
            if group.endswith("seed_generator/vars"):  # what dropout draws from
                continue
            size -= dataset.size * dataset.dtype.itemsize
            if size < 0:
                raise ValueError(f"{name} of shape {dataset.shape} must fit into the file")
            found.setdefault(group, {})[int(key)] = dataset[()]
    return {group: [found[group][k] for k in sorted(found[group])] for group in found}


def _datasets(h5py: Any, group: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Give every array below a group with its name; nothing that lies outside of the file."""
    for i, key in enumerate(group):
        at = f"{name}/{key}"
        if i > MOST or depth == 0:
            raise ValueError(f"must hold some layers of variables, got more than that at {name}")
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{at} must be in the file itself, got a link")
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from _datasets(h5py, item, at, depth - 1)
            continue
        properties = item.id.get_create_plist() if isinstance(item, h5py.Dataset) else None
        if (
            properties is None
            or properties.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
            or properties.get_nfilters()
            or properties.get_external_count()
        ):
            raise ValueError(f"{at} must be an array stored in one piece, as Keras stores it")
        if item.dtype.kind not in "fiu":
            raise ValueError(f"{at} must hold numbers, got {item.dtype}")
        yield at, item


def write_weights(path: Path, groups: Mapping[str, Sequence[Array]]) -> None:
    """Write groups of arrays to an HDF5 file, as ``model.load_weights`` of Keras 3 reads it."""
    from pygru.files import write_beside

    h5py = _h5py("write_keras_weights")
    content = io.BytesIO()
    with h5py.File(content, "w") as root:
        root.create_group("layers")
        for group, arrays in groups.items():
            made = root.require_group(group)
            for i, array in enumerate(arrays):
                made.create_dataset(str(i), data=np.ascontiguousarray(array))
    write_beside(path, content.getvalue())


def _h5py(where: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{where}: weights of Keras need h5py: pip install h5py") from error
    return h5py
