"""Write files atomically: a file is complete, or it does not exist."""

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from modeling_crh.runtime.locks import lock


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield an empty temporary file beside `target` to write to; it replaces `target`, or is removed on an error.

    The temporary file is locked while it is written. What a killed process has left of the same target is locked by
    nobody, on this machine or another, and is removed first. Where the file system has no locks, it stays.

    Args:
        target: Path of the file, in a folder that exists. An older file stays as it is until it is replaced.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     target = Path(folder, "greeting.txt")
        ...     with whole_file(target) as partial:
        ...         _ = partial.write_text("hello")
        ...     target.read_text(), len(list(Path(folder).iterdir()))
        ('hello', 1)
    """
    _remove_abandoned(target)
    partial, descriptor = _create_locked(target)
    try:
        yield partial
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _create_locked(target: Path) -> tuple[Path, int]:
    """Create a partial file of a target, and lock it by a descriptor that the caller closes."""
    while True:
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        lock(descriptor)
        if partial.exists():  # before it was locked, another process could remove it
            return partial, descriptor
        os.close(descriptor)


def _remove_abandoned(target: Path) -> None:
    """Remove the partial files of a target that no process has locked."""
    names = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]+\.partial")
    for entry in [entry for entry in os.scandir(target.parent) if names.fullmatch(entry.name)]:
        if not entry.is_file(follow_symlinks=False):
            continue
        with suppress(OSError):  # another process holds it or has removed it, or another user has made it
            descriptor = os.open(entry.path, os.O_RDWR)
            try:
                if lock(descriptor, wait=False):
                    os.unlink(entry.path)
            finally:
                os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with whole_file(path) as partial:
        partial.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def first_file(folder: Path) -> str | None:
    """Return the first name in a folder by the alphabet; None for an empty or missing one.

    Names that start with a dot are passed over: killed processes leave such files, and `whole_file` removes them.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    return min((name for name in names if not name.startswith(".")), default=None)
