# SPDX-License-Identifier: MIT
"""State dicts in .pt files: read by ``torch.load(weights_only=True)``, after a look at the pickle.

``weights_only`` keeps a file from running code. It does not keep one from asking for a terabyte
of zeros, so the names and the operations in the pickle are held against those of a state_dict
before torch sees the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygru.interop.containers import SLACK, open_zip

__all__ = ["read_pt"]

NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in ("BFloat16", "Double", "Float", "Half", "Int", "Long")),
}
OPERATIONS = {
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_DICT", "EMPTY_TUPLE",
    "EMPTY_LIST", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS",
    "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "BINPERSID", "REDUCE",
    "BUILD",
}  # fmt: skip


def read_pt(path: Path) -> Mapping[str, Any]:
    """Return the state_dict in a .pt file, tensors by name.

    Raises
    ------
    ValueError
        When the file holds anything else.
    ImportError
        When torch is not installed.
    """
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            raise ValueError(
                "must be a zip archive, as torch has written since 1.6, got a bare pickle; load it "
                "with torch and pass the state_dict"
            )
    _check_pickle(path)
    try:
        import torch
    except ImportError as error:
        raise ImportError("from_torch: a .pt file needs torch: pip install torch") from error
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"must hold a state_dict, got {type(content).__name__}")
    size = sum(t.numel() * t.element_size() for t in content.values() if hasattr(t, "numel"))
    if size > path.stat().st_size:  # tensors that show one storage many times over
        raise ValueError(f"must hold the elements it shows, got {size} bytes of views")
    return content


def _check_pickle(path: Path) -> None:
    """Refuse a file whose pickle does anything that saving a state_dict does not do."""
    import pickletools

    with open_zip(path, compressed=False) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith("/data.pkl")]
        if len(members) != 1:
            raise ValueError("must hold one data.pkl, as torch.save writes it")
        # An operation of one byte can make an object of 64.
        limit = max(SLACK, path.stat().st_size // 32)
        if members[0].file_size > limit:
            raise ValueError(
                f"must hold a data.pkl of at most {limit} bytes, got {members[0].file_size}"
            )
        for operation, argument, _ in pickletools.genops(archive.read(members[0])):
            if operation.name not in OPERATIONS:
                raise ValueError(
                    f"must hold a state_dict alone, got a pickle with {operation.name}"
                )
            if operation.name == "GLOBAL" and argument not in NAMES:
                raise ValueError(f"must hold a state_dict alone, got {argument!r} in its pickle")
