"""`crh encode`, `crh features` and `crh evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeling_crh.cli.options import (
    DATASET_HELP,
    BatchSize,
    DataDir,
    FeaturesColumn,
    Json,
    LabelColumn,
    NumWorkers,
    Protocol,
    SkipBadImages,
    TextColumn,
)
from modeling_crh.runtime.terminal import errors, print_figures, print_summary, report_bad_images

if TYPE_CHECKING:
    from modeling_crh.encoding.encode import EncodedSource


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

    from modeling_crh.data import open_source
    from modeling_crh.encoding.encode import check_kind, encode_source
    from modeling_crh.encoding.loading import load_checkpoint
    from modeling_crh.encoding.shards import shard_files
    from modeling_crh.runtime.processes import choose_workers, leave_processes

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
    from modeling_crh.encoding.feature_tables import load_backbone, store_features
    from modeling_crh.encoding.inputs import load_processor
    from modeling_crh.runtime.processes import choose_workers

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


def evaluate(
    checkpoint: Annotated[
        str | None, typer.Argument(help="Folder or Hub id of a model. Without one: the Fashion-MNIST model that ships.")
    ] = None,
    dataset: Annotated[str, typer.Option(help=DATASET_HELP)] = "fashion_mnist_sample",
    data_dir: DataDir = None,
    protocol: Protocol = None,
    text_column: TextColumn = None,
    features_column: FeaturesColumn = None,
    label_column: LabelColumn = "label",
    reference: Annotated[
        str | None,
        typer.Option(
            help="Compare the centers with the similarity of the classes in a *taxonomy*, or to the model of images or "
            "texts in this folder or Hub id: PCC and p value."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the splits; by default that of the model's run.")] = None,
    skip_bad_images: SkipBadImages = False,
    batch_size: BatchSize = 256,
    num_workers: NumWorkers = None,
    as_json: Json = False,
) -> None:
    """Every retrieval figure of a model: the queries of a dataset against its database."""
    from accelerate import PartialState
    from torch import nn

    from modeling_crh import DEFAULT_CHECKPOINT
    from modeling_crh.data import load_splits
    from modeling_crh.encoding.loading import load_checkpoint
    from modeling_crh.runtime.processes import choose_workers
    from modeling_crh.training.evaluation import correlate_centers, evaluate_splits
    from modeling_crh.training.run import division_of, find_recipe

    name = checkpoint or str(DEFAULT_CHECKPOINT)
    recipe = find_recipe(name)
    if reference is not None and recipe is not None and recipe.method != "crh":
        raise ValueError(f"`reference` must be left out for {recipe.method}, since only the centers of CRH move.")
    model, processor = load_checkpoint(name)
    nn.Module.to(model, PartialState().device)
    division = division_of(name, dataset, seed, protocol)
    splits, bad_images = load_splits(
        dataset,
        None if data_dir is None else str(data_dir),
        text_column=text_column,
        features_column=features_column,
        label_column=label_column,
        skip_bad_images=skip_bad_images,
        **division,
    )
    report_bad_images(bad_images)
    semantics = {}
    if reference is not None:  # before the figures, which may take minutes
        found = correlate_centers(model, splits["database"], reference, data_dir=data_dir)
        for when in ("before", "after"):
            semantics[f"pcc_{when}"], semantics[f"p_value_{when}"] = getattr(found, when)[:2]
    workers = choose_workers(model.main_input_name, num_workers)
    figures = evaluate_splits(model, processor, splits, batch_size=batch_size, num_workers=workers) | semantics
    context = {"checkpoint": name, "dataset": dataset, "num_bits": model.config.num_bits}
    print_figures(figures, f"{name} on {dataset}", as_json, context)
