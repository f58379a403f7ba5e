# SPDX-License-Identifier: MIT
"""Opening files of other systems: whose fault it is, and how much a file may unfold.

Readers raise ValueError with what is wrong; `reading` puts the function and the file before it.
Nothing is read that could need more memory than twice the size of its file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pygru.encoder_decoder import EncoderDecoder
from pygru.files import PathLike, as_path
from pygru.module import Module

if TYPE_CHECKING:
    import zipfile

__all__ = ["check_into", "is_path", "is_safetensors", "open_zip", "path_of", "read_npz", "reading"]

# What the small parts of a file (names, JSON, a directory) may take however small the file is.
SLACK = 1 << 16
CHUNK = 1 << 20


@contextmanager
def reading(where: str, path: PathLike | None, *, content: bool = False) -> Iterator[None]:
    """Turn whatever a broken file makes a reader run into, into a ValueError that names the file.

    Parameters
    ----------
    where : str
        The public function.
    path : path-like or None
        None for a source in memory.
    content : bool
        Whether that is what a file holds, and so may be as broken as one.

    Raises
    ------
    OSError
        When the file is not there or cannot be read.
    ValueError
        For anything else that a file can be blamed for.
    """
    at = f"{where}: " if path is None else f"{where}: {Path(path)}: "
    if path is not None:
        with Path(path).open("rb"):  # the usual OSError, when that is what is wrong
            pass
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{at}{error}") from error
    except ImportError:
        raise
    except Exception as error:
        if path is None and not content:
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{at}corrupt or not of this format: {reason}") from error


def check_into(where: str, into: Module | None) -> None:
    """Refuse an ``into`` that is no module, or two models."""
    if not (into is None or isinstance(into, Module)):
        raise TypeError(f"{where}: into must be a module of pygru, got {type(into).__name__}")
    if isinstance(into, EncoderDecoder):
        raise TypeError(
            f"{where}: into must be a layer, a cell or a Sequential, got EncoderDecoder: load its "
            "encoder and its decoder one by one"
        )


def is_path(source: Any) -> bool:
    """Return whether a source is the name of a file."""
    return isinstance(source, str) or hasattr(source, "__fspath__")


def path_of(where: str, source: Any) -> Path | None:
    """Return a source as the path of a file; None of what is none."""
    return as_path(where, "source", source) if is_path(source) else None


def is_safetensors(path: Path) -> bool:
    """Return whether a file is safetensors by its beginning, or should be by its name."""
    with path.open("rb") as file:
        head = file.read(9)
    # The length of the header in 8 bytes, which is below 100 MB, and the header, an object of JSON.
    return head[4:] == b"\0\0\0\0{" or path.suffix == ".safetensors"


def open_zip(path: PathLike, *, compressed: bool) -> zipfile.ZipFile:
    """Open a zip archive whose members cannot unfold to more than twice its size.

    Parameters
    ----------
    path : path-like
    compressed : bool
        Whether members may be deflated; otherwise all are stored as they are.

    Raises
    ------
    ValueError
        When it is no such archive.
    """
    import zipfile

    path = Path(path)
    size = path.stat().st_size
    _check_directory(path, size)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"must be a zip archive: {error}") from error
    methods = {zipfile.ZIP_STORED, *([zipfile.ZIP_DEFLATED] if compressed else [])}
    wrong = [m.filename for m in archive.infolist() if m.compress_type not in methods]
    # What a member claims is allocated before it is read, folded or not.
    unfolded = sum(max(m.file_size, m.compress_size) for m in archive.infolist())
    if wrong or unfolded > 2 * size + SLACK:
        archive.close()
        if wrong:
            what = "stored or deflated" if compressed else "stored without compression"
            raise ValueError(f"members must be {what}, got {wrong[0]!r}")
        raise ValueError(
            f"must unfold to at most twice its size of {size} bytes, got {unfolded} bytes"
        )
    return archive


def _check_directory(path: Path, size: int) -> None:
    """Refuse a zip archive whose directory is out of proportion, before it is read."""
    tail = min(size, 76 + 22 + 0xFFFF)  # both end records, and the longest comment
    with path.open("rb") as file:
        file.seek(size - tail)
        end = file.read(tail)
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) - at < 22:
        raise ValueError("must be a zip archive, got a file without its directory")
    (entries, directory) = struct.unpack_from("<HI", end, at + 10)
    if end[max(0, at - 76) : at].startswith(b"PK\x06\x06"):  # zip64, as torch always writes it
        entries, directory = struct.unpack_from("<QQ", end, at - 76 + 32)
    # A member takes some 500 bytes of memory: this many at most, whatever the file's size.
    if directory > max(SLACK, size // 16) or entries > max(1024, size // 1024):
        raise ValueError(
            f"must be an archive of some arrays, got one of {entries} members with a directory of "
            f"{directory} bytes"
        )


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz file; never a pickled one.

    Raises
    ------
    ValueError
        When a member is no array of real numbers, or not as large as it claims.
    """
    with open_zip(path, compressed=True) as archive:
        return {m.filename.removesuffix(".npy"): _npy(archive, m) for m in archive.infolist()}


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    npy: Any = np.lib.format
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    name = member.filename
    with archive.open(member) as file:
        read_header = headers.get(npy.read_magic(file))
        if read_header is None:
            raise ValueError(f"{name} must be an array in version 1 or 2 of the .npy format")
        shape, fortran, dtype = read_header(file)
        claimed, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if dtype.kind != "f" or claimed != there:
            raise ValueError(
                f"{name} must hold real numbers, as many as its shape says: got {dtype}, {claimed} "
                f"bytes in shape {shape} and {there} in the file"
            )
        content = np.empty(claimed, np.uint8)
        for start in range(0, claimed, CHUNK):  # so that no second copy is ever whole
            end = min(claimed, start + CHUNK)
            content[start:end] = np.frombuffer(file.read(end - start), np.uint8)
    array: npt.NDArray[Any] = content.view(dtype).reshape(shape, order="F" if fortran else "C")
    return array
