"""`crh features`."""

from pathlib import Path
from typing import Annotated

import typer

from modeling_crh.cli.options import BatchSize, DataDir, Json, LabelColumn, NumWorkers, SkipBadImages, TextColumn
from modeling_crh.cli.terminal import print_summary, report_bad_images


def features(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id of a backbone, or of a CRH model.")],
    source: Annotated[
        str,
        typer.Argument(help="A benchmark, a folder with one sub-folder of images a class, or a table of texts."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables: `train` and `test`, or `features` alone.")],
    views: Annotated[int, typer.Option(min=1, help="Of each training image: itself, and augmented ones.")] = 1,
    augmentation: Annotated[str, typer.Option(help="Of the augmented ones: light or standard.")] = "standard",
    data_dir: DataDir = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = "label",
    seed: Annotated[int, typer.Option(min=0, help="Of the augmentation.")] = 0,
    skip_bad_images: SkipBadImages = False,
    batch_size: BatchSize = 64,
    num_workers: NumWorkers = None,
    as_json: Json = False,
) -> None:
    """Store a backbone's features of labelled images or texts, for `crh train --features-column features`."""
    from accelerate import PartialState
    from torch import nn

    from modeling_crh.data import read_parts
    from modeling_crh.features import load_backbone, store_features
    from modeling_crh.processes import choose_workers
    from modeling_crh.processing import load_processor

    backbone = load_backbone(checkpoint)
    nn.Module.to(backbone, PartialState().device)
    parts, bad_images = read_parts(
        source,
        None if data_dir is None else str(data_dir),
        text_column=text_column,
        label_column=label_column,
        skip_bad_images=skip_bad_images,
    )
    report_bad_images(bad_images)
    processor = load_processor(checkpoint, backbone.main_input_name)
    files = store_features(
        backbone,
        processor,
        parts,
        out,
        num_views=views,
        augment=augmentation,
        seed=seed,
        batch_size=batch_size,
        num_workers=choose_workers(backbone.main_input_name, num_workers),
    )
    items = sum(len(part) for part in parts)
    summary = {"features": [str(file) for file in files], "items": items, "left_out": len(bad_images), "views": views}
    print_summary(summary, f"Features of {items} items in {out}", as_json)
