"""Answer the search page: encode uploaded images, search for codes, and give the pictures of items."""

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
from torch import Tensor

from modeling_crh.checks import check_path
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.encoding import Encoder
from modeling_crh.images import UnreadableImageError, decoding, to_rgb
from modeling_crh.runtime.html import Thumbnail, check_image_root, file_within, thumbnail_within
from modeling_crh.search import HammingIndex
from modeling_crh.search.code_index import label_text
from modeling_crh.search.queries import load_encoder

Pictures = Callable[[int, str | None], Thumbnail]
"""Function from position and path of an item to its picture."""

_KEPT = 4096  # cached thumbnails, up to about 20 kB each


def folder_pictures(root: str | Path, index: HammingIndex) -> Pictures:
    """Give pictures of the images in a folder; paths of an index that lead out of it are refused.

    Raises:
        FileNotFoundError: If `root` is not a folder.
        ValueError: If it has no image of the index, as far as 1,000 items all over the index tell.
    """
    folder = check_image_root(root)
    tried = np.unique(np.linspace(0, len(index) - 1, 1000).astype(int))
    paths = [record["path"] for record in index.records(tried)]
    if not any(path is not None and isinstance(file_within(folder, path), Path) for path in paths):
        raise ValueError(f"`image_root` must hold images of the index, but {str(root)!r} holds none of them.")
    read = lru_cache(_KEPT)(partial(thumbnail_within, folder))
    return lambda position, path: read(path)


def stored_pictures(file: str | Path) -> Pictures:
    """Give pictures from a file that `crh push --space` wrote, mapped into memory.

    Raises:
        ValueError: If the file is not of this kind.
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
    """An item of the database, or an image or a text to search with."""

    name: str  # of the image file, or "item" and the id; or the text
    label: str  # in one line; empty without a label
    picture: Thumbnail  # may be empty
    code: NDArray[np.uint8]  # packed, (K / 8,)
    logits: Tensor | None = None  # (K,) of an uploaded image or a text; None for an item of the index
    position: int | None = None  # in the database; None for an uploaded image and for a text
    encoding: float | None = None  # milliseconds to encode the image or the text; None for an item of the index

    @property
    def title(self) -> str:
        """Label and name in one line."""
        return f"{self.label}, {self.name}" if self.label else self.name


@dataclass(frozen=True, eq=False)
class Answer:
    """A query with its nearest items."""

    query: Item
    hits: list[tuple[Item, int]]  # items and their distances in bits, nearest first
    searching: float  # milliseconds of the search
    by_logits: bool = False  # whether hits are ordered by the hash logits of the query, not by bits


class Finder:
    """Encode images and texts, search for codes, and describe the items found.

    Models and settings are those of `build_page`; `pictures` gives the pictures of the items.

    Raises:
        ValueError: If a model does not exist, did not make the codes and has other centers, or does not read images or
            texts.
    """

    def __init__(
        self,
        index: HammingIndex,
        model: str,
        pictures: Pictures = lambda position, path: Thumbnail(),
        text_model: str | None = None,
        **settings: Any,
    ) -> None:
        settings = {"dtype": "auto"} | settings | {"num_workers": 0}
        self._encoder = load_encoder(index, model, **settings)
        if self._encoder.reads != "image":
            raise ValueError(f"`model` must read images, but reads {self._encoder.reads}.")
        self._text_encoder = None if text_model is None else load_encoder(index, text_model, **settings)
        if self._text_encoder is not None and self._text_encoder.reads != "text":
            raise ValueError(f"`text_model` must read texts, but reads {self._text_encoder.reads}.")
        self.index, self.pictures, self.reads_texts = index, pictures, text_model is not None
        self._packed = index.packed  # (N, K / 8)
        self.of_image(np.zeros((8, 8, 3), np.uint8))  # the first image is slow

    @property
    def model_name(self) -> str:
        """Name of the model; only the last part if it is a folder on this machine."""
        name = self.index.model
        return Path(name).resolve().name if Path(name).exists() else name

    def of_image(self, pixels: NDArray[np.uint8]) -> Item:
        """Encode an image `(H, W, 3)` to search with."""
        return _encoded(self._encoder, pixels, "Your image", Thumbnail.of(pixels))

    def of_text(self, text: Any) -> Item:
        """Encode a text to search with.

        Raises:
            ValueError: If it is no text of 1 to `MAX_LENGTH` characters, or there is no model of texts.
        """
        if self._text_encoder is None or not isinstance(text, str) or not text.strip():
            raise ValueError("There are no words to search by.")
        if len(text) > MAX_LENGTH:
            raise ValueError(f"A text may have {MAX_LENGTH:,} characters at most, but this one has {len(text):,}.")
        return _encoded(self._text_encoder, text, text, Thumbnail())

    def of_item(self, position: Any) -> Item:
        """Return an item of the database to search with.

        Raises:
            ValueError: If there is no item at `position`.
        """
        if not isinstance(position, int) or not 0 <= position < len(self.index):
            raise ValueError("There is no such image in the database.")
        (item,) = self.items(np.array([position]))
        return item

    def search(self, query: Item, k: int, radius: int) -> Answer:
        """Find the `k` nearest items within `radius` bits.

        They are ordered by the hash logits of the query, but by bits if it has none or `radius` is less than K.
        """
        start = time.perf_counter()
        logits = None if query.logits is None or radius < self.index.num_bits else query.logits[None]
        found = self.index.find(query.code[None], k, rerank_logits=logits)
        searching = 1000 * (time.perf_counter() - start)
        positions, distances = found.positions[0], found.distances[0]
        near = distances <= radius
        hits = list(zip(self.items(positions[near]), distances[near].tolist(), strict=True))
        return Answer(query, hits, searching, by_logits=logits is not None)

    def items(self, positions: NDArray[np.int64]) -> list[Item]:
        """Return the items at some positions."""
        found = []
        for position, record in zip(positions.tolist(), self.index.records(positions), strict=True):
            path = record["path"]
            name = f"item {record['id']}" if path is None else PurePath(path).name
            picture, code = self.pictures(position, path), self._packed[position]
            found.append(Item(name, label_text(record["label"]), picture, code, position=position))
        return found


def _encoded(encoder: Encoder, content: Any, name: str, picture: Thumbnail) -> Item:
    """Encode an image or a text to search with, and time that."""
    start = time.perf_counter()
    logits = encoder.hash_logits([content])
    encoding = 1000 * (time.perf_counter() - start)
    return Item(name, "", picture, pack_codes(binarize(logits)).numpy()[0], logits[0], encoding=encoding)


MAX_LENGTH = 1_000
"""Largest number of characters of a text to search by."""

MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000
"""Largest number of pixels of an uploaded image, as phones take them: 150 MB as RGB."""

MAX_RATIO = 20
"""Largest ratio of an image's sides: processors that fix the shorter side would make the other one huge."""

_MAX_LENGTH = -(-MAX_BYTES // 3) * 4  # in base 64

FORMATS = ("PNG", "JPEG", "WebP", "GIF", "AVIF", "BMP")
"""Image formats that browsers show; Pillow's other decoders are less well examined."""


def read_upload(content: Any, size: Any = None) -> NDArray[np.uint8]:
    """Decode an untrusted image, which a browser sends in base 64, to pixels `(H, W, 3)`.

    The page reports its size in bytes, and sends no content of more than `MAX_BYTES`.

    Raises:
        ValueError: If the image exceeds `MAX_BYTES`, `MAX_PIXELS` or `MAX_RATIO`, or is not a complete image of one of
            the `FORMATS`; the message is for the person who sent it.
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
    """Open an image by its header, without decoding its pixels."""
    try:
        with decoding():
            return PIL.Image.open(io.BytesIO(data), formats=[name.upper() for name in FORMATS])
    except UnreadableImageError as error:
        if isinstance(error.__cause__, PIL.Image.DecompressionBombError):
            raise ValueError(f"An image may have {MAX_PIXELS // 10**6} million pixels at most.") from error
        raise ValueError(
            f"This file is no image that can be read: it must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
        ) from error
