"""`crh index`, `crh search` and `crh dedupe`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeling_crh.cli.options import Json
from modeling_crh.runtime.terminal import errors, print_summary, printable


def index(
    codes: Annotated[Path, typer.Argument(help="What `crh encode` wrote: a parquet file, or its folder.")],
    out: Annotated[
        str,
        typer.Option(
            help="A file, over FAISS; or NAME.lance, also in an object store (s3://bucket/NAME.lance), for a table of "
            "LanceDB. An older index there is replaced; of a table, as its new version."
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            help="flat, ivf, hnsw or multihash, of a table flat or ivf; *auto* is flat up to two million codes, of a "
            "table up to 200,000, then ivf."
        ),
    ] = "auto",
    model: Annotated[
        str | None, typer.Option(help="What to call the model of the codes, instead of what they say.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add to a table that is there; its ids and the new ones must differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build an index over packed codes, in one file or as a table."""
    from modeling_crh.search.code_index import is_table_uri

    if is_table_uri(out):
        summary = _write_table(codes, out, kind, model, append)
    elif append:
        raise ValueError(f"`append` must be given with a table (NAME.lance) only, but `out` is {out!r}.")
    else:
        summary = _write_file(codes, Path(out), kind, model)
    print_summary(
        summary,
        f"{summary['items']:,} codes of {summary['num_bits']} bits, {summary['kind']}, in {out}",
        as_json,
    )


def _write_file(codes: Path, out: Path, kind: str, model: str | None) -> dict[str, Any]:
    from modeling_crh.search import index_codes
    from modeling_crh.search.index_file import is_index_file

    if out.is_dir() or not out.parent.is_dir() or (out.exists() and not is_index_file(out)):
        raise ValueError(f"`out` must be a new file in a folder that exists, or an older index, but got {str(out)!r}.")
    built = index_codes(codes, kind=kind, model=model)
    built.save(out)
    return {
        "index": str(out),
        "items": len(built),
        "num_bits": built.num_bits,
        "kind": built.kind,
        "model": built.model,
        "bytes": out.stat().st_size,
    }


def _write_table(codes: Path, out: str, kind: str, model: str | None, append: bool) -> dict[str, Any]:
    from modeling_crh.search.lance_codes import codes_to_table

    table = codes_to_table(codes, out, kind=kind, model=model, append=append)
    return {
        "index": out,
        "items": len(table),
        "num_bits": table.num_bits,
        "kind": table.kind,
        "model": table.model,
        "version": table.version,
    }


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from modeling_crh.search.code_index import CodeIndex
    from modeling_crh.search.queries import QuerySource
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
    from modeling_crh.search.queries import find_queries, text_queries
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
        from modeling_crh.search.results import write_page

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
    from modeling_crh.codes import binarize, pack_codes
    from modeling_crh.encoding.loading import load_checkpoint
    from modeling_crh.search.queries import check_model, encode_queries, query_logits

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


_SHOWN = 3  # items of a group, in the table


def dedupe(
    index: Annotated[str, typer.Argument(help="What `crh index` wrote: a file, or a table.")],
    radius: Annotated[int, typer.Option(help="Most bits from an item to the next one of its group; 0: equal codes.")],
    out: Annotated[Path | None, typer.Option(help="Write the groups here: CSV with a row an item.")] = None,
    as_json: Json = False,
) -> None:
    """List groups of near-duplicates: items whose codes are connected by steps of a few bits."""
    from modeling_crh.search import near_duplicates, read_index
    from modeling_crh.search.duplicates import write_groups

    loaded = read_index(index, "flat")
    groups = near_duplicates(loaded, radius)
    if out is not None:
        write_groups(out, loaded, groups)
    duplicates = sum(len(group) - 1 for group in groups)
    counts: dict[str, Any] = {"radius": radius, "items": len(loaded), "num_groups": len(groups)}
    counts["duplicates"] = duplicates
    if as_json:
        counts |= {"index": index} | ({} if out is None else {"out": str(out)})
        typer.echo(json.dumps(counts | {"groups": [loaded.records(group) for group in groups]}))
        return
    if out is None:
        _print_groups([(len(group), loaded.records(group[:_SHOWN])) for group in groups])
    where = "" if out is None else f", in {out}"
    typer.echo(f"{len(groups):,} groups{where}; {duplicates:,} of {len(loaded):,} items to spare")


def _print_groups(groups: list[tuple[int, list[dict[str, Any]]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("group", "items"):
        table.add_column(name, justify="right")
    table.add_column("first items", overflow="fold")
    for number, (size, records) in enumerate(groups, 1):
        names = [str(record["id"] if record["path"] is None else record["path"]) for record in records]
        more = [f"and {size - len(names):,} more"] if size > len(names) else []
        table.add_row(str(number), f"{size:,}", printable(", ".join(names + more)))
    Console().print(table)
