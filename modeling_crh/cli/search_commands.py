"""`crh index`, `crh search` and `crh dedupe`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modeling_crh.cli.options import (
    Compiled,
    DataOptions,
    Json,
    NumBits,
    Precision,
    argument,
    option,
    with_data_options,
)
from modeling_crh.data_source import DataSource
from modeling_crh.runtime.terminal import print_summary, print_table, say

if TYPE_CHECKING:
    from modeling_crh.search.code_index import CodeIndex
    from modeling_crh.search.results import Result

Index = Annotated[str, argument("Index from `crh index`: a file, or a table such as s3://bucket/a.lance.")]


def index(
    codes: Annotated[
        Path, argument("Codes from `crh encode`: a parquet file, its folder, or the Hub id of pushed codes.")
    ],
    out: Annotated[
        str,
        option(
            "Index to write: a file, searched by FAISS; or NAME.lance, a table of LanceDB, also in an object "
            "store (s3://bucket/NAME.lance). An older file is replaced; an older table gets a new version."
        ),
    ],
    kind: Annotated[
        Literal["auto", "flat", "ivf"],
        option(
            "*flat* scans all codes; *ivf* searches lists of similar ones. *auto* is flat up to two million codes "
            "in a file and up to 200,000 in a table, and ivf above."
        ),
    ] = "auto",
    model: Annotated[
        str | None, option("Name of the model that made the codes.", shown="the one that the codes name")
    ] = None,
    num_bits: NumBits = None,
    append: Annotated[
        bool, option("Add the codes to an existing table, which must not hold their ids.", "--append")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build an index over packed codes, in one file or as a table."""
    from modeling_crh.search import index_codes
    from modeling_crh.search.code_index import is_table_uri
    from modeling_crh.search.index_file import is_index_file

    built: CodeIndex
    if is_table_uri(out):
        from modeling_crh.search.lance_index import codes_to_table  # needs LanceDB, which a file does not

        built = codes_to_table(codes, out, kind=kind, model=model, append=append, num_bits=num_bits)
        more = {"version": built.version}
    else:
        file = Path(out)
        if append:
            raise ValueError(f"`append` must be given with a table (NAME.lance) only, but `out` is {out!r}.")
        if file.is_dir() or not file.parent.is_dir() or (file.exists() and not is_index_file(file)):
            raise ValueError(f"`out` must be a new file in a folder that exists, or an older index, but got {out!r}.")
        built = index_codes(codes, kind=kind, model=model, num_bits=num_bits)
        built.save(file)
        more = {"bytes": file.stat().st_size}
    summary = {"index": out, "items": len(built), "num_bits": built.num_bits, "kind": built.kind, "model": built.model}
    sentence = f"{len(built):,} codes of {built.num_bits} bits, {built.kind}, in {out}"
    print_summary(summary | more, sentence, as_json)


@with_data_options(
    DataSource,
    leave_out=("dataset", "data_dir", "label_column", "label_separator", "multi_hot", "id_column", "skip_bad"),
)
def search(
    index: Index,
    data: DataOptions,
    query: Annotated[
        list[str] | None,
        argument("Files of images or sounds, data sources, or codes in hexadecimal digits.", shown=False),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "Folder or Hub id of the model that made the codes, or of one trained by `--centers-from` to its "
            "centers, to search by anything but codes.",
            shown=False,
        ),
    ] = None,
    text: Annotated[list[str] | None, option("Text to search by; may be given several times.", shown=False)] = None,
    k: Annotated[int | None, option("Number of nearest items to find.", "-k", shown="10 without --radius")] = None,
    radius: Annotated[
        int | None, option("Largest distance of a hit, in bits. With *-k*, find the k nearest within it.", shown="none")
    ] = None,
    where: Annotated[
        str | None,
        option("SQL condition that items of a table must meet, such as \"label = 'cat'\".", shown="all items"),
    ] = None,
    rerank: Annotated[
        bool | None,
        option(
            "Order the hits by the hash logits of the query, not by bits alone.",
            "--rerank/--no-rerank",
            shown="for all queries but codes, without --radius",
        ),
    ] = None,
    html: Annotated[Path | None, option("File to write a page of results with pictures to.", shown="no page")] = None,
    image_root: Annotated[
        Path | None,
        option(
            "Folder of the database's images: paths are written relative to it, and the page shows pictures in "
            "it, no others.",
            shown="no pictures",
        ),
    ] = None,
    dtype: Precision = "auto",
    compiled: Compiled = False,
    as_json: Json = False,
) -> None:
    """Find the nearest items of an index."""
    from modeling_crh.runtime.html import check_image_root
    from modeling_crh.search import open_index, queries
    from modeling_crh.search.results import check_replaced, explain_order, find_results, write_page
    from modeling_crh.training.chosen_recipe import options_of_run

    if html is not None:
        check_replaced("html", html)
    if not query and not text:
        raise ValueError("`query` must be given, or `text`, but both are missing.")
    if image_root is not None:
        check_image_root(image_root)
    opened = open_index(index)
    chosen: CodeIndex = opened if where is None else opened.where(where)
    known = {} if model is None else options_of_run(model, data, columns_only=True)
    sources = queries.find_queries(query or [], chosen.num_bits, **{**known, **data}) + queries.text_queries(text or [])
    to_encode = any(source.kind != "code" for source in sources)
    encoder = None
    if model is not None and to_encode:
        encoder = queries.load_encoder(chosen, model, dtype=dtype, compiled=compiled)
    elif model is not None:
        queries.check_model(chosen, model)
    logits = queries.query_logits(sources, chosen.num_bits, encoder)
    results = find_results(chosen, sources, logits, k=k, radius=radius, rerank=rerank, image_root=image_root)
    if html is not None:
        for fault, count in write_page(html, chosen, results, image_root=image_root).items():
            say(f"Left {count} pictures of the database out of the page: {fault}.")
    if not as_json:
        _print_results(results)
        typer.echo(explain_order(results))
        return
    summary = {"index": index, "model": chosen.model, "num_bits": chosen.num_bits, "kind": chosen.kind}
    summary |= {} if html is None else {"html": str(html)}
    typer.echo(json.dumps(summary | {"results": [result.to_dict() for result in results]}))


def _print_results(results: Sequence["Result"]) -> None:
    from modeling_crh.search.code_index import label_text

    rows: list[tuple[object, ...]] = []
    for result in results:
        names = [result.source.name, *[""] * len(result.hits)]
        found: list[tuple[object, ...]] = [
            (hit.rank, hit.distance, hit.id, label_text(hit.label), hit.path) for hit in result.hits
        ]
        rows += [(name, *hit) for name, hit in zip(names, found or [("", "", "", "nothing found", "")], strict=False)]
    print_table(("query", "rank>", "bits>", "id", "label", "path"), rows)


_SHOWN = 3  # items of a group that the table names


def dedupe(
    index: Index,
    radius: Annotated[int, option("Largest distance in bits between neighbours of a group; 0 groups equal codes.")],
    other: Annotated[
        str | None, argument("Second index: list the items of the first that are in it.", shown=False)
    ] = None,
    keep: Annotated[
        Literal["first", "largest"] | None,
        option(
            "Say which item of each group to keep: the *first*, or the one with the *largest* file in --image-root.",
            shown="none",
        ),
    ] = None,
    image_root: Annotated[
        Path | None, option("Folder of the images; paths are written relative to it.", shown="paths of the index")
    ] = None,
    out: Annotated[
        Path | None, option("CSV file for the groups, with one row per item.", shown="a table is printed")
    ] = None,
    as_json: Json = False,
) -> None:
    """List groups of near-duplicates: items that chains of neighbours within `--radius` connect.

    With a second index, list the items of the first that are within `--radius` of an item of the second.
    """
    from modeling_crh.runtime.html import check_image_root
    from modeling_crh.search import duplicates_of, near_duplicates, read_index
    from modeling_crh.search import results as lists

    if other is not None and keep is not None:
        raise ValueError(f"`keep` must be left out with a second index, whose items all stay, but got {keep!r}.")
    if other is not None and os.path.realpath(other) == os.path.realpath(index):
        raise ValueError(
            f"`other` must be another index, or be left out to find the duplicates within one, but got {other!r}."
        )
    if image_root is not None:
        check_image_root(image_root)
    if out is not None:
        lists.check_replaced("out", out)
    loaded = read_index(index, "flat")
    summary: dict[str, Any] = {"radius": radius, "items": len(loaded), "index": index}
    summary |= {} if out is None else {"out": str(out)}
    if other is not None:
        second = read_index(other, "flat")
        pairs = lists.describe_duplicates(loaded, second, duplicates_of(loaded, second, radius), image_root)
        if out is not None:
            lists.write_duplicates(out, pairs)
        elif not as_json:
            rows = [(_name(pair), pair["distance"], _name(pair["of"])) for pair in pairs]
            print_table(("item", "bits>", "is in the second index as"), rows)
        summary |= {"other": other, "duplicates": len(pairs)} | ({"found": pairs} if as_json else {})
        counts = f"{_count(len(pairs), 'duplicate')} of items in {other} among {len(loaded):,} items"
    else:
        found = near_duplicates(loaded, radius)
        kept = None if keep is None else lists.kept_items(loaded, found, keep, image_root)
        groups = lists.describe_groups(loaded, found, kept, image_root)
        if out is not None:
            lists.write_groups(out, groups)
        elif not as_json:
            _print_groups(groups)
        duplicates = sum(map(len, groups)) - len(groups)
        summary |= {"num_groups": len(groups), "duplicates": duplicates} | ({"groups": groups} if as_json else {})
        counts = f"{_count(duplicates, 'duplicate')} in {_count(len(groups), 'group')} among {len(loaded):,} items"
    print_summary(summary, counts if out is None else f"{counts}, in {out}", as_json)


def _print_groups(groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    rows: list[tuple[object, ...]] = []
    for number, group in enumerate(groups, 1):
        more = [f"and {len(group) - _SHOWN:,} more"] if len(group) > _SHOWN else []
        kept = [_name(record) for record in group if record.get("keep")]
        rows.append((number, f"{len(group):,}", ", ".join([*map(_name, group[:_SHOWN]), *more]), *kept))
    headings = ("group>", "items>", "first items", *(("keep",) if rows and len(rows[0]) > 3 else ()))
    print_table(headings, rows)


def _name(record: dict[str, Any]) -> str:
    return str(record["path"] or record["id"])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
