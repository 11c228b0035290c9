"""Find what lies near an image or an item, show pictures of items, and read images that strangers upload."""

import base64
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
from numpy.typing import NDArray

from modeling_crh.checks import check_path
from modeling_crh.images import UnreadableImageError, decoding, to_rgb
from modeling_crh.runtime.html import Thumbnail, check_image_root, thumbnail_within
from modeling_crh.search import HammingIndex
from modeling_crh.search.index_file import label_text
from modeling_crh.search.queries import load_encoder

Pictures = Callable[[int, str | None], Thumbnail]
"""Gives the picture of an item by its position and its path."""

_KEPT = 4096  # thumbnails, of up to about 20 kB each


def no_pictures(position: int, path: str | None) -> Thumbnail:
    """No picture of any item."""
    return Thumbnail()


def folder_pictures(root: str | Path) -> Pictures:
    """Pictures from the images in a folder; no path of an index leads out of it.

    Raises:
        FileNotFoundError: If `root` is no folder.
    """
    read = lru_cache(_KEPT)(partial(thumbnail_within, check_image_root(root)))
    return lambda position, path: Thumbnail() if path is None else read(path)


def stored_pictures(file: str | Path) -> Pictures:
    """Pictures from a file that `crh push --space` wrote, which is mapped into memory.

    Raises:
        ValueError: If it is no such file.
    """
    path = check_path("pictures", file)
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().select(["uri", "sharp"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"`pictures` must be a file of stored thumbnails, but {str(file)!r} is not.") from error
    uris, sharp = table["uri"], table["sharp"]

    def read(position: int, path: str | None) -> Thumbnail:
        if position >= len(uris) or not uris[position].is_valid:
            return Thumbnail()
        return Thumbnail(uris[position].as_py(), sharp=sharp[position].as_py())

    return read


@dataclass(frozen=True, eq=False)
class Item:
    """An item of the database, or an image to search with.

    Args:
        name: Name of its file, or "item" and its id.
        label: Label in one line; empty where there is none.
        picture: Picture, which may be empty.
        code: `(K / 8,)` packed code.
        position: Position in the database; None for an image of one's own.
        encoding: Milliseconds that it took to encode the image; None where the index holds its code.
    """

    name: str
    label: str
    picture: Thumbnail
    code: NDArray[np.uint8]
    position: int | None = None
    encoding: float | None = None

    @property
    def title(self) -> str:
        """Label and name in one line."""
        return f"{self.label}, {self.name}" if self.label else self.name


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to a query.

    Args:
        query: The item to search with.
        hits: Items and their distances in bits, nearest first.
        searching: Milliseconds that the search took.
    """

    query: Item
    hits: list[tuple[Item, int]]
    searching: float


class Finder:
    """Encodes images, searches for codes and names what it finds.

    Args:
        index: Index over codes of images.
        model: Folder or Hub id of the model that made them.
        pictures: Gives the pictures of the items.

    Raises:
        ValueError: If there is no such model, another one made the index, or it reads no images.
    """

    def __init__(self, index: HammingIndex, model: str, pictures: Pictures = no_pictures) -> None:
        self._encoder = load_encoder(index, model, num_workers=0)
        if self._encoder.reads != "image":
            raise ValueError(f"`model` must read images, but reads {self._encoder.reads}.")
        self.index, self.pictures = index, pictures
        self._packed = index.packed  # (N, K / 8)
        self.of_image(np.zeros((8, 8, 3), np.uint8))  # the first image is slow

    @property
    def model_name(self) -> str:
        """Name of the model; of a folder on this machine, its last part alone."""
        name = self.index.model
        return Path(name).resolve().name if Path(name).exists() else name

    def of_image(self, pixels: NDArray[np.uint8]) -> Item:
        """Encode an image `(H, W, 3)` to search with."""
        start = time.perf_counter()
        (code,) = self._encoder.packed([pixels])
        encoding = 1000 * (time.perf_counter() - start)
        return Item("Your image", "", Thumbnail.of(pixels), code, encoding=encoding)

    def of_item(self, position: Any) -> Item:
        """Take an item of the database to search with.

        Raises:
            ValueError: If there is no item at `position`.
        """
        if not isinstance(position, int) or not 0 <= position < len(self.index):
            raise ValueError("There is no such image in the database.")
        (item,) = self.items(np.array([position]))
        return item

    def search(self, query: Item, k: int, radius: int) -> Answer:
        """Find the `k` nearest items within `radius` bits."""
        start = time.perf_counter()
        positions, distances = (found[0] for found in self.index.search_positions(query.code[None], k))
        searching = 1000 * (time.perf_counter() - start)
        near = distances <= radius
        return Answer(query, list(zip(self.items(positions[near]), distances[near].tolist(), strict=True)), searching)

    def items(self, positions: NDArray[np.int64]) -> list[Item]:
        """Items by their positions."""
        found = []
        for position, record in zip(positions.tolist(), self.index.records(positions), strict=True):
            path = record["path"]
            name = f"item {record['id']}" if path is None else PurePath(path).name
            picture, code = self.pictures(position, path), self._packed[position]
            found.append(Item(name, label_text(record["label"]), picture, code, position))
        return found


MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000
"""A photograph of any phone; as RGB 150 MB."""

MAX_RATIO = 20
"""Longer side over shorter side: many processors bring the shorter one to a size, whatever the other becomes."""

_MAX_LENGTH = -(-MAX_BYTES // 3) * 4  # in base 64

FORMATS = ("PNG", "JPEG", "WebP", "GIF", "AVIF", "BMP")
"""What browsers show; Pillow reads far more, by code that few people look at."""


def read_upload(content: Any, size: Any = None) -> NDArray[np.uint8]:
    """Decode an image that came from a browser.

    Args:
        content: The file in base 64, as the page sends it; but it may be anything.
        size: Number of bytes that the page names; it sends no content of more than `MAX_BYTES`.

    Returns:
        `(H, W, 3)`.

    Raises:
        ValueError: If it has more than `MAX_BYTES` or `MAX_PIXELS`, is longer than `MAX_RATIO` allows, or is no
            complete image of one of the `FORMATS`: one sentence for the person who sent it.
    """
    if (isinstance(size, int) and size > MAX_BYTES) or (isinstance(content, str) and len(content) > _MAX_LENGTH):
        raise ValueError(f"An image may have {MAX_BYTES // 10**6} MB at most, but this file has more.")
    if not isinstance(content, str):
        raise ValueError("No image has arrived.")
    try:
        data = base64.b64decode(content, validate=True)
    except ValueError as error:
        raise ValueError("No image has arrived.") from error
    image = _open(data)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"An image may have {MAX_PIXELS // 10**6} million pixels at most, "
            f"but this one has {image.width:,} x {image.height:,}."
        )
    if max(image.size) > MAX_RATIO * min(image.size):
        raise ValueError(
            f"An image may be {MAX_RATIO} times as long as it is wide at most, "
            f"but this one has {image.width:,} x {image.height:,} pixels."
        )
    try:
        return to_rgb(image)
    except UnreadableImageError as error:
        raise ValueError("This image cannot be read: its file is damaged or not complete.") from error


def _open(data: bytes) -> PIL.Image.Image:
    """Read the head of the file."""
    try:
        with decoding():
            return PIL.Image.open(io.BytesIO(data), formats=[name.upper() for name in FORMATS])
    except UnreadableImageError as error:
        if isinstance(error.__cause__, PIL.Image.DecompressionBombError):
            raise ValueError(f"An image may have {MAX_PIXELS // 10**6} million pixels at most.") from error
        raise ValueError(
            f"This file is no image that can be read: it must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
        ) from error
