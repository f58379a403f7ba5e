# SPDX-License-Identifier: MIT
"""Files as Keras would write them, without Keras."""

from __future__ import annotations

import json
import zipfile

import numpy as np

I, H, M = 3, 4, 2  # noqa: E741


def layer(kind, name="one", **config):
    return {"class_name": kind, "config": {"name": name, "dtype": "float32"} | config}


def gru_config(**config):
    usual = {"units": H, "activation": "tanh", "recurrent_activation": "sigmoid"}
    return layer("GRU", **(usual | config))


def write_archive(path, layers, groups, method=zipfile.ZIP_STORED, outputs=None, **config):
    """Write a .keras file, of a functional model where its outputs are given."""
    import h5py

    with h5py.File(path.with_suffix(".h5"), "w") as root:
        root.create_group("layers")
        for group, arrays in groups.items():
            for i, array in enumerate(arrays):
                root[f"{group}/{i}"] = array
    whole = {"class_name": "Sequential", "config": {"layers": layers}}
    if outputs is not None:
        whole["class_name"], whole["config"]["output_layers"] = "Functional", outputs
    whole |= config
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(whole))
        archive.writestr("model.weights.h5", path.with_suffix(".h5").read_bytes())
    return path


def gru_arrays(reset="after", seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(I, 3 * H), (H, 3 * H), (2, 3 * H) if reset == "after" else (3 * H,)]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
