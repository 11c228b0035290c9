"""`crh index`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from modeling_crh.cli.options import Json
from modeling_crh.cli.terminal import print_summary


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
    from modeling_crh.search.opening import is_table_uri

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
    from modeling_crh.search.lance.source import codes_to_table

    table = codes_to_table(codes, out, kind=kind, model=model, append=append)
    return {
        "index": out,
        "items": len(table),
        "num_bits": table.num_bits,
        "kind": table.kind,
        "model": table.model,
        "version": table.version,
    }
