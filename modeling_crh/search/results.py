"""What queries found, as records and as an HTML page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_path
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.runtime.html import Thumbnail, make_thumbnail, page_templates, thumbnail_within
from modeling_crh.search.code_index import CodeIndex
from modeling_crh.search.queries import QuerySource

DEFAULT_K = 10


@dataclass(frozen=True)
class Hit:
    """An item that a query found.

    Args:
        rank: From 1.
        id: The caller's own, or its position.
        distance: From the query, in bits.
        label: A name, a number, or several names; None where there is none.
        path: Where the item comes from, as the index says; None where it does not.
    """

    rank: int
    id: int | str
    distance: int
    label: str | int | list[str] | None
    path: str | None

    @property
    def label_text(self) -> str:
        """The label in one line."""
        return ", ".join(self.label) if isinstance(self.label, list) else "" if self.label is None else str(self.label)


@dataclass(frozen=True)
class Result:
    """A query and what it found.

    Args:
        query: Its name.
        code: In hexadecimal digits.
        image: The file that it is, if it is one.
        hits: Nearest first; there may be none within a radius.
    """

    query: str
    code: str
    image: Path | None
    hits: tuple[Hit, ...]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"query": self.query, "code": self.code, "hits": [asdict(hit) for hit in self.hits]}


def find_results(
    index: CodeIndex,
    sources: Sequence[QuerySource],
    packed_queries: NDArray[np.uint8],
    *,
    k: int | None = None,
    radius: int | None = None,
    rerank_logits: Tensor | None = None,
) -> list[Result]:
    """Search for queries.

    Args:
        index: Where.
        sources: `Q` of them, for their names.
        packed_queries: `(Q, K / 8)` uint8.
        k: Find the k nearest; the default, with 10, where neither is given.
        radius: Find all within so many bits. With both: the k nearest, without those that are farther away.
        rerank_logits: `(Q, K)` hash logits of the queries. The order is then that of their dot products with the codes
            of the 10 k nearest, and a radius cannot be asked for.

    Raises:
        ValueError: If `k`, `radius` or `rerank_logits` breaks its rule.
    """
    if rerank_logits is not None and radius is not None:
        raise ValueError(
            f"`radius` must not be given with re-ranking, which finds by another measure, but got {radius!r}."
        )
    if k is None and radius is not None:
        positions, distances = index.search_radius_positions(packed_queries, radius)
    else:
        found = index.search_positions(packed_queries, DEFAULT_K if k is None else k, rerank_logits=rerank_logits)
        positions, distances = list(found[0]), list(found[1])
        if radius is not None:
            index.search_radius_positions(packed_queries[:0], radius)  # checks it
            positions = [row[near <= radius] for row, near in zip(positions, distances, strict=True)]
            distances = [near[near <= radius] for near in distances]
    return [
        Result(source.name, code.tobytes().hex(), source.image, _hits(index, row, near))
        for source, code, row, near in zip(sources, packed_queries, positions, distances, strict=True)
    ]


def _hits(index: CodeIndex, positions: NDArray[np.int64], distances: NDArray[np.int32]) -> tuple[Hit, ...]:
    return tuple(
        Hit(rank, record["id"], distance, record["label"], record["path"])
        for rank, (record, distance) in enumerate(zip(index.records(positions), distances.tolist(), strict=True), 1)
    )


_TEMPLATES = (Path(__file__).parent / "templates", Path(__file__).parents[1] / "report" / "templates")


def write_page(
    path: str | Path, index: CodeIndex, results: Sequence[Result], *, image_root: str | Path | None = None
) -> Counter[str]:
    """Write the page, which takes its place once it is whole.

    Args:
        path: Where to; a file that is there is replaced.
        index: What was searched.
        results: What was found.
        image_root: Folder of the images of the database. Without one their paths are text.

    Returns:
        How many pictures of the database are not in the page, by their fault.

    Raises:
        ValueError: If `image_root` is no folder.
    """
    target = check_path("html", path)
    root = None if image_root is None else check_path("image_root", image_root)
    if root is not None and not root.is_dir():
        raise ValueError(f"`image_root` must be a folder, but got {str(image_root)!r}.")
    pictures = {} if root is None else _pictures(root, results)
    page = _render(index, results, pictures)
    with whole_file(target) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))  # a path may hold half a surrogate pair
    return Counter(picture.fault for picture in pictures.values() if picture.fault)


def _pictures(root: Path, results: Sequence[Result]) -> dict[str, Thumbnail]:
    paths = {hit.path for result in results for hit in result.hits if hit.path is not None}
    return {path: thumbnail_within(root, path) for path in sorted(paths)}


def _render(index: CodeIndex, results: Sequence[Result], pictures: dict[str, Thumbnail]) -> str:
    environment = page_templates(*_TEMPLATES)
    queries = [None if result.image is None else make_thumbnail(result.image) for result in results]
    return environment.get_template("results.html").render(
        index=index, results=results, queries=queries, pictures=pictures
    )
