"""The file of an index: whole and unchanged, or refused; written beside its place, and then moved there.

    bytes 0..7     "CRHINDEX"
    bytes 8..11    format version, little-endian
    bytes 12..43   SHA-256 of all that follows
    bytes 44..47   length of the header, little-endian
    then           header: JSON with `num_bits`, `num_items`, `kind`, `model`, `revision`, and the lengths of the parts
    then           the parts, one after the other

The checksum finds damage; it is no signature, and says nothing about who made the file.
"""

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeling_crh.checks import check_path
from modeling_crh.runtime.atomic_files import whole_file

MAGIC = b"CRHINDEX"
FORMAT_VERSION = 1

_START = struct.Struct("<8sI32s")
_LENGTH = struct.Struct("<I")

Parts = dict[str, NDArray[np.uint8]]


def write_index_file(path: str | Path, header: dict[str, Any], parts: Parts) -> None:
    """Write a file that is there as a whole or not at all; an older one of the name stays until then.

    Args:
        path: Where to; its folder must exist.
        header: In JSON's types.
        parts: Bytes by name.

    Raises:
        ValueError: If `path` is empty or no path.
        OSError: If it cannot be written.
    """
    target = check_path("path", path)
    lengths = {name: part.nbytes for name, part in parts.items()}
    text = json.dumps(header | {"parts": lengths}).encode()
    body: list[Any] = [_LENGTH.pack(len(text)), text, *(np.ascontiguousarray(part).data for part in parts.values())]
    checksum = hashlib.sha256()
    for piece in body:
        checksum.update(piece)
    with whole_file(target) as partial, partial.open("wb") as file:
        for piece in (_START.pack(MAGIC, FORMAT_VERSION, checksum.digest()), *body):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(target.parent)


def read_index_file(path: str | Path) -> tuple[dict[str, Any], Parts]:
    """Read a file and check it: nothing in it is interpreted before its checksum is right.

    Args:
        path: The file.

    Returns:
        The header and the parts.

    Raises:
        ValueError: If there is no such file, it is of another kind or format version, or it is damaged.
    """
    file = check_path("path", path)
    if not file.is_file():
        raise ValueError(f"`path` must be the file of an index, but there is no file {str(path)!r}.")
    content = file.read_bytes()
    if not content.startswith(MAGIC):
        raise ValueError(f"`path` must be the file of an index, but {str(path)!r} is another file.")
    if len(content) < _START.size + _LENGTH.size:
        raise ValueError(f"`path` must be an undamaged index, but {str(path)!r} is cut short.")
    _, version, checksum = _START.unpack_from(content)
    if version != FORMAT_VERSION:
        raise ValueError(
            f"`path` must be an index of format version {FORMAT_VERSION}, but {str(path)!r} is of version {version}."
        )
    if hashlib.sha256(memoryview(content)[_START.size :]).digest() != checksum:
        raise ValueError(f"`path` must be an undamaged index, but the checksum of {str(path)!r} is wrong.")
    try:
        return _divide(content)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, struct.error) as error:
        raise ValueError(f"`path` must be an index, but the header of {str(path)!r} is wrong: {error}.") from error


def is_index_file(path: str | Path) -> bool:
    """Whether a file starts as an index does."""
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _divide(content: bytes) -> tuple[dict[str, Any], Parts]:
    (length,) = _LENGTH.unpack_from(content, _START.size)
    start = _START.size + _LENGTH.size + length
    header = json.loads(content[start - length : start])
    parts: Parts = {}
    for name, size in header.pop("parts").items():
        parts[name] = np.frombuffer(content, np.uint8, size, start)
        start += size
    if start != len(content):
        raise ValueError(f"its parts end at byte {start} of {len(content)}")
    return header, parts


def _sync_folder(folder: Path) -> None:
    """Make the new name last, where the system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
