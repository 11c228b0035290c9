"""`crh dedupe`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from modeling_crh.cli.options import Json
from modeling_crh.cli.untrusted import printable

_SHOWN = 3  # items of a group, in the table


def dedupe(
    index: Annotated[str, typer.Argument(help="What `crh index` wrote: a file, or a table.")],
    radius: Annotated[int, typer.Option(help="Most bits from an item to the next one of its group; 0: equal codes.")],
    out: Annotated[Path | None, typer.Option(help="Write the groups here: CSV with a row an item.")] = None,
    as_json: Json = False,
) -> None:
    """List groups of near-duplicates: items whose codes are connected by steps of a few bits."""
    from modeling_crh.search import near_duplicates, read_index
    from modeling_crh.search.groups_table import write_groups

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
