"""All cells of the paper's table, and the same with a ViT: `python training/paper.py --data-root DIR`, or `make paper`.

A cell is a recipe in a folder of `training/recipes`: a data set, a backbone and a number of bits. `DIR` holds one
folder of official files a benchmark, such as `DIR/stanford_cars`. Each cell runs in a process of its own, and one that
fails does not stop the next. What is finished is not run again, and what was interrupted goes on. With several GPUs,
choose one for each call by `CUDA_VISIBLE_DEVICES`, and name its cells.
"""

import fnmatch
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from modeling_crh.cli import run
from modeling_crh.cli.options import Json
from modeling_crh.runtime.terminal import print_table, say
from modeling_crh.training.recipe import RECIPE_NAME, Recipe
from modeling_crh.training.run import FIGURES_NAME

TRAIN = Path(__file__).with_name("train.py")
RECIPES = Path(__file__).with_name("recipes")
NOT_ON_THE_HUB = ("nabirds", "coco_2014")


@dataclass(frozen=True)
class Cell:
    """One recipe, and the state of its run.

    Attributes:
        name: Name of the recipe, and of the run's folder.
        dataset: Name of the benchmark.
        backbone: Hub id of the backbone.
        num_bits: Length K of a code.
        data: Folder of the official files, `"Hub"`, or None where there are no data.
        state: `"finished"`, `"interrupted"`, `"other settings"` where the run is one of a recipe that has changed, or
            `"to do"`; after a call that ran it, `"failed"` or `"dry run passed"`.
        map: mAP of a finished run.
        reason: Last line that a failed run printed.
    """

    name: str
    dataset: str
    backbone: str | None
    num_bits: int
    data: str | None
    state: str
    map: float | None = None
    reason: str | None = None


def paper(
    names: Annotated[
        list[str] | None, typer.Argument(help="Cells by name, such as coco/vit-64 or 'coco/*'. Without one: all.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(envvar="CRH_DATA_ROOT", help="Folder with one folder of official files a benchmark.")
    ] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Take data that are not in `--data-root` from the Hub.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the runs, one a cell.")] = Path("runs/paper"),
    recipes: Annotated[Path, typer.Option(help="Folder with one folder of recipes a data set.")] = RECIPES,
    only_list: Annotated[bool, typer.Option("--list", help="Run nothing.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try every cell out with one step; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run all cells whose data are there, and list them. Exit code 1: one of them, or one named, is not done."""
    paths = _find_recipes(recipes, names or [])
    cells = {name: _look_at(name, path, data_root, hub, out / name) for name, path in paths.items()}
    if not only_list:
        for name, path in paths.items():
            cells[name] = _run(cells[name], path, out / name, dry_run)
    _print_cells(list(cells.values()), as_json)
    done = {"dry run passed"} if dry_run else {"finished"}
    asked = [cell for cell in cells.values() if names or cell.data is not None]
    if not only_list and any(cell.state not in done for cell in asked):
        raise typer.Exit(1)


def _find_recipes(folder: Path, wanted: list[str]) -> dict[str, Path]:
    """Find the recipes that are wanted: name to file, in the order of the names."""
    every = {f"{path.parent.name}/{path.stem}": path for path in folder.glob("*/*.yaml")}
    for name in wanted:
        if not fnmatch.filter(every, name):
            raise ValueError(f"`names` must be names of cells, such as {min(every, default='none')}, but got {name!r}.")
    chosen = sorted(name for name in every if not wanted or any(fnmatch.fnmatch(name, pattern) for pattern in wanted))
    if not chosen:
        raise ValueError(f"`recipes` must hold a folder with a recipe, but {str(folder)!r} does not.")
    return {name: every[name] for name in chosen}


def _look_at(name: str, path: Path, data_root: Path | None, hub: bool, out: Path) -> Cell:
    recipe = Recipe.load(path)
    data = None
    if data_root is not None and (data_root / recipe.dataset).is_dir():
        data = str((data_root / recipe.dataset).absolute())
    elif hub and recipe.dataset not in NOT_ON_THE_HUB:
        data = "Hub"
    cell = Cell(name, recipe.dataset, recipe.backbone, recipe.model["num_bits"], data, "to do")
    if not (out / RECIPE_NAME).is_file():
        return cell
    try:
        same = replace(Recipe.load(out / RECIPE_NAME), data_dir=None) == recipe
    except ValueError:
        same = False
    if not same:
        return replace(cell, state="other settings")
    return _with_figures(cell, out) if (out / FIGURES_NAME).is_file() else replace(cell, state="interrupted")


def _with_figures(cell: Cell, out: Path) -> Cell:
    return replace(cell, state="finished", map=json.loads((out / FIGURES_NAME).read_text())["map"])


def _run(cell: Cell, path: Path, out: Path, dry_run: bool) -> Cell:
    """Run a cell if it needs that and has its data; give it with what came of it."""
    if cell.data is None or (cell.state == "finished" and not dry_run):
        return cell
    command = [sys.executable, str(TRAIN), str(path)]
    command += [] if cell.data == "Hub" else ["--data-dir", cell.data]
    command += ["--dry-run"] if dry_run else ["--out", str(out), "--resume"]
    environment = os.environ | {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    say(cell.name)
    last = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        for line in process.stdout or ():
            say(line.rstrip())
            last = line.strip() or last
    if process.returncode:
        return replace(cell, state="failed", reason=last.removeprefix("Error: ") or f"exit code {process.returncode}")
    if dry_run:
        return replace(cell, state="dry run passed")
    return _with_figures(cell, out)


def _print_cells(cells: list[Cell], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(cell) for cell in cells]))
        return
    rows = [
        (
            cell.name,
            cell.dataset,
            cell.backbone,
            cell.num_bits,
            cell.data or "no data",
            cell.state,
            "" if cell.map is None else f"{cell.map:.4f}",
        )
        for cell in cells
    ]
    print_table(("recipe", "data set", "backbone", "bits>", "data", "run", "mAP>"), rows)
    for cell in cells:
        if cell.reason is not None:
            say(f"{cell.name}: {cell.reason}")


if __name__ == "__main__":
    run(paper)
