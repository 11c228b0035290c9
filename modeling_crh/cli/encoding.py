"""`crh encode`."""

from pathlib import Path
from typing import Annotated

import typer

from modeling_crh.cli.options import BatchSize, FeaturesColumn, Json, LabelColumn, SkipBadImages, TextColumn
from modeling_crh.cli.terminal import print_summary, report_bad_images


def encode(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id of a model.")],
    source: Annotated[str, typer.Argument(help="A folder of images, a table, or the name of a benchmark or dataset.")],
    out: Annotated[Path, typer.Option(help="Folder for `codes.parquet`; it must not hold one yet.")],
    text_column: TextColumn = None,
    features_column: FeaturesColumn = None,
    label_column: LabelColumn = "label",
    skip_bad_images: SkipBadImages = False,
    batch_size: BatchSize = 256,
    as_json: Json = False,
) -> None:
    """Encode images, texts or features into a parquet file of packed codes."""
    from modeling_crh import encoding
    from modeling_crh.checkpoint import load_checkpoint
    from modeling_crh.data import BadImage, load_images, load_rows
    from modeling_crh.processing import labelled_dataset

    model, processor = load_checkpoint(checkpoint)
    bad_images: list[BadImage] = []
    if text_column is None and features_column is None:
        rows, paths, bad_images = load_images(source, label_column=label_column, skip_bad_images=skip_bad_images)
    else:
        rows, paths = load_rows(
            source, text_column=text_column, features_column=features_column, label_column=label_column
        )
    report_bad_images(bad_images)
    items = labelled_dataset(rows, processor)
    path = encoding.write_codes(model, items, paths, out, model_name=checkpoint, batch_size=batch_size)
    summary = {
        "codes": str(path),
        "items": len(items),
        "left_out": len(bad_images),
        "num_bits": model.config.num_bits,
    }
    print_summary(summary, f"{len(items)} codes of {model.config.num_bits} bits in {path}", as_json)
