"""`crh demo`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

Data = Annotated[
    Literal["fashion_mnist", "emoji"],
    typer.Option(help="*fashion_mnist*; or *emoji*, which trains twice: with centers that stay, and that move."),
]
Out = Annotated[Path | None, typer.Option(help="The demo's folder, new or empty.", show_default="runs/demo...")]


def demo(
    dataset: Data = "fashion_mnist",
    out: Out = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the whole emoji benchmark; without one the bundled sample.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
) -> None:
    """All of it on a bundled sample: train, evaluate, search, and write a report. The last line is JSON."""
    from modeling_crh.demo import run_demo, run_emoji_demo

    if dataset == "emoji":
        summary = run_emoji_demo(out or Path("runs/demo-emoji"), data_dir, seed)
    elif data_dir is not None:
        raise ValueError(f"`data_dir` must be given with the emoji only, but got {str(data_dir)!r} with {dataset}.")
    else:
        summary = run_demo(out or Path("runs/demo"), seed)
    typer.echo(json.dumps(summary))
