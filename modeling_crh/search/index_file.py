"""The file of an index: complete and unchanged, or refused.

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
_FIELDS = {"kind": str, "model": str, "revision": str, "num_bits": int, "num_items": int, "parts": dict}

Parts = dict[str, NDArray[np.uint8]]


def write_index_file(path: str | Path, header: dict[str, Any], parts: Parts) -> None:
    """Write the file of an index atomically: an older one of the name stays until the new one is complete.

    Args:
        path: The file; its folder must exist.
        header: All fields but the lengths of the parts.
        parts: Bytes by name.

    Raises:
        ValueError: If `path` is empty or no path.
        OSError: If it cannot be written.
    """
    target = check_path("path", path)
    text = json.dumps(header | {"parts": {name: part.nbytes for name, part in parts.items()}}).encode()
    body: list[Any] = [_LENGTH.pack(len(text)), text, *(np.ascontiguousarray(part).data for part in parts.values())]
    checksum = hashlib.sha256()
    for piece in body:
        checksum.update(piece)
    with whole_file(target) as partial, partial.open("wb") as file:
        for piece in (_START.pack(MAGIC, FORMAT_VERSION, checksum.digest()), *body):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def read_index_file(path: str | Path) -> tuple[dict[str, Any], Parts]:
    """Read the file of an index; nothing in it is interpreted before its checksum is right.

    Args:
        path: The file.

    Returns:
        The header, every field of which has its type, and the parts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind or format version, or damaged.
    """
    file = check_path("path", path)
    if not file.is_file():
        raise FileNotFoundError(f"`path` must be the file of an index, but there is no file {str(path)!r}.")
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
    except (ValueError, RecursionError) as error:  # JSON that is none, or nested without end
        raise ValueError(f"`path` must be an index, but the header of {str(path)!r} is wrong: {error}.") from error


def is_index_file(path: str | Path) -> bool:
    """Whether a file starts as an index does."""
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _divide(content: bytes) -> tuple[dict[str, Any], Parts]:
    (length,) = _LENGTH.unpack_from(content, _START.size)
    text, rest = np.split(np.frombuffer(content, np.uint8)[_START.size + _LENGTH.size :], [length])
    header = json.loads(text.tobytes())
    for name, kind in _FIELDS.items():
        if not isinstance(header, dict) or type(header.get(name)) is not kind:
            raise ValueError(f"it has no `{name}` of type {kind.__name__}")
    parts: Parts = {}
    for name, size in header.pop("parts").items():
        if type(size) is not int or not 0 <= size <= len(rest):
            raise ValueError(f"its part {name!r:.80} has {size!r:.80} of the {len(rest)} bytes that are left")
        parts[name], rest = rest[:size], rest[size:]
    if len(rest):
        raise ValueError(f"{len(rest)} bytes follow its last part")
    return header, parts
