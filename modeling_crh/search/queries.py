"""Read queries (files, data sources, texts, codes in hexadecimal digits) and encode them."""

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from modeling_crh.codes import unpack_codes
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.data import Row, open_source
from modeling_crh.data.rows import FILE_KINDS, PLURALS, BadRow, Kind
from modeling_crh.data.tables import SUFFIXES, find_tables
from modeling_crh.encoding.encoder import DType, Encoder
from modeling_crh.encoding.loading import (
    cut_model,
    find_model,
    find_revision,
    is_digest,
    load_checkpoint,
    shares_centers,
)
from modeling_crh.file_bytes import UnreadableError, stored_source
from modeling_crh.runtime.terminal import say
from modeling_crh.search.code_index import CodeIndex
from modeling_crh.sounds import SUFFIXES as SOUND_SUFFIXES


@dataclass(frozen=True, eq=False)
class QuerySource:
    """One query before it is encoded."""

    name: str  # the query as the user wrote it, or the file or row of a source that the user named
    kind: Literal["image", "audio", "text", "features", "code"]
    value: Any  # an item as `Encoder` takes it, such as a text or the path of an image; or the packed code `(K / 8,)`


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
    if not _is_named(index, model) and not shares_centers(model, index.model):
        raise ValueError(
            f"`model` must be the one that made the codes of the index, {index.model!r}, but got {model!r}; if that is "
            "the same model under another name or from another folder, name it by `crh index --model`."
        )


def _is_named(index: CodeIndex, model: str) -> bool:
    """Whether the index names this model, by the same name or folder, or by the digest of its weights."""
    folders = [Path(find_model(name)) for name in (index.model, model)]
    is_same = all(folder.is_dir() for folder in folders) and folders[0].samefile(folders[1])
    return model == index.model or is_same or (is_digest(index.revision) and find_revision(model) == index.revision)


def _check_weights(index: CodeIndex, model: str) -> None:
    """Check that the model of an index, or the one whose centers it has, is as it was when it made the codes.

    If only its commit on the Hub has changed, a line says so, and the search goes on.
    """
    if not _is_named(index, model):
        model = index.model
    found = find_revision(model)
    if not found or not index.revision or found == index.revision or is_digest(found) != is_digest(index.revision):
        return  # a digest and a commit cannot be compared
    if not is_hub_id(model):
        raise ValueError(
            f"`model` must have the weights that made the codes of the index, but {model!r} has others since then: "
            "encode and index the items again."
        )
    say(
        f"{model} is at commit {found[:7]}, but made the codes at {index.revision[:7]}: encode again if it was trained."
    )


def load_encoder(index: CodeIndex, model: str, **settings: Any) -> Encoder:
    """Load the model that made the codes of an index, or one with its centers, from a folder or the Hub.

    The settings are those of the `Encoder`, such as `num_workers`; the `dtype` `"auto"` is that of the index.

    Raises:
        ValueError: If the model does not exist, did not make the codes, has got other weights since, or makes codes of
            another length.
    """
    check_model(index, model)
    trained, processor = load_checkpoint(model)
    _check_weights(index, model)
    if index.num_bits not in trained.config.lengths:
        found = trained.config.num_bits
        raise ValueError(f"`model` must make codes of {index.num_bits} bits, as the index holds, but makes {found}.")
    if settings.get("dtype") == "auto":
        settings["dtype"] = index.dtype if index.dtype in get_args(DType) else None
    return Encoder(cut_model(trained, index.num_bits), processor, **settings)


def query_logits(sources: Sequence[QuerySource], num_bits: int, encoder: Encoder | None = None) -> Tensor:
    """Compute the hash logits of queries in batches, whose signs are their codes; a code has logits of -1 and +1.

    The encoder is that of `load_encoder`; None if all queries are codes.

    Returns:
        `(Q, K)` float32, on the CPU.

    Raises:
        ValueError: If a query cannot be read, or `encoder` is missing or reads another kind of input.
    """
    is_code = torch.tensor([source.kind == "code" for source in sources], dtype=torch.bool)
    logits = torch.empty(len(sources), num_bits)
    if is_code.any():
        codes = np.stack([source.value for source in sources if source.kind == "code"])  # packed
        logits[is_code] = unpack_codes(torch.from_numpy(codes)).float()
    if not is_code.all():
        logits[~is_code] = _encode([source for source in sources if source.kind != "code"], encoder)
    return logits


def _encode(sources: Sequence[QuerySource], encoder: Encoder | None) -> Tensor:
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
        # unlike Path.exists, os.path.exists takes names of any length
        missing = "" if os.path.exists(query) else ", and there is no such file or folder"
        raise ValueError(
            "`query` must be an image or sound file, a folder of them, a table, the Hub id of a dataset or a code of "
            f"{num_bits // 4} hexadecimal digits, but got {query!r:.80}{missing}."
        )
    if path.is_dir() and tables is None:  # the column of a folder is called by its kind
        options = {name: kind for name, kind in options.items() if name == f"{kind}_column"}
    source = open_source(query, needs_label=False, **options)
    return [_query_of(row, source.kind, path) for row in source.rows()]


def _query_of(row: Row, kind: Kind, root: Path) -> QuerySource:
    if kind not in FILE_KINDS or row.value is None:
        return QuerySource(row.path, kind, row.value)
    name = os.path.join(root, os.path.relpath(row.path, root.absolute())) if root.is_dir() else row.path
    try:
        return QuerySource(name, kind, stored_source(row.value))  # a URL is read once, by the rule of its table
    except UnreadableError as error:
        raise BadRow(name, error.reason).as_error(can_skip=False) from error
