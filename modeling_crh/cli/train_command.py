"""`crh train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modeling_crh.cli.options import DataOptions, Json, Pooling, Tower, with_data_options
from modeling_crh.data_source import DataSource, Division
from modeling_crh.runtime.terminal import print_figures, say

if TYPE_CHECKING:
    from modeling_crh.training.recipe import Recipe

RIVALS = "csq, orthohash, mds, shc, hashnet, dtsh, greedyhash; or sign, lsh, itq, which are not trained"
OF_THE_RECIPE = "the recipe's"
CHOSEN = f"{OF_THE_RECIPE}; without one, by the kind of the data: the first line of the run says it"


@with_data_options(DataSource, Division)
def train(
    data: DataOptions,
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe in YAML.", show_default="the bundled sample, in minutes on a CPU")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run, new or empty.")] = Path("runs/latest"),
    backbone: Annotated[
        str | None, typer.Option(help="Hub id or folder of a pretrained backbone.", show_default=OF_THE_RECIPE)
    ] = None,
    tower: Tower = None,
    pooling: Pooling = None,
    freeze_backbone: Annotated[bool, typer.Option("--freeze-backbone", help="Train only the hash head.")] = False,
    unfreeze_last: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train only this many last blocks of the backbone, and the hash head.",
            show_default=OF_THE_RECIPE,
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(min=1, help="Train LoRA weights of this rank, and the hash head.", show_default=OF_THE_RECIPE),
    ] = None,
    centers_from: Annotated[
        str | None,
        typer.Option(
            help="Hub id or folder of a CRH model of the same classes, such as of images: take its centers, so that "
            "codes of both can be compared.",
            show_default=OF_THE_RECIPE,
        ),
    ] = None,
    balanced: Annotated[
        bool,
        typer.Option(
            "--balanced",
            help="Draw training items so that every class comes up equally often, for data with rare classes.",
        ),
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(
            help=f"crh; a rival: {RIVALS}; or your own objective as module:Class.", show_default=OF_THE_RECIPE
        ),
    ] = None,
    preset: Annotated[
        Literal["paper", "best"] | None,
        typer.Option(
            help="Settings of CRH: *paper* for the paper's, *best* for those that measured best. Fields of "
            "`model` in the recipe override them.",
            show_default=f"{OF_THE_RECIPE}, or else paper; without a recipe, best",
        ),
    ] = None,
    num_bits: Annotated[
        int | None, typer.Option(help="Length of a code in bits, a multiple of 8.", show_default=f"{OF_THE_RECIPE}, 64")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Number of training epochs.", show_default=CHOSEN)] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Number of items per step and device.", show_default=CHOSEN),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=0, help="Learning rate of backbone and head.", show_default=CHOSEN),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in `--out`.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try the run with one step on a few rows; nothing is written.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model, evaluate it and save it. Options override the recipe."""
    from accelerate import PartialState

    from modeling_crh.runtime.processes import leave_processes
    from modeling_crh.training import run
    from modeling_crh.training.chosen_recipe import choose_recipe

    training = {"num_train_epochs": epochs, "per_device_train_batch_size": batch_size, "learning_rate": learning_rate}
    chosen = choose_recipe(
        recipe,
        **data,
        backbone=backbone,
        freeze_backbone=freeze_backbone or None,
        unfreeze_last=unfreeze_last,
        lora={"rank": lora_rank},
        model={"num_bits": num_bits, "tower": tower, "pooling": pooling},
        balanced=balanced or None,
        training=training,
        preset=preset,
        centers_from=centers_from,
        method=method,
    )
    if not dry_run:
        _train_and_evaluate(chosen, out, resume, as_json)
    else:
        summary = run.dry_run(chosen)
        if PartialState().is_main_process:
            print_figures(summary, "A dry run: nothing was written", as_json, {})
    leave_processes()


def _train_and_evaluate(recipe: "Recipe", out: Path, resume: bool, as_json: bool) -> None:
    """Train in `out`, and print the figures of the run in its first process."""
    from accelerate import PartialState

    from modeling_crh.runtime.atomic_files import write_json
    from modeling_crh.runtime.processes import choose_workers
    from modeling_crh.training.evaluation import evaluate_splits
    from modeling_crh.training.run import FIGURES_NAME, train

    try:
        trained = train(recipe, out, resume=resume)
    except KeyboardInterrupt:
        say(f"The same command with `--resume` goes on from the last checkpoint in {out}.")
        raise typer.Exit(130) from None
    if not PartialState().is_main_process:
        return
    workers = choose_workers(trained.model.main_input_name)
    figures = evaluate_splits(trained.model, trained.processor, trained.splits, num_workers=workers)
    write_json(out / FIGURES_NAME, figures)
    print_figures(figures, f"Saved in {out}", as_json, {"checkpoint": str(out)})
