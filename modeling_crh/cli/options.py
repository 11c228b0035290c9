"""Options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

DATASET_HELP = "A benchmark, a folder with one sub-folder of images a class, or a table with one of the columns."

DataDir = Annotated[Path | None, typer.Option(help="Folder of a benchmark's official files.")]
SkipBadImages = Annotated[bool, typer.Option("--skip-bad-images", help="Leave out images that cannot be decoded.")]
Protocol = Annotated[str | None, typer.Option(help="Division of a benchmark: official, sampled or disjoint.")]
TextColumn = Annotated[str | None, typer.Option(help="Column of texts, where the data are a table of them.")]
FeaturesColumn = Annotated[str | None, typer.Option(help="Column of stored features, likewise.")]
LabelColumn = Annotated[str, typer.Option(help="Column of labels of such a table.")]
NumWorkers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Processes that decode images; by default one a core beside a GPU, else one for four cores."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Items at a time.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, all else on standard error.")]
