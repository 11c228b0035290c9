"""What a search finds: hits of queries, as records and as a page; groups of duplicates, as records and as CSV."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from modeling_crh.checks import check_path
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.runtime.html import check_image_root, file_within, make_thumbnail, page_templates, thumbnail_within
from modeling_crh.search.code_index import CodeIndex, Hits, Positions, check_radius, label_text, path_below
from modeling_crh.search.duplicates import Duplicates
from modeling_crh.search.hamming_index import HammingIndex
from modeling_crh.search.index_file import COLUMNS
from modeling_crh.search.queries import QuerySource

_TEMPLATES = Path(__file__).parent / "templates"
DEFAULT_K = 10

# What the first bytes of a page hold: now, and in earlier versions.
_MARKS = b'<meta name="generator" content="crh search">', b"'unsafe-inline'\">\n<title>Search results</title>"
_GROUPS = ("group", *COLUMNS)
_DUPLICATES = (*COLUMNS, "distance", *(f"of_{name}" for name in COLUMNS))
_FIRST_LINES = tuple([",".join(names).encode()] for names in (_GROUPS, (*_GROUPS, "keep"), _DUPLICATES))


@dataclass(frozen=True)
class Hit:
    """An item that a query found."""

    rank: int  # place among the items of the query, from 1
    id: int | str  # of the caller, or the position in the database
    distance: int  # from the query, in bits
    label: str | int | list[str | None] | None  # name, number, or several names; None without a label
    path: str | None  # in the index; None without paths


@dataclass(frozen=True)
class Result:
    """A query and its hits."""

    source: QuerySource
    code: str  # of the query, in hexadecimal digits
    order: Literal["bits", "logits"]  # hits are sorted by distance, or by the dot product with the query's hash logits
    hits: tuple[Hit, ...]  # nearest first; a radius may contain none

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
        found = index.find_within(packed, radius)
    else:
        rerank_logits = logits if any(by_logits) else None  # those of a code keep the order by bits
        nearest = index.find(packed, DEFAULT_K if k is None else k, rerank_logits=rerank_logits)
        within = index.num_bits if radius is None else check_radius(radius, index.num_bits)
        kept = [one <= within for one in nearest.distances]
        found = [Hits(ids[near], at[near], bits[near]) for ids, at, bits, near in zip(*nearest, kept, strict=True)]
    return [
        Result(source, code.tobytes().hex(), "logits" if reranked else "bits", _hits(index, hits, image_root))
        for source, code, reranked, hits in zip(sources, packed, by_logits, found, strict=True)
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


def _hits(index: CodeIndex, hits: Hits, image_root: str | Path | None) -> tuple[Hit, ...]:
    found = zip(_records(index, hits.positions, image_root), hits.distances.tolist(), strict=True)
    return tuple(
        Hit(rank, record["id"], distance, record["label"], record["path"])
        for rank, (record, distance) in enumerate(found, 1)
    )


def write_page(
    path: str | Path, index: CodeIndex, results: Sequence[Result], *, image_root: str | Path | None = None
) -> Counter[str]:
    """Write a page of results from `find_results`, atomically, with the pictures of the database in `image_root`.

    Returns:
        Number of pictures of the database that are missing in the page, by reason.

    Raises:
        FileNotFoundError: If `image_root` is not a folder.
        ValueError: If the file holds something else than an older page of results.
    """
    target = check_replaced("html", path)
    pictures = {}
    if image_root is not None:
        root = check_image_root(image_root)
        paths = {hit.path for result in results for hit in result.hits if hit.path is not None}
        pictures = {name: thumbnail_within(root, name) for name in sorted(paths)}
    queries = [make_thumbnail(one.source.value) if one.source.kind == "image" else None for one in results]
    template = page_templates(_TEMPLATES, label_text=label_text).get_template("results.html")
    facts = {"index": index, "results": results, "queries": queries, "pictures": pictures}
    page = template.render(**facts, order=explain_order(results))
    with whole_file(target) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))  # a path may hold half a surrogate pair
    return Counter(picture.fault for picture in pictures.values() if picture.fault)


def check_replaced(name: str, path: str | Path) -> Path:
    """Check that a file to write, the argument `name`, is new, empty, or was written by this module.

    Raises:
        ValueError: If it holds something else, such as the index, or there is no folder to write it in.
    """
    target = check_path(name, path)
    what = "page of results" if name == "html" else "table of duplicates"
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise ValueError(f"`{name}` must be a file in a folder that exists, but got {str(path)!r}.")
    if target.is_file():
        with target.open("rb") as file:
            start = file.read(1000)
        is_ours = any(mark in start for mark in _MARKS) if name == "html" else start.splitlines()[:1] in _FIRST_LINES
        if start and not is_ours:
            raise ValueError(f"`{name}` must be a new file, or an older {what}, but {str(path)!r} is another file.")
    return target


def kept_items(
    index: HammingIndex, groups: Sequence[Positions], keep: str, image_root: str | Path | None = None
) -> list[int]:
    """Choose the item to keep of each group from `near_duplicates`, and return their positions.

    Args:
        index: Index of the items.
        groups: Groups of positions.
        keep: `first`, the first in the index; or `largest`, the first of those with the most bytes in their files.
        image_root: Folder of the files; needed for `largest`. No file outside of it is looked at.

    Raises:
        ValueError: If `largest` lacks the folder, or an item has no file in it.
        FileNotFoundError: If `image_root` is not a folder.
    """
    if keep == "first":
        return [int(group[0]) for group in groups]
    if image_root is None:
        raise ValueError("`image_root` must be given to keep the largest file of each group, but is missing.")
    root = check_image_root(image_root)
    sizes = ([_file_size(root, record["path"]) for record in index.records(group)] for group in groups)
    return [int(group[np.argmax(size)]) for group, size in zip(groups, sizes, strict=True)]


def _file_size(root: Path, path: str | None) -> int:
    file = "without a path" if path is None else file_within(root, path)
    if isinstance(file, str):
        raise ValueError(
            f"`keep` must be first unless every item has a file in `image_root`, but {path!r:.80} is {file}."
        )
    return file.stat().st_size


def describe_groups(
    index: HammingIndex,
    groups: Sequence[Positions],
    kept: Sequence[int] | None = None,
    image_root: str | Path | None = None,
) -> list[list[dict[str, Any]]]:
    """Return the records of each group, with paths relative to `image_root`, and with `kept` an entry `keep`."""
    named = [_records(index, group, image_root) for group in groups]
    for records, group, one in zip(named, groups, kept or (), strict=kept is not None):
        for record, position in zip(records, group.tolist(), strict=True):
            record["keep"] = position == one
    return named


def describe_duplicates(
    index: HammingIndex, other: HammingIndex, found: Duplicates, image_root: str | Path | None = None
) -> list[dict[str, Any]]:
    """Return the record of each duplicate, with entries `distance` and `of`, the record of the other item."""
    mine, others = _records(index, found.positions, image_root), _records(other, found.originals, image_root)
    rows = zip(mine, found.distances.tolist(), others, strict=True)
    return [record | {"distance": distance, "of": original} for record, distance, original in rows]


def _records(index: CodeIndex, positions: Positions, image_root: str | Path | None) -> list[dict[str, Any]]:
    return [record | {"path": path_below(record["path"], image_root)} for record in index.records(positions)]


def write_groups(path: str | Path, groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Write what `describe_groups` gives as CSV, atomically: one row per item, with the number of its group from 1.

    Raises:
        ValueError: If the file holds something else than an older table of duplicates.
        OSError: If it cannot be written.
    """
    keeps = any("keep" in record for group in groups for record in group)
    rows = [
        (number, *_cells(record), *(("yes" if record["keep"] else "no",) if keeps else ()))
        for number, group in enumerate(groups, 1)
        for record in group
    ]
    _write_csv(path, (*_GROUPS, "keep") if keeps else _GROUPS, rows)


def write_duplicates(path: str | Path, found: Sequence[dict[str, Any]]) -> None:
    """Write what `describe_duplicates` gives as CSV, atomically, as `write_groups` does."""
    rows = [(*_cells(record), record["distance"], *_cells(record["of"])) for record in found]
    _write_csv(path, _DUPLICATES, rows)


def _cells(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["id"], label_text(record["label"], "; "), record["path"]


def _write_csv(path: str | Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with whole_file(check_replaced("out", path)) as partial:
        with partial.open("w", newline="", encoding="utf-8", errors="replace") as file:
            csv.writer(file).writerows([header, *rows])
