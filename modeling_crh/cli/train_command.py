"""`crh train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeling_crh.cli.options import (
    DATASET_HELP,
    DataDir,
    FeaturesColumn,
    Json,
    LabelColumn,
    Protocol,
    SkipBadImages,
    TextColumn,
)
from modeling_crh.runtime.terminal import errors, print_figures, report_bad_images

if TYPE_CHECKING:
    from modeling_crh.training.recipe import Recipe

RIVALS = "csq, orthohash, mds, shc, hashnet, dtsh, greedyhash; or sign, lsh, itq, which are not trained"


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe in YAML. Without one: the bundled sample, in minutes on a CPU.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run's folder: new or empty.")] = Path("runs/latest"),
    dataset: Annotated[str | None, typer.Option(help=DATASET_HELP)] = None,
    data_dir: DataDir = None,
    protocol: Protocol = None,
    text_column: TextColumn = None,
    features_column: FeaturesColumn = None,
    label_column: LabelColumn = "label",
    validation_fraction: Annotated[
        float | None, typer.Option(help="Share of the training items that the best epoch is chosen on.")
    ] = None,
    query_fraction: Annotated[
        float | None,
        typer.Option(help="Share of all items to cut as queries, where the data bring none; by default a fifth."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Hub id or folder of a pretrained backbone.")] = None,
    method: Annotated[str | None, typer.Option(help="crh, or a rival: " + RIVALS + ".")] = None,
    num_bits: Annotated[int | None, typer.Option(help="Bits of a code, a multiple of 8.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training set.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Items a step and device.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Of the backbone, and of the head too.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything that is random.")] = None,
    skip_bad_images: SkipBadImages = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in `--out`.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="All of it with one step on a few rows; `--out` stays as it is.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model, evaluate it and save it. Options take precedence over the recipe."""
    from modeling_crh.runtime.processes import leave_processes

    fields = {
        "dataset": dataset,
        "data_dir": data_dir,
        "protocol": protocol,
        "text_column": text_column,
        "features_column": features_column,
        "label_column": None if label_column == "label" else label_column,
        "validation_fraction": validation_fraction,
        "query_fraction": query_fraction,
        "backbone": backbone,
        "method": method,
        "seed": seed,
    }
    training = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    chosen = _recipe(recipe, fields, {"num_bits": num_bits}, training, skip_bad_images)
    if dry_run:
        _try_out(chosen, as_json)
    else:
        _train_and_evaluate(chosen, out, resume, as_json)
    leave_processes()


def _try_out(recipe: "Recipe", as_json: bool) -> None:
    """A dry run, and what it found."""
    from accelerate import PartialState

    from modeling_crh.training import run as experiment

    summary = experiment.dry_run(recipe)
    if PartialState().is_main_process:
        print_figures(summary, "A dry run: nothing was written", as_json, {})


def _train_and_evaluate(recipe: "Recipe", out: Path, resume: bool, as_json: bool) -> None:
    """A run, and its figures."""
    from accelerate import PartialState

    from modeling_crh.data import count_unlabelled
    from modeling_crh.runtime.processes import choose_workers
    from modeling_crh.training import run as experiment
    from modeling_crh.training.evaluation import evaluate_splits

    try:
        run = experiment.train(recipe, out, resume=resume)
    except KeyboardInterrupt:
        errors.print(f"`--resume` goes on from the last checkpoint in {out}.", highlight=False)
        raise typer.Exit(130) from None
    if not PartialState().is_main_process:
        return
    report_bad_images(run.bad_images)
    unlabelled = count_unlabelled(run.splits["train"])
    if unlabelled:
        errors.print(f"{unlabelled} training items have no label, and so no loss.", highlight=False)
    workers = choose_workers(run.model.main_input_name)
    figures = evaluate_splits(run.model, run.processor, run.splits, num_workers=workers)
    experiment.write_json(out / experiment.FIGURES_NAME, figures)
    print_figures(figures, f"Saved in {out}", as_json, {"checkpoint": str(out)})


def _recipe(
    path: Path | None, fields: dict[str, Any], model: dict[str, Any], training: dict[str, Any], skip_bad_images: bool
) -> "Recipe":
    """The recipe that a file and options make; None stands for an option that was not given."""
    from modeling_crh.training.recipe import DEMO_RECIPE, FEATURES_RECIPE, Recipe

    overrides: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in fields.items() if value is not None
    }
    for name, settings in (("model", model), ("training", training)):
        given = {key: value for key, value in settings.items() if value is not None}
        if given:
            overrides[name] = given
    if skip_bad_images:
        overrides["skip_bad_images"] = True
    if path is None and fields["dataset"] is not None:
        if fields["features_column"] is not None:
            return Recipe.load(FEATURES_RECIPE, **overrides)
        if fields["backbone"] is not None:
            return Recipe.from_dict({"augmentation": "standard"}, **overrides)
    return Recipe.load(path or DEMO_RECIPE, **overrides)
