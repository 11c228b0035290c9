"""`crh evaluate`."""

from typing import Annotated

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
from modeling_crh.cli.terminal import print_figures, report_bad_images


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

    from modeling_crh.checkpoint import load_checkpoint
    from modeling_crh.checkpoints import FASHION_MNIST_64
    from modeling_crh.data import load_splits
    from modeling_crh.evaluation import correlate_centers, evaluate_splits
    from modeling_crh.experiment import division_of, find_recipe
    from modeling_crh.processes import choose_workers

    name = checkpoint or str(FASHION_MNIST_64)
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
