"""`crh train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modeling_crh.cli.options import DataOptions, Json, Pooling, Tower, argument, option, with_data_options
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
    recipe: Annotated[Path | None, argument("Recipe in YAML.", shown="the bundled sample, in minutes on a CPU")] = None,
    out: Annotated[Path, option("Folder of the run, new or empty.")] = Path("runs/latest"),
    backbone: Annotated[str | None, option("Hub id or folder of a pretrained backbone.", shown=OF_THE_RECIPE)] = None,
    tower: Tower = None,
    pooling: Pooling = None,
    freeze_backbone: Annotated[bool, option("Train only the hash head.", "--freeze-backbone")] = False,
    unfreeze_last: Annotated[
        int | None,
        option("Train only this many last blocks of the backbone, and the hash head.", shown=OF_THE_RECIPE, min=1),
    ] = None,
    lora_rank: Annotated[
        int | None, option("Train LoRA weights of this rank, and the hash head.", shown=OF_THE_RECIPE, min=1)
    ] = None,
    centers_from: Annotated[
        str | None,
        option(
            "Hub id or folder of a CRH model of the same classes, such as of images: take its centers, so that "
            "codes of both can be compared.",
            shown=OF_THE_RECIPE,
        ),
    ] = None,
    balanced: Annotated[
        bool,
        option(
            "Draw training items so that every class comes up equally often, for data with rare classes.", "--balanced"
        ),
    ] = False,
    method: Annotated[
        str | None, option(f"crh; a rival: {RIVALS}; or your own objective as module:Class.", shown=OF_THE_RECIPE)
    ] = None,
    preset: Annotated[
        Literal["paper", "best"] | None,
        option(
            "Settings of CRH: *paper* for the paper's, *best* for those that measured best. Fields of "
            "`model` in the recipe override them.",
            shown=f"{OF_THE_RECIPE}, or else paper; without a recipe, best",
        ),
    ] = None,
    num_bits: Annotated[
        int | None, option("Length of a code in bits, a multiple of 8.", shown=f"{OF_THE_RECIPE}, 64")
    ] = None,
    epochs: Annotated[float | None, option("Number of training epochs.", shown=CHOSEN)] = None,
    batch_size: Annotated[int | None, option("Number of items per step and device.", shown=CHOSEN, min=1)] = None,
    learning_rate: Annotated[float | None, option("Learning rate of backbone and head.", shown=CHOSEN, min=0)] = None,
    resume: Annotated[bool, option("Continue the run in `--out`.", "--resume")] = False,
    dry_run: Annotated[
        bool, option("Try the run with one step on a few rows; nothing is written.", "--dry-run")
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
