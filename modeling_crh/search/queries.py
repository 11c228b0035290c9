"""Read queries (files, data sources, texts, codes in hexadecimal digits), encode them, and search an index."""

import errno
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_path
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.data import Row, open_source
from modeling_crh.data.bad_rows import FILE_KINDS, PLURALS, Kind
from modeling_crh.data.tables import SUFFIXES, find_tables
from modeling_crh.encoding import Encoder
from modeling_crh.encoding.loading import find_model, shares_centers
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.runtime.html import check_image_root, make_thumbnail, page_templates, thumbnail_within
from modeling_crh.search.code_index import CodeIndex, check_radius
from modeling_crh.search.index_file import label_text
from modeling_crh.sounds import SUFFIXES as SOUND_SUFFIXES

_TEMPLATES = Path(__file__).parent / "templates"
DEFAULT_K = 10


@dataclass(frozen=True, eq=False)
class QuerySource:
    """One query before it is encoded.

    Args:
        name: Query as the user wrote it, or the file or row of a source that the user named.
        kind: Kind of `value`: an input of the model, or `code`.
        value: Item as `Encoder` takes it, such as a text or the path of an image; or the `(K / 8,)` packed code.
    """

    name: str
    kind: Literal["image", "audio", "text", "features", "code"]
    value: Any


def find_queries(queries: Sequence[str], num_bits: int, **options: Any) -> list[QuerySource]:
    """Recognise image and sound files, data sources and codes; the name of an existing file or folder is not a code.

    Args:
        queries: Image or sound files, data sources, or codes of K / 4 hexadecimal digits. A source stands for its rows.
        num_bits: Number of bits of a code, K.
        **options: Fields of `DataSource` for all sources but folders of files, such as `text_column`.

    Raises:
        ValueError: If a query is none of these, or a source cannot be read.
    """
    return [one for query in queries for one in _find(query, num_bits, options)]


def text_queries(texts: Sequence[str]) -> list[QuerySource]:
    """Make queries from texts, of which none may be empty."""
    for text in texts:
        if not text.strip():
            raise ValueError(f"`text` must hold a word, but got {text!r}.")
    return [QuerySource(text, "text", text) for text in texts]


def check_model(index: CodeIndex, model: str) -> None:
    """Check that a model made the codes of an index, by its name or folder, or has the centers of the one that did.

    Raises:
        ValueError: If another model made the codes, or the index does not name its model.
    """
    if not index.model:
        raise ValueError(f"`index` must name the model of its codes to be searched by {model!r}, but names none.")
    folders = [Path(find_model(name)) for name in (index.model, model)]
    same_folder = all(folder.is_dir() for folder in folders) and folders[0].samefile(folders[1])
    if model != index.model and not same_folder and not shares_centers(model, index.model):
        raise ValueError(
            f"`model` must be the one that made the codes of the index, {index.model!r}, but got {model!r}."
        )


def load_encoder(index: CodeIndex, model: str, **settings: Any) -> Encoder:
    """Load the model that made the codes of an index, or one with its centers.

    Args:
        index: Index to search.
        model: Folder or Hub id of the model.
        **settings: Settings of the `Encoder`, such as `num_workers`.

    Raises:
        ValueError: If the model does not exist, did not make the codes, or makes codes of another length.
    """
    check_model(index, model)
    encoder = Encoder.load(model, **settings)
    if encoder.num_bits != index.num_bits:
        raise ValueError(
            f"`model` must make codes of {index.num_bits} bits, as the index holds, but makes {encoder.num_bits}."
        )
    return encoder


def encode_queries(
    sources: Sequence[QuerySource], num_bits: int, encoder: Encoder | None = None, logits: Tensor | None = None
) -> NDArray[np.uint8]:
    """Encode queries in batches.

    Args:
        sources: Q queries.
        num_bits: Number of bits of the index, K.
        encoder: Encoder of the model that made the codes of the index; None if all queries are codes.
        logits: Hash logits `(Q, K)` of the queries from `query_logits`; None computes them if needed.

    Returns:
        `(Q, K / 8)` packed codes.

    Raises:
        ValueError: If a query cannot be read, or `encoder` is missing or reads another kind of input.
    """
    others = [source for source in sources if source.kind != "code"]
    if logits is None and others:
        logits = query_logits(others, encoder)
    encoded = iter(()) if logits is None else iter(pack_codes(binarize(logits)).numpy())
    packed = [source.value if source.kind == "code" else next(encoded) for source in sources]
    return np.array(packed, np.uint8).reshape(-1, num_bits // 8)


def query_logits(sources: Sequence[QuerySource], encoder: Encoder | None = None) -> Tensor:
    """Compute the hash logits of queries, `(Q, K)` on the CPU, whose signs are their codes.

    Raises:
        ValueError: If a query is a code, which has no logits, or for a reason of `encode_queries`.
    """
    codes = [source.name for source in sources if source.kind == "code"]
    if codes:
        raise ValueError(f"`query` must be an input of the model to have hash logits, but {codes[0]!r} is a code.")
    if encoder is None:
        plural = PLURALS[cast(Kind, sources[0].kind)]
        raise ValueError(f"`model` must be given to search by {plural}, such as {sources[0].name!r:.80}.")
    unread = [PLURALS[cast(Kind, source.kind)] for source in sources if source.kind != encoder.reads]
    if unread:
        raise ValueError(f"`model` must read {unread[0]}, but reads {PLURALS[encoder.reads]}.")
    names = [source.name for source in sources]
    return encoder.hash_logits([source.value for source in sources], names=names, desc="Encoding queries")


def _find(query: str, num_bits: int, options: dict[str, Any]) -> list[QuerySource]:
    path, tables = Path(query), None
    try:
        if query and path.is_file() and path.suffix not in SUFFIXES:
            return [QuerySource(query, "audio" if path.suffix.lower() in SOUND_SUFFIXES else "image", path)]
        tables = find_tables(query) if query else None
        is_source = tables is not None or (bool(query) and path.is_dir())
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        is_source = False
    if not is_source and re.fullmatch(rf"[0-9a-fA-F]{{{num_bits // 4}}}", query):
        return [QuerySource(query, "code", np.frombuffer(bytes.fromhex(query), np.uint8))]
    if not is_source and not ("/" in query and is_hub_id(query) and not path.suffix):
        raise ValueError(
            "`query` must be an image or sound file, a folder of them, a table, the Hub id of a dataset or a code of "
            f"{num_bits // 4} hexadecimal digits, but got {query!r:.80}."
        )
    if path.is_dir() and tables is None:  # the column of a folder is called by its kind
        options = {name: kind for name, kind in options.items() if name == f"{kind}_column"}
    source = open_source(query, needs_label=False, **options)
    return [_query_of(row, source.kind, path) for row in source.rows()]


def _query_of(row: Row, kind: Kind, root: Path) -> QuerySource:
    if kind not in FILE_KINDS or row.value is None:
        return QuerySource(row.path, kind, row.value)
    value = row.value["path"] if row.value["bytes"] is None else row.value["bytes"]
    name = os.path.join(root, os.path.relpath(row.path, root.absolute())) if root.is_dir() else row.path
    return QuerySource(name, kind, value)


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
    label: str | int | list[str] | None
    path: str | None


@dataclass(frozen=True)
class Result:
    """A query and its hits.

    Args:
        source: Query.
        code: Code of the query in hexadecimal digits.
        hits: Items, nearest first; a radius may contain none.
    """

    source: QuerySource
    code: str
    hits: tuple[Hit, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to types of JSON."""
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
        index: Index to search.
        sources: Q queries.
        packed_queries: Packed codes `(Q, K / 8)` uint8.
        k: Number of nearest items to find; 10 if neither `k` nor `radius` is given.
        radius: Largest distance of a hit, in bits. With `k`, the hits are the `k` nearest within the radius.
        rerank_logits: Hash logits `(Q, K)` of the queries, to sort the 10 k nearest by the dot products with their
            codes; it excludes `radius`.

    Raises:
        ValueError: If `k`, `radius` or `rerank_logits` has a wrong value.
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
    page = template.render(index=index, results=results, queries=queries, pictures=pictures)
    with whole_file(target) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))  # a path may hold half a surrogate pair
    return Counter(picture.fault for picture in pictures.values() if picture.fault)
