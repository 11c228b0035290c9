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
from modeling_crh.runtime.html import check_image_root, make_thumbnail, page_templates, thumbnail_within
from modeling_crh.search.code_index import CodeIndex, check_radius
from modeling_crh.search.index_items import label_text
from modeling_crh.search.queries import QuerySource

DEFAULT_K = 10


@dataclass(frozen=True)
class Hit:
    """An item that a query found.

    Args:
        rank: Place among the items of the query, from 1.
        id: Id of the caller, or position in the database.
        distance: Distance from the query, in bits.
        label: A name, a number, or several names; None where there is none.
        path: Where the item comes from, as the index says; None where it does not.
    """

    rank: int
    id: int | str
    distance: int
    label: str | int | list[str] | None
    path: str | None


@dataclass(frozen=True)
class Result:
    """A query and what it found.

    Args:
        source: The query.
        code: Its code in hexadecimal digits.
        hits: The items, nearest first; there may be none within a radius.
    """

    source: QuerySource
    code: str
    hits: tuple[Hit, ...]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"query": self.source.name, "code": self.code, "hits": [asdict(hit) for hit in self.hits]}


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
        index: The index to search.
        sources: Q queries.
        packed_queries: `(Q, K / 8)` uint8.
        k: Number of nearest items to find; 10 where neither `k` nor `radius` is given.
        radius: Largest distance to find, in bits. With both, these are the `k` nearest within the radius.
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
            check_radius(radius, index.num_bits)
            positions = [row[near <= radius] for row, near in zip(positions, distances, strict=True)]
            distances = [near[near <= radius] for near in distances]
    return [
        Result(source, code.tobytes().hex(), _hits(index, row, near))
        for source, code, row, near in zip(sources, packed_queries, positions, distances, strict=True)
    ]


def _hits(index: CodeIndex, positions: NDArray[np.int64], distances: NDArray[np.int32]) -> tuple[Hit, ...]:
    return tuple(
        Hit(rank, record["id"], distance, record["label"], record["path"])
        for rank, (record, distance) in enumerate(zip(index.records(positions), distances.tolist(), strict=True), 1)
    )


_TEMPLATES = Path(__file__).parent / "templates"


def write_page(
    path: str | Path, index: CodeIndex, results: Sequence[Result], *, image_root: str | Path | None = None
) -> Counter[str]:
    """Write a page of results, atomically.

    Args:
        path: The file; one that is there is replaced.
        index: The index that was searched.
        results: Results from `find_results`.
        image_root: Folder of the images of the database. Without one their paths are text.

    Returns:
        Number of pictures of the database that are not in the page, by what is wrong with them.

    Raises:
        ValueError: If `image_root` is no folder.
    """
    target = check_path("html", path)
    pictures = {}
    if image_root is not None:
        root = check_image_root(image_root)
        paths = {hit.path for result in results for hit in result.hits if hit.path is not None}
        pictures = {name: thumbnail_within(root, name) for name in sorted(paths)}
    queries = [make_thumbnail(one.source.value) if one.source.kind == "image" else None for one in results]
    page = (
        page_templates(_TEMPLATES, label_text=label_text)
        .get_template("results.html")
        .render(index=index, results=results, queries=queries, pictures=pictures)
    )
    with whole_file(target) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))  # a path may hold half a surrogate pair
    return Counter(picture.fault for picture in pictures.values() if picture.fault)
