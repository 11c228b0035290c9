"""Files of an official archive: that they are there, whole, and all of them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from modeling_crh.progress_bar import progress_bar


def find_file(data_dir: Path, *names: str) -> Path:
    """The first of several places of a file, relative to `data_dir`, that exists.

    Raises:
        ValueError: If none does.
    """
    for name in names:
        if (data_dir / name).is_file():
            return data_dir / name
    raise ValueError(f"`data_dir` must hold {' or '.join(names)}, but {data_dir / names[0]} does not exist.")


def unpacked_folder(data_dir: Path, archive: str) -> Path:
    """The folder that an archive unpacks to, whether `data_dir` is that folder or the one around it."""
    inner = data_dir / archive
    return inner if inner.is_dir() else data_dir


def read_checked(path: Path, md5: str) -> bytes:
    """Content of a file whose checksum is known.

    Raises:
        ValueError: If the file has another checksum.
    """
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(f"{path} must have the official MD5 checksum {md5}, but has {found}.")
    return content


def require_images(paths: Iterable[Path]) -> None:
    """Check that every annotated image is there, as it is not after an archive was unpacked in part.

    Raises:
        ValueError: If a file is missing or empty.
    """
    bar = progress_bar(paths, desc="Looking for images")
    missing = [path for path in bar if not path.is_file() or path.stat().st_size == 0]
    if missing:
        others = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise ValueError(f"`data_dir` must hold every annotated image, but {missing[0]}{others} missing or empty.")
