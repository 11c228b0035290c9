import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tiny_runs import IMAGES, RESNET, VIT
from transformers import AutoConfig, AutoModel, ConvNextImageProcessor, ViTImageProcessor

from modeling_crh import cli
from modeling_crh.data import PROTOCOLS, Protocol
from modeling_crh.data.benchmarks import BENCHMARKS
from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.data.columns import canonical_features
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import dry_run

ROOT = Path(__file__).parents[2]
RECIPES = sorted(ROOT.glob("training/recipes/*/*.yaml"))
NUM_LABELS = {"stanford_cars": 196, "nabirds": 555, "coco": 80, "cifar100": 100}
TIMES = {"stanford_cars": (2, 1), "nabirds": (2, 1), "coco": (3, 1), "cifar100": (3, 1)}  # training and test images
BACKBONES = {
    "microsoft/resnet-34": (RESNET, ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=0.875)),
    "google/vit-base-patch16-224-in21k": (
        VIT | {"image_size": 16},
        ViTImageProcessor(size={"height": 16, "width": 16}),
    ),
}


def images_of(name, times):
    """As many images of each class of a benchmark; those of COCO show one or two classes."""
    count, multi_label = NUM_LABELS[name], name == "coco"
    rows = range(times * count)
    labels = [sorted({row % count, 3 * row % count}) if multi_label else row % count for row in rows]
    image = encode_png(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    features = canonical_features([f"class {number}" for number in range(count)], multi_label=multi_label)
    return Dataset.from_dict({"image": [image for _ in rows], "label": labels}, features=features)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """A folder with tiny backbones under the names of those of the recipes."""
    folder = tmp_path_factory.mktemp("paper")
    for name, (fields, processor) in BACKBONES.items():
        AutoModel.from_config(AutoConfig.for_model(**fields)).save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.fixture
def here(backbones, monkeypatch):
    """That folder as the working directory, and the benchmarks of the recipes in small."""
    monkeypatch.chdir(backbones)
    for name, times in TIMES.items():
        monkeypatch.setitem(
            BENCHMARKS, name, lambda folder, name=name, times=times: [images_of(name, each) for each in times]
        )
    monkeypatch.setitem(PROTOCOLS, "coco", {"sampled": Protocol(40, 160)})
    monkeypatch.setitem(PROTOCOLS, "cifar100", {"disjoint": Protocol(50, 200, train_in_database=False)})
    return backbones


# Rows of train, validation, query and database of the replicas.
SIZES = {
    "stanford_cars": (353, 39, 196, 392),
    "nabirds": (999, 111, 555, 1110),
    "coco": (144, 16, 40, 280),
    "cifar100": (180, 20, 50, 150),
}
HEAD_DIM = {"stanford_cars": 16, "nabirds": 16, "coco": 8, "cifar100": 8}


def test_there_is_a_recipe_for_every_data_set_backbone_and_number_of_bits():
    cells = {(recipe.dataset, recipe.backbone, recipe.model["num_bits"]) for recipe in map(Recipe.load, RECIPES)}
    assert cells == {(name, backbone, bits) for name in NUM_LABELS for backbone in BACKBONES for bits in (16, 32, 64)}
    assert len(RECIPES) == len(cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_passes_a_dry_run(here, path):
    recipe = Recipe.load(path)
    before = sorted(here.rglob("*"))
    summary = dry_run(recipe)
    assert sorted(here.rglob("*")) == before
    assert tuple(summary[name] for name in ("train", "validation", "query", "database")) == SIZES[recipe.dataset]
    assert (summary["num_labels"], summary["num_bits"]) == (NUM_LABELS[recipe.dataset], recipe.model["num_bits"])
    assert summary["num_heads"] == recipe.model["num_bits"] // HEAD_DIM[recipe.dataset]
    assert summary["steps_per_epoch"] == -(-summary["train"] // 128)
    assert summary["loss"] > 0


@pytest.fixture
def paper(idx_folder, tmp_path, capfd, monkeypatch):
    """Run training/paper.py over the recipes of `tmp_path`; gives its exit code, its cells and standard error."""
    spec = importlib.util.spec_from_file_location("paper", ROOT / "training" / "paper.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fashion_mnist").symlink_to(idx_folder)
    options = ["--recipes", tmp_path / "recipes", "--data-root", tmp_path / "data", "--out", tmp_path / "runs"]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["paper.py", *map(str, [*options, "--json", *arguments])])
        with pytest.raises(SystemExit) as ended:
            cli.run(module.paper)
        output, errors = capfd.readouterr()
        return ended.value.code or 0, {cell["name"]: cell for cell in json.loads(output or "[]")}, errors

    return run


@pytest.fixture
def write_recipe(tmp_path):
    """Write a recipe that trains for seconds into the folder of a data set."""

    def write(name, dataset="fashion_mnist", **training):
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Recipe.from_dict(IMAGES, dataset=dataset, training={"num_train_epochs": 1} | training).dump())

    return write


def test_cells_are_listed_with_their_data_and_nothing_is_run(paper, write_recipe, tmp_path):
    write_recipe("clothes/tiny-16")
    write_recipe("elsewhere/tiny-16", dataset="cifar10")
    code, cells, _ = paper("--list")
    assert (code, list(cells)) == (0, ["clothes/tiny-16", "elsewhere/tiny-16"])
    assert [Path(cells["clothes/tiny-16"]["data"]).name, cells["elsewhere/tiny-16"]["data"]] == ["fashion_mnist", None]
    assert {cell["state"] for cell in cells.values()} == {"to do"}
    assert paper("--list", "--hub", "else*")[1]["elsewhere/tiny-16"]["data"] == "Hub"
    assert paper("elsewhere/*")[0] == 1  # there are no data
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_cells_are_tried_and_run_and_one_that_fails_is_reported(paper, write_recipe, tmp_path):
    write_recipe("clothes/tiny-16")
    code, cells, errors = paper("--dry-run")
    assert (code, cells["clothes/tiny-16"]["state"]) == (0, "dry run passed")
    assert "steps_per_epoch" in errors
    assert not (tmp_path / "runs").exists()

    write_recipe("broken/tiny-16", report_to="nobody")
    code, cells, errors = paper()
    assert (code, cells["broken/tiny-16"]["state"], cells["clothes/tiny-16"]["state"]) == (1, "failed", "finished")
    assert "nobody" in cells["broken/tiny-16"]["reason"]
    assert "nobody" in errors
    run = tmp_path / "runs" / "clothes" / "tiny-16"
    assert cells["clothes/tiny-16"]["map"] == json.loads((run / "figures.json").read_text())["map"]
    assert [len(rows) for rows in json.loads((run / "rows.json").read_text()).values()] == [36, 4, 20, 40]

    code, again, errors = paper("clothes/*")
    assert (code, again["clothes/tiny-16"], errors) == (0, cells["clothes/tiny-16"], "")

    (run / "figures.json").unlink()  # as if the evaluation had been interrupted
    assert paper("--list", "clothes/*")[1]["clothes/tiny-16"]["state"] == "interrupted"
    weights = (run / "model" / "model.safetensors").stat().st_mtime_ns
    code, again, _ = paper("clothes/*")
    assert (code, again["clothes/tiny-16"]) == (0, cells["clothes/tiny-16"])
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == weights

    write_recipe("clothes/tiny-16", learning_rate=0.02)
    assert paper("--list", "clothes/*")[1]["clothes/tiny-16"]["state"] == "other settings"


def test_a_cell_or_a_folder_that_is_not_there_is_an_error(paper, write_recipe):
    code, _, errors = paper("--list")
    assert code == 2
    assert "`recipes` must hold a folder with a recipe" in errors
    write_recipe("clothes/tiny-16")
    code, _, errors = paper("--list", "clothes/tiny-32")
    assert code == 2
    assert "`names` must be names of cells, such as clothes/tiny-16, but got 'clothes/tiny-32'." in errors


@pytest.mark.slow
def test_the_script_shows_a_table_of_the_recipes_that_ship(tmp_path):
    command = [sys.executable, ROOT / "training/paper.py", "--list", "--data-root", tmp_path]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    rows = [line for line in shown.stdout.splitlines() if "no data" in line]
    assert len(rows) == len(RECIPES)
    assert all("to do" in row for row in rows)
