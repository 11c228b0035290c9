"""`crh encode`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeling_crh.cli.options import BatchSize, FeaturesColumn, Json, NumWorkers, SkipBadImages, TextColumn
from modeling_crh.cli.terminal import errors, print_summary, report_bad_images

if TYPE_CHECKING:
    from modeling_crh.encoding.source import EncodedSource


def encode(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id of a model.")],
    source: Annotated[
        str,
        typer.Argument(help="A folder of images, a table, a saved dataset, a benchmark, or the Hub id of a dataset."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards: new, or what the same command has begun.")],
    image_column: Annotated[str, typer.Option(help="Column of images of a table or dataset.")] = "image",
    text_column: TextColumn = None,
    features_column: FeaturesColumn = None,
    label_column: Annotated[str, typer.Option(help="Column of labels, where there is one.")] = "label",
    id_column: Annotated[str | None, typer.Option(help="Column of whole numbers to call the items by.")] = None,
    split: Annotated[str, typer.Option(help="Of a dataset with several.")] = "train",
    skip_bad_images: SkipBadImages = False,
    shard_size: Annotated[int, typer.Option(min=1, help="Items a file; no more than one file is lost at a stop.")] = (
        10_000
    ),
    batch_size: BatchSize = 64,
    num_workers: NumWorkers = None,
    as_json: Json = False,
) -> None:
    """Encode images, texts or features into parquet files of packed codes; a run that was stopped goes on."""
    from accelerate import PartialState
    from datasets import logging

    from modeling_crh.checkpoint import load_checkpoint
    from modeling_crh.data import open_source
    from modeling_crh.encoding.shards import shard_files
    from modeling_crh.encoding.source import check_kind, encode_source
    from modeling_crh.processes import choose_workers, leave_processes

    logging.set_verbosity(logging.CRITICAL)  # it logs what it raises too
    model, processor = load_checkpoint(checkpoint)
    columns: dict[str, Any] = {
        "image_column": image_column,
        "text_column": text_column,
        "features_column": features_column,
        "label_column": label_column,
        "id_column": id_column,
        "split": split,
    }
    kind = "text" if text_column is not None else "features" if features_column is not None else "image"
    check_kind(model, kind)
    opened = open_source(source, **columns)
    try:
        encoded = encode_source(
            model,
            processor,
            opened,
            out,
            model_name=checkpoint,
            columns=columns,
            shard_size=shard_size,
            batch_size=batch_size,
            num_workers=choose_workers(model.main_input_name, num_workers),
            skip_bad_images=skip_bad_images,
        )
    except KeyboardInterrupt:
        whole = len(list(shard_files(out)))
        found = f"{whole} file{'s' if whole != 1 else ''} of {shard_size} items" if whole else "nothing yet"
        errors.print(f"In {out} is {found}; the same command goes on from there.", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if PartialState().is_main_process:
        _report(encoded, model.config.num_bits, as_json)
    leave_processes()


def _report(encoded: "EncodedSource", num_bits: int, as_json: bool) -> None:
    """What was left out, and what is there."""
    report_bad_images(encoded.left_out)
    summary = {
        "codes": str(encoded.folder),
        "items": encoded.items,
        "left_out": len(encoded.left_out),
        "num_bits": num_bits,
    }
    found = "were there already, in" if encoded.was_complete else "in"
    print_summary(summary, f"{encoded.items} codes of {num_bits} bits {found} {encoded.folder}", as_json)
