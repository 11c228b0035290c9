"""Search for queries, and write what they find into a page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_path
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.runtime.html import check_image_root, make_thumbnail, page_templates, thumbnail_within
from modeling_crh.search.code_index import CodeIndex, check_radius, label_text, path_below
from modeling_crh.search.queries import QuerySource

_TEMPLATES = Path(__file__).parent / "templates"
DEFAULT_K = 10


@dataclass(frozen=True)
class Hit:
    """An item that a query found.

    Args:
        rank: Place among the items of the query, from 1.
        id: Id of the item, or its position in the database.
        distance: Distance from the query, in bits.
        label: Name, number, or several names; None without a label.
        path: Path of the item in the index; None without paths.
    """

    rank: int
    id: int | str
    distance: int
    label: str | int | list[str | None] | None
    path: str | None


@dataclass(frozen=True)
class Result:
    """A query and its hits.

    Args:
        source: Query.
        code: Code of the query in hexadecimal digits.
        order: Measure that sorts the hits: `bits` for the distance, `logits` for the dot product with the hash logits
            of the query.
        hits: Items, nearest first; a radius may contain none.
    """

    source: QuerySource
    code: str
    order: Literal["bits", "logits"]
    hits: tuple[Hit, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to types of JSON."""
        facts = {"query": self.source.name, "code": self.code, "order": self.order}
        return facts | {"hits": [asdict(hit) for hit in self.hits]}


def find_results(
    index: CodeIndex,
    sources: Sequence[QuerySource],
    logits: Tensor,
    *,
    k: int | None = None,
    radius: int | None = None,
    rerank: bool | None = None,
    image_root: str | Path | None = None,
) -> list[Result]:
    """Search for queries.

    Args:
        index: Index to search.
        sources: Q queries.
        logits: Hash logits `(Q, K)` of the queries, from `query_logits`.
        k: Number of nearest items to find; 10 if neither `k` nor `radius` is given.
        radius: Largest distance of a hit, in bits. With `k`, the hits are the `k` nearest within the radius.
        rerank: Whether to sort the nearest items by the dot product of the hash logits with their codes, see
            `CodeIndex.search`. None does so for all queries but codes, unless `radius` is given.
        image_root: Folder that the paths of hits are written relative to; None leaves them as they are.

    Raises:
        ValueError: If `k` or `radius` has a wrong value, or `rerank` is set for a code or with a radius.
    """
    if rerank:
        _check_rerank(sources, radius)
    packed = pack_codes(binarize(logits)).numpy()
    by_logits = [rerank is not False and radius is None and source.kind != "code" for source in sources]
    if k is None and radius is not None:
        positions, distances = index.search_radius_positions(packed, radius)
    else:
        rerank_logits = logits if any(by_logits) else None  # those of a code keep the order by bits
        found = index.search_positions(packed, DEFAULT_K if k is None else k, rerank_logits=rerank_logits)
        positions, distances = list(found[0]), list(found[1])
        if radius is not None:
            check_radius(radius, index.num_bits)
            positions = [row[near <= radius] for row, near in zip(positions, distances, strict=True)]
            distances = [near[near <= radius] for near in distances]
    return [
        Result(source, code.tobytes().hex(), "logits" if reranked else "bits", _hits(index, row, near, image_root))
        for source, code, reranked, row, near in zip(sources, packed, by_logits, positions, distances, strict=True)
    ]


def _check_rerank(sources: Sequence[QuerySource], radius: int | None) -> None:
    codes = [source.name for source in sources if source.kind == "code"]
    if codes:
        raise ValueError(f"`query` must be an input of the model to have hash logits, but {codes[0]!r} is a code.")
    if radius is not None:
        raise ValueError(
            f"`radius` must not be given with re-ranking, which finds by another measure, but got {radius!r}."
        )


def explain_order(results: Sequence[Result]) -> str:
    """Say in one sentence how the hits of a search are ordered."""
    orders = {result.order for result in results}
    if orders <= {"bits"}:
        return "Hits are ordered by their distance in bits."
    but = "; those of codes, by their distance in bits" if "bits" in orders else ""
    return f"Hits are ordered by the dot product of their codes with the hash logits of the query, not by bits{but}."


def _hits(
    index: CodeIndex, positions: NDArray[np.int64], distances: NDArray[np.int32], image_root: str | Path | None
) -> tuple[Hit, ...]:
    return tuple(
        Hit(rank, record["id"], distance, record["label"], path_below(record["path"], image_root))
        for rank, (record, distance) in enumerate(zip(index.records(positions), distances.tolist(), strict=True), 1)
    )


def write_page(
    path: str | Path, index: CodeIndex, results: Sequence[Result], *, image_root: str | Path | None = None
) -> Counter[str]:
    """Write a page of results, atomically.

    Args:
        path: Path of the file; an older file is replaced.
        index: Index that was searched.
        results: Results from `find_results`.
        image_root: Folder of the images of the database. None shows their paths as text.

    Returns:
        Number of pictures of the database that are missing in the page, by reason.

    Raises:
        FileNotFoundError: If `image_root` is not a folder.
    """
    target = check_path("html", path)
    pictures = {}
    if image_root is not None:
        root = check_image_root(image_root)
        paths = {hit.path for result in results for hit in result.hits if hit.path is not None}
        pictures = {name: thumbnail_within(root, name) for name in sorted(paths)}
    queries = [make_thumbnail(one.source.value) if one.source.kind == "image" else None for one in results]
    template = page_templates(_TEMPLATES, label_text=label_text).get_template("results.html")
    page = template.render(
        index=index, results=results, order=explain_order(results), queries=queries, pictures=pictures
    )
    with whole_file(target) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))  # a path may hold half a surrogate pair
    return Counter(picture.fault for picture in pictures.values() if picture.fault)
