"""Write files atomically: a file is complete, or it does not exist."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` to write to; it replaces `target` at the end, or is removed on an error.

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
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with whole_file(path) as partial:
        partial.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")
