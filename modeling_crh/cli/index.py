"""`crh index`."""

from pathlib import Path
from typing import Annotated

import typer

from modeling_crh.cli.options import Json
from modeling_crh.cli.terminal import print_summary


def index(
    codes: Annotated[Path, typer.Argument(help="What `crh encode` wrote: a parquet file, or its folder.")],
    out: Annotated[Path, typer.Option(help="The index's file; an older index there is replaced.")],
    kind: Annotated[
        str, typer.Option(help="flat, ivf, hnsw or multihash; *auto* is flat up to two million codes, then ivf.")
    ] = "auto",
    model: Annotated[
        str | None, typer.Option(help="What to call the model of the codes, instead of what they say.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build an index over packed codes, in one file."""
    from modeling_crh.search import index_codes
    from modeling_crh.search.index_file import is_index_file

    if out.is_dir() or not out.parent.is_dir() or (out.exists() and not is_index_file(out)):
        raise ValueError(f"`out` must be a new file in a folder that exists, or an older index, but got {str(out)!r}.")
    built = index_codes(codes, kind=kind, model=model)
    built.save(out)
    summary = {
        "index": str(out),
        "items": len(built),
        "num_bits": built.num_bits,
        "kind": built.kind,
        "model": built.model,
        "bytes": out.stat().st_size,
    }
    print_summary(summary, f"{len(built):,} codes of {built.num_bits} bits, {built.kind}, in {out}", as_json)
