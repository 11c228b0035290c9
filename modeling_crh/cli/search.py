"""`crh search`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modeling_crh.cli.options import Json
from modeling_crh.cli.terminal import errors
from modeling_crh.cli.untrusted import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from modeling_crh.search.code_index import CodeIndex
    from modeling_crh.search.query_sources import QuerySource
    from modeling_crh.search.results import Result


def search(
    index: Annotated[
        str, typer.Argument(help="What `crh index` wrote: a file, or a table such as s3://bucket/a.lance.")
    ],
    query: Annotated[
        list[str] | None, typer.Argument(help="Image files, folders of images, or codes in hexadecimal digits.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub id of the model that made the codes; for images and texts.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text to search by; may be given several times.")] = None,
    k: Annotated[int | None, typer.Option("-k", help="Find the k nearest.", show_default="10 without --radius")] = None,
    radius: Annotated[
        int | None,
        typer.Option(help="Find all within so many bits; with *-k*, the k nearest without those farther away."),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Of a table: search only the items that meet an SQL condition, as label = 'cat'.")
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Order the nearest by the hash logits of the query, not by its bits alone.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page of pictures here, too.")] = None,
    image_root: Annotated[
        Path | None,
        typer.Option(help="For the page: the folder of the database's images. Paths that lead out of it are refused."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the nearest items of an index, by distance in bits."""
    from modeling_crh.search import open_index
    from modeling_crh.search.opening import choose_items
    from modeling_crh.search.query_sources import find_queries, text_queries
    from modeling_crh.search.results import find_results

    if not query and not text:
        raise ValueError("`query` must be given, or `text`, but both are missing.")
    if image_root is not None and html is None:
        raise ValueError(f"`image_root` must be given with `html` only, but got {str(image_root)!r} without.")
    loaded = choose_items(open_index(index), where)
    sources = [*find_queries(query or [], loaded.num_bits), *text_queries(text or [])]
    packed, logits = _encode(sources, loaded, model, rerank)
    results = find_results(loaded, sources, packed, k=k, radius=radius, rerank_logits=logits)
    if html is not None:
        from modeling_crh.search.page import write_page

        faults = write_page(html, loaded, results, image_root=image_root)
        for fault, count in faults.items():
            errors.print(f"Left {count} pictures of the database out of the page: {fault}.", highlight=False)
    if as_json:
        summary = {"index": index, "model": loaded.model, "num_bits": loaded.num_bits, "kind": loaded.kind}
        summary |= {} if html is None else {"html": str(html)}
        typer.echo(json.dumps(summary | {"results": [result.to_dict() for result in results]}))
    else:
        _print_results(results)


def _encode(
    sources: "list[QuerySource]", index: "CodeIndex", model: str | None, rerank: bool
) -> "tuple[NDArray[np.uint8], Tensor | None]":
    """Packed codes, and hash logits if they are to be ordered by."""
    from modeling_crh.checkpoint import load_checkpoint
    from modeling_crh.codes import binarize, pack_codes
    from modeling_crh.search.query_sources import check_model, encode_queries, query_logits

    if model is not None:
        check_model(index, model)
    to_encode = any(source.code is None for source in sources)
    checkpoint = load_checkpoint(model) if model is not None and to_encode else (None, None)
    if not rerank:
        return encode_queries(sources, index.num_bits, *checkpoint), None
    logits = query_logits(sources, index.num_bits, *checkpoint)
    return pack_codes(binarize(logits)).numpy(), logits


def _print_results(results: "list[Result]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("query", overflow="fold")
    for name in ("rank", "bits"):
        table.add_column(name, justify="right")
    for name in ("id", "label", "path"):
        table.add_column(name, overflow="fold")
    for result in results:
        for hit in result.hits:
            name = result.query if hit.rank == 1 else ""
            cells = (name, hit.rank, hit.distance, hit.id, hit.label_text, hit.path or "")
            table.add_row(*(printable(cell) for cell in cells), end_section=hit is result.hits[-1])
        if not result.hits:
            table.add_row(printable(result.query), "", "", "", "nothing found", "", end_section=True)
    Console().print(table)
