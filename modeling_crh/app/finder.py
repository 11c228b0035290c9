"""Find what lies nearest to an image or an item: the index, its model, and the pictures of its items."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import BaseImageProcessor

from modeling_crh.checks import check_path
from modeling_crh.codes import pack_codes
from modeling_crh.encoding.inputs import model_inputs
from modeling_crh.encoding.items import process_images
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.runtime.html import SMALL_SIDE, Thumbnail, picture_uri, thumbnail_within
from modeling_crh.search import HammingIndex
from modeling_crh.search.queries import check_model

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


@dataclass(frozen=True, eq=False)
class Item:
    """An item of the database.

    Args:
        position: In the database.
        name: Its file's, or "item" and its id.
        label: In one line; empty where there is none.
        picture: Which may be none.
        code: `(K / 8,)` uint8.
    """

    position: int
    name: str
    label: str
    picture: Thumbnail
    code: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Query:
    """What a person searches with.

    Args:
        title: For people.
        picture: Which may be none.
        code: `(K / 8,)` uint8.
        encoding: Milliseconds; None where the code is that of an item.
        position: Of the item of the database that it is; None for an image of one's own.
    """

    title: str
    picture: Thumbnail
    code: NDArray[np.uint8]
    encoding: float | None = None
    position: int | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What a query has found.

    Args:
        query: What was asked.
        hits: Items and their distances in bits, nearest first.
        searching: Milliseconds.
    """

    query: Query
    hits: list[tuple[Item, int]]
    searching: float


class Finder:
    """Encodes images, searches for codes and names what it finds.

    Args:
        index: Of codes of images.
        model: Folder or Hub id of the model that made them.
        pictures: Of the items.

    Raises:
        ValueError: If there is no such model, or it is not that of the index, or reads no images.
    """

    def __init__(self, index: HammingIndex, model: str, pictures: Pictures = no_pictures) -> None:
        check_model(index, model)
        self.index, self.pictures = index, pictures
        self._packed = index.packed  # (N, K / 8)
        self._model, processor = load_checkpoint(model)
        if not isinstance(processor, BaseImageProcessor):
            raise ValueError(f"`model` must read images, but reads `{self._model.main_input_name}`.")
        if self._model.config.num_bits != index.num_bits:
            raise ValueError(
                f"`model` must make codes of {index.num_bits} bits, as the index holds, "
                f"but makes {self._model.config.num_bits}."
            )
        self._processor = processor
        self.of_image(np.zeros((8, 8, 3), np.uint8))  # the first image is slow

    @property
    def model_name(self) -> str:
        """Of a model on this machine, its folder's name alone."""
        name = self.index.model
        return Path(name).resolve().name if Path(name).exists() else name

    def of_image(self, pixels: NDArray[np.uint8]) -> Query:
        """A query by an image: `(H, W, 3)`."""
        start = time.perf_counter()
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # as the images of the database were encoded
        batch = {"pixel_values": process_images(self._processor, [image])}
        with torch.inference_mode():
            codes = self._model.encode(**model_inputs(batch, self._model))
        code = pack_codes(codes.cpu()).numpy()[0]
        encoding = 1000 * (time.perf_counter() - start)
        picture = Thumbnail(picture_uri(pixels), sharp=max(pixels.shape) <= SMALL_SIDE)
        return Query("Your image", picture, code, encoding)

    def of_item(self, position: Any) -> Query:
        """A query by an item of the database.

        Raises:
            ValueError: If there is no item at `position`.
        """
        if not isinstance(position, int) or not 0 <= position < len(self.index):
            raise ValueError("There is no such image in the database.")
        (item,) = self.items(np.array([position]))
        title = f"{item.label}, {item.name}" if item.label else item.name
        return Query(title, item.picture, item.code, position=position)

    def search(self, query: Query, k: int, radius: int) -> Answer:
        """The `k` nearest items of those within `radius` bits."""
        start = time.perf_counter()
        positions, distances = (found[0] for found in self.index.search_positions(query.code[None], k))
        searching = 1000 * (time.perf_counter() - start)
        near = distances <= radius
        return Answer(query, list(zip(self.items(positions[near]), distances[near].tolist(), strict=True)), searching)

    def items(self, positions: NDArray[np.int64]) -> list[Item]:
        """Items by their positions."""
        found = []
        for position, record in zip(positions.tolist(), self.index.records(positions), strict=True):
            path, label = record["path"], record["label"]
            name = f"item {record['id']}" if path is None else PurePath(path).name
            text = ", ".join(label) if isinstance(label, list) else "" if label is None else str(label)
            found.append(Item(position, name, text, self.pictures(position, path), self._packed[position]))
        return found
