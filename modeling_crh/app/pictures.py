"""Where a page has the pictures of the database from: a folder of images, or one file of stored thumbnails."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa

from modeling_crh.checks import check_path
from modeling_crh.search.thumbnails import Thumbnail, thumbnail_within

Pictures = Callable[[int, str | None], Thumbnail]
"""From the position and the path of an item to its picture."""

_KEPT = 4096  # thumbnails, of up to about 20 kB each


def no_pictures(position: int, path: str | None) -> Thumbnail:
    """For a database that came without."""
    return Thumbnail()


def folder_pictures(root: str | Path) -> Pictures:
    """Pictures from the images in a folder; no path of an index leads out of it.

    Raises:
        ValueError: If `root` is no folder.
    """
    folder = check_path("image_root", root)
    if not folder.is_dir():
        raise ValueError(f"`image_root` must be a folder, but got {str(root)!r}.")
    read = lru_cache(_KEPT)(partial(thumbnail_within, folder))
    return lambda position, path: Thumbnail() if path is None else read(path)


def stored_pictures(file: str | Path) -> Pictures:
    """Pictures from a file that `store_pictures` wrote, which is mapped into memory.

    Raises:
        ValueError: If it is no such file.
    """
    path = check_path("pictures", file)
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        uris, sharp = table["uri"], table["sharp"]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"`pictures` must be a file of stored thumbnails, but {str(file)!r} is not.") from error

    def read(position: int, path: str | None) -> Thumbnail:
        if position >= len(uris) or not uris[position].is_valid:
            return Thumbnail()
        return Thumbnail(uris[position].as_py(), sharp=sharp[position].as_py())

    return read
