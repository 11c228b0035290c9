"""Write files atomically, and folders by one run at a time, also of several machines that share a folder."""

import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

LOCK_NAME = ".lock"
"""File that a run locks while it writes to a folder; one that a killed run has left blocks nobody."""

_TRIES = 1000  # to lock a folder that other runs keep removing

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


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
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def first_file(folder: Path) -> str | None:
    """Return the first name in a folder by the alphabet; None for an empty or missing one.

    Names that start with a dot are passed over: killed processes leave such files, and `whole_file` removes them.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    return min((name for name in names if not name.startswith(".")), default=None)


def lock(descriptor: int, *, wait: bool = True) -> bool:
    """Lock an open file until it is closed, also where other descriptors of it are opened and closed meanwhile.

    Args:
        descriptor: Descriptor of the file, open for writing.
        wait: Whether to wait for another process that holds the lock.

    Returns:
        Whether the file is locked now; False also where the operating or file system has no locks.

    Raises:
        BlockingIOError: If another process holds the lock, without `wait`.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


@contextmanager
def only_run(folder: Path, *, is_main: bool = True, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other runs out of a folder while this one writes; new folders are removed again if they stay empty.

    What the folder holds must be read within: before, another run could write. Where the file system has no locks,
    runs are not kept apart.

    Args:
        folder: Folder, created if missing.
        is_main: Whether this process takes the lock for all processes of its run.
        wait: Barrier of these processes.

    Raises:
        ValueError: If another run writes to the folder.
    """
    if not is_main:
        wait()
        yield
        return
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    descriptor = _lock_folder(folder)
    try:
        wait()
        yield
    finally:
        (folder / LOCK_NAME).unlink(missing_ok=True)  # while it is held: afterwards it could be another run's lock
        with suppress(OSError):  # one is not empty
            for one in missing:
                one.rmdir()
        os.close(descriptor)


def _lock_folder(folder: Path) -> int:
    """Lock the file `.lock` of a folder, and return its descriptor."""
    path = folder / LOCK_NAME
    in_use = f"`out` must be a folder that no other run writes to, but {str(folder)!r} is in use."
    for tries_left in reversed(range(_TRIES)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _OPEN, 0o666)
        except (FileExistsError, FileNotFoundError):  # another run has just removed the folder, which stayed empty
            if _is_no_folder(folder) or not tries_left:
                raise
            continue
        try:
            lock(descriptor, wait=False)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ValueError(in_use) from error
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # of a file that another run has removed at its end, and that locks nothing
    raise ValueError(in_use)


def _is_no_folder(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)  # asked once: another run may remove the folder meanwhile
    except FileNotFoundError:
        return False


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
