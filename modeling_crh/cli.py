"""The command `crh`."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from huggingface_hub.errors import StrictDataclassError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from modeling_crh.recipe import Recipe

app = typer.Typer(
    help="Learn short binary codes from labelled images, and find images by them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
_errors = Console(stderr=True)

_DATASET_HELP = "Name of a benchmark, or a folder with one sub-folder of images a class."
DataDir = Annotated[Path | None, typer.Option(help="Folder of a benchmark's official files.")]
SkipBadImages = Annotated[bool, typer.Option("--skip-bad-images", help="Leave out images that cannot be decoded.")]
Protocol = Annotated[str | None, typer.Option(help="Division of a benchmark: official, sampled or disjoint.")]
TextColumn = Annotated[str | None, typer.Option(help="Column of texts, where the dataset is a table of them.")]
FeaturesColumn = Annotated[str | None, typer.Option(help="Column of stored features, likewise.")]
LabelColumn = Annotated[str, typer.Option(help="Column of labels of such a table.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, all else on standard error.")]


@app.command()
def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe in YAML. Without one: the bundled sample, in minutes on a CPU.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run's folder: new or empty.")] = Path("runs/latest"),
    dataset: Annotated[str | None, typer.Option(help=_DATASET_HELP)] = None,
    data_dir: DataDir = None,
    protocol: Protocol = None,
    text_column: TextColumn = None,
    features_column: FeaturesColumn = None,
    label_column: LabelColumn = "label",
    backbone: Annotated[str | None, typer.Option(help="Hub id or folder of a pretrained backbone.")] = None,
    num_bits: Annotated[int | None, typer.Option(help="Bits of a code, a multiple of 8.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training set.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a step and device.")] = None,
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
    from accelerate import PartialState

    fields = {
        "dataset": dataset,
        "data_dir": data_dir,
        "protocol": protocol,
        "text_column": text_column,
        "features_column": features_column,
        "label_column": None if label_column == "label" else label_column,
        "backbone": backbone,
        "seed": seed,
    }
    training = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    chosen = _recipe(recipe, fields, {"num_bits": num_bits}, training, skip_bad_images)
    processes = PartialState()
    if dry_run:
        _try_out(chosen, as_json)
    else:
        _train_and_evaluate(chosen, out, resume, as_json)
    processes.wait_for_everyone()  # gloo hangs where one process leaves the group before another
    processes.destroy_process_group()


@app.command()
def evaluate(
    checkpoint: Annotated[
        str | None, typer.Argument(help="Folder or Hub id of a model. Without one: the Fashion-MNIST model that ships.")
    ] = None,
    dataset: Annotated[str, typer.Option(help=_DATASET_HELP)] = "fashion_mnist_sample",
    data_dir: DataDir = None,
    protocol: Protocol = None,
    text_column: TextColumn = None,
    features_column: FeaturesColumn = None,
    label_column: LabelColumn = "label",
    seed: Annotated[int | None, typer.Option(min=0, help="Of the splits; by default that of the model's run.")] = None,
    skip_bad_images: SkipBadImages = False,
    batch_size: BatchSize = 256,
    as_json: Json = False,
) -> None:
    """Every retrieval figure of a model: the queries of a dataset against its database."""
    from modeling_crh import experiment
    from modeling_crh.checkpoint import load_checkpoint
    from modeling_crh.checkpoints import FASHION_MNIST_64
    from modeling_crh.data import load_splits

    name = checkpoint or str(FASHION_MNIST_64)
    model, processor = load_checkpoint(name)
    chosen_seed, chosen_protocol = experiment.division_of(name, dataset, seed, protocol)
    splits, bad_images = load_splits(
        dataset,
        None if data_dir is None else str(data_dir),
        protocol=chosen_protocol,
        seed=chosen_seed,
        text_column=text_column,
        features_column=features_column,
        label_column=label_column,
        skip_bad_images=skip_bad_images,
    )
    _report_bad_images(bad_images)
    figures = experiment.figures_of(experiment.encode_splits(model, processor, splits, batch_size=batch_size))
    context = {"checkpoint": name, "dataset": dataset, "num_bits": model.config.num_bits}
    _print_figures(figures, f"{name} on {dataset}", as_json, context)


@app.command()
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
    _report_bad_images(bad_images)
    items = labelled_dataset(rows, processor)
    path = encoding.write_codes(model, items, paths, out, model_name=checkpoint, batch_size=batch_size)
    summary = {
        "codes": str(path),
        "items": len(items),
        "left_out": len(bad_images),
        "num_bits": model.config.num_bits,
    }
    _print(summary, f"{len(items)} codes of {model.config.num_bits} bits in {path}", as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The demo's folder: new or empty.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
) -> None:
    """All of it on the bundled sample: train, evaluate, search, and write a report. The last line is JSON."""
    from modeling_crh.demo import run_demo

    typer.echo(json.dumps(run_demo(out, seed)))


def main() -> None:
    """Run `crh`; bad input ends with one sentence and exit code 2. `CRH_DEBUG=1` shows the whole traceback."""
    run(app)


def run(command: Any) -> None:
    """Run a typer app or a function as a command line of its own, with `crh`'s way to end on an error."""
    _quiet_libraries()
    if not isinstance(command, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        single.command()(command)
        command = single
    try:
        command()
    except SystemExit as ended:
        if ended.code == 130:
            _errors.print("Interrupted.")
        raise
    except (ValueError, OSError, StrictDataclassError, ModuleNotFoundError) as error:
        if os.environ.get("CRH_DEBUG"):
            raise
        _errors.print(f"[bold red]Error:[/] {_one_sentence(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)


def _try_out(recipe: "Recipe", as_json: bool) -> None:
    """A dry run, and what it found."""
    from accelerate import PartialState

    from modeling_crh import experiment

    summary = experiment.dry_run(recipe)
    if PartialState().is_main_process:
        _print_figures(summary, "A dry run: nothing was written", as_json, {})


def _train_and_evaluate(recipe: "Recipe", out: Path, resume: bool, as_json: bool) -> None:
    """A run, and its figures."""
    from accelerate import PartialState

    from modeling_crh import experiment
    from modeling_crh.data import count_unlabelled

    try:
        run = experiment.train(recipe, out, resume=resume)
    except KeyboardInterrupt:
        _errors.print(f"`--resume` goes on from the last checkpoint in {out}.", highlight=False)
        raise typer.Exit(130) from None
    if not PartialState().is_main_process:
        return
    _report_bad_images(run.bad_images)
    unlabelled = count_unlabelled(run.splits["train"])
    if unlabelled:
        _errors.print(f"{unlabelled} training images have no label, and so no loss.", highlight=False)
    figures = experiment.figures_of(experiment.encode_splits(run.model, run.processor, run.splits))
    experiment.write_json(out / experiment.FIGURES_NAME, figures)
    _print_figures(figures, f"Saved in {out}", as_json, {"checkpoint": str(out)})


def _recipe(
    path: Path | None, fields: dict[str, Any], model: dict[str, Any], training: dict[str, Any], skip_bad_images: bool
) -> "Recipe":
    """The recipe that a file and options make; None stands for an option that was not given."""
    from modeling_crh.recipe import DEMO_RECIPE, Recipe

    overrides: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in fields.items() if value is not None
    }
    for name, settings in (("model", model), ("training", training)):
        given = {key: value for key, value in settings.items() if value is not None}
        if given:
            overrides[name] = given
    if skip_bad_images:
        overrides["skip_bad_images"] = True
    own_model = fields["backbone"] is not None or fields["features_column"] is not None
    if path is None and fields["dataset"] is not None and own_model:
        return Recipe.from_dict({"augmentation": "standard"}, **overrides)
    return Recipe.load(path or DEMO_RECIPE, **overrides)


def _report_bad_images(bad_images: list[Any]) -> None:
    if bad_images:
        _errors.print(f"Left out {len(bad_images)} images that cannot be decoded:", highlight=False)
        for bad in bad_images:
            _errors.print(f"  {bad.path}: {bad.reason}", highlight=False, markup=False, soft_wrap=True)


def _print_figures(figures: dict[str, Any], title: str, as_json: bool, context: dict[str, Any]) -> None:
    if as_json:
        typer.echo(json.dumps(context | figures))
        return
    table = Table("figure", "value", title=title, title_justify="left")
    for name, value in figures.items():
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(name, shown)
    Console().print(table)


def _print(summary: dict[str, Any], sentence: str, as_json: bool) -> None:
    typer.echo(json.dumps(summary) if as_json else sentence)


def _quiet_libraries() -> None:
    """Leave standard error to what a person wants to see."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _one_sentence(error: Exception) -> str:
    text = escape(" ".join(str(error).split()))
    return text or type(error).__name__
