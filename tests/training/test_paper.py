import hashlib
import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from tiny_runs import IMAGES, RESNET, VIT
from torchvision.datasets import CIFAR100
from transformers import AutoConfig, AutoModel, ConvNextImageProcessor, ViTImageProcessor

from modeling_crh import cli
from modeling_crh.data import PROTOCOLS, Protocol
from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import dry_run

ROOT = Path(__file__).parents[2]
RECIPES = sorted(ROOT.glob("training/recipes/*/*.yaml"))
NUM_LABELS = {"stanford_cars": 196, "nabirds": 555, "coco": 80, "cifar100": 100}
IMAGE = encode_png(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(IMAGE)


def write_cars(root):
    """Two training images and one test image of each class."""
    root.mkdir()
    names = np.empty((1, NUM_LABELS["stanford_cars"]), dtype=object)
    names[0] = [f"car {number}" for number in range(names.shape[1])]
    parts = {"cars_train_annos": ("cars_train", 2), "cars_test_annos_withlabels": ("cars_test", 1)}
    for file, (folder, times) in parts.items():
        rows = [(number % names.shape[1] + 1, f"{number:05}.jpg") for number in range(times * names.shape[1])]
        for _, name in rows:
            write_image(root / folder / name)
        annotations = np.array([rows], dtype=[("class", "O"), ("fname", "O")])
        scipy.io.savemat(root / f"{file}.mat", {"annotations": annotations})
    scipy.io.savemat(root / "cars_meta.mat", {"class_names": names})


def write_nabirds(root):
    """Two training images and one test image of each class."""
    numbers = range(1, NUM_LABELS["nabirds"] + 1)
    rows = [(f"{number:04}-{copy}", number, copy < 2) for number in numbers for copy in range(3)]
    for name, _, _ in rows:
        write_image(root / "images" / f"{name}.jpg")
    lines = {
        "classes.txt": [f"{number} bird {number}" for number in numbers],
        "images.txt": [f"{name} {name}.jpg" for name, _, _ in rows],
        "image_class_labels.txt": [f"{name} {number}" for name, number, _ in rows],
        "train_test_split.txt": [f"{name} {int(train)}" for name, _, train in rows],
    }
    for name, content in lines.items():
        (root / name).write_text("\n".join(content) + "\n")


def write_coco(root):
    """240 and 80 images, each with two of the objects."""
    (root / "annotations").mkdir(parents=True)
    kinds = NUM_LABELS["coco"]
    for part, count in (("train2017", 3 * kinds), ("val2017", kinds)):
        content = {
            "categories": [{"id": kind, "name": f"thing {kind}"} for kind in range(kinds)],
            "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(count)],
            "annotations": [
                {"image_id": number, "category_id": (number * step) % kinds}
                for number in range(count)
                for step in (1, 3)
            ],
        }
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
        for number in range(count):
            write_image(root / part / f"{number}.jpg")


def write_cifar100(root):
    """300 training and 100 test images; gives the checksums of the files."""
    (root / CIFAR100.base_folder).mkdir(parents=True)
    contents = {"meta": {"fine_label_names": [f"thing {number}" for number in range(100)]}}
    for name, count in (("train", 300), ("test", 100)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 3072), dtype=np.uint8)
        contents[name] = {"data": pixels, "fine_labels": [row % 100 for row in range(count)]}
    files = {name: pickle.dumps(content, protocol=2) for name, content in contents.items()}
    for name, content in files.items():
        (root / CIFAR100.base_folder / name).write_bytes(content)
    return {name: hashlib.md5(content).hexdigest() for name, content in files.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`data` with all official layouts in small, and two tiny backbones under the names of those of the recipes."""
    folder = tmp_path_factory.mktemp("paper")
    data = folder / "data"
    data.mkdir()
    write_cars(data / "stanford_cars")
    write_nabirds(data / "nabirds")
    write_coco(data / "coco")
    (folder / "md5.json").write_text(json.dumps(write_cifar100(data / "cifar100")))
    backbones = {
        "microsoft/resnet-34": (RESNET, ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=0.875)),
        "google/vit-base-patch16-224-in21k": (
            VIT | {"image_size": 16},
            ViTImageProcessor(size={"height": 16, "width": 16}),
        ),
    }
    for name, (fields, processor) in backbones.items():
        AutoModel.from_config(AutoConfig.for_model(**fields)).save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    """That folder as the working directory, and protocols that its few images allow."""
    monkeypatch.chdir(folder)
    md5 = json.loads((folder / "md5.json").read_text())
    for part in ("train", "test"):
        monkeypatch.setattr(CIFAR100, f"{part}_list", [[part, md5[part]]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": md5["meta"]})
    monkeypatch.setitem(PROTOCOLS, "coco", {"sampled": Protocol(40, 160)})
    monkeypatch.setitem(PROTOCOLS, "cifar100", {"disjoint": Protocol(50, 200, train_in_database=False)})
    return folder


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
    backbones = ("microsoft/resnet-34", "google/vit-base-patch16-224-in21k")
    assert cells == {(name, backbone, bits) for name in NUM_LABELS for backbone in backbones for bits in (16, 32, 64)}
    assert len(RECIPES) == len(cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_passes_a_dry_run(here, path):
    recipe = Recipe.load(path, data_dir=str(here / "data" / Recipe.load(path).dataset))
    before = sorted(here.rglob("*"))
    summary = dry_run(recipe)
    assert sorted(here.rglob("*")) == before
    assert tuple(summary[name] for name in ("train", "validation", "query", "database")) == SIZES[recipe.dataset]
    assert (summary["num_labels"], summary["num_bits"]) == (NUM_LABELS[recipe.dataset], recipe.model["num_bits"])
    assert summary["num_heads"] == recipe.model["num_bits"] // HEAD_DIM[recipe.dataset]
    assert summary["steps_per_epoch"] == -(-summary["train"] // 128)
    assert summary["loss"] > 0


@pytest.fixture
def paper(folder, tmp_path, capfd, monkeypatch):
    """Run training/paper.py over the recipes of `tmp_path`; gives its exit code, its cells and standard error."""
    spec = importlib.util.spec_from_file_location("paper", ROOT / "training" / "paper.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = ["--recipes", tmp_path / "recipes", "--data-root", folder / "data", "--out", tmp_path / "runs", "--json"]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["paper.py", *map(str, [*options, *arguments])])
        with pytest.raises(SystemExit) as ended:
            cli.run(module.paper)
        output, errors = capfd.readouterr()
        return ended.value.code or 0, {cell["name"]: cell for cell in json.loads(output or "[]")}, errors

    return run


@pytest.fixture
def write_recipe(tmp_path):
    """Write a recipe that trains for seconds into the folder of a data set."""

    def write(name, dataset="stanford_cars", **training):
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Recipe.from_dict(IMAGES, dataset=dataset, training={"num_train_epochs": 1} | training).dump())

    return write


def test_cells_are_listed_with_their_data_and_nothing_is_run(paper, write_recipe, tmp_path):
    write_recipe("cars/tiny-16")
    write_recipe("elsewhere/tiny-16", dataset="cifar10")
    code, cells, _ = paper("--list")
    assert (code, list(cells)) == (0, ["cars/tiny-16", "elsewhere/tiny-16"])
    assert [Path(cells["cars/tiny-16"]["data"]).name, cells["elsewhere/tiny-16"]["data"]] == ["stanford_cars", None]
    assert {cell["state"] for cell in cells.values()} == {"to do"}
    assert paper("--list", "--hub", "else*")[1]["elsewhere/tiny-16"]["data"] == "Hub"
    assert paper("elsewhere/*")[0] == 1  # there are no data
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_failing_cell_is_reported_and_the_next_one_runs(paper, write_recipe, tmp_path):
    write_recipe("broken/tiny-16", report_to="nobody")
    write_recipe("cars/tiny-16")
    code, cells, errors = paper()
    assert (code, cells["broken/tiny-16"]["state"], cells["cars/tiny-16"]["state"]) == (1, "failed", "finished")
    assert "nobody" in cells["broken/tiny-16"]["reason"]
    assert "nobody" in errors
    run = tmp_path / "runs" / "cars" / "tiny-16"
    assert cells["cars/tiny-16"]["map"] == json.loads((run / "figures.json").read_text())["map"]
    assert [len(rows) for rows in json.loads((run / "rows.json").read_text()).values()] == [353, 39, 196, 392]

    code, again, errors = paper("cars/*")
    assert (code, again["cars/tiny-16"], errors) == (0, cells["cars/tiny-16"], "")

    (run / "figures.json").unlink()  # as if the evaluation had been interrupted
    assert paper("--list", "cars/*")[1]["cars/tiny-16"]["state"] == "interrupted"
    weights = (run / "model" / "model.safetensors").stat().st_mtime_ns
    code, again, _ = paper("cars/*")
    assert (code, again["cars/tiny-16"]) == (0, cells["cars/tiny-16"])
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == weights

    write_recipe("cars/tiny-16", learning_rate=0.02)
    assert paper("--list", "cars/*")[1]["cars/tiny-16"]["state"] == "other settings"


@pytest.mark.slow
def test_a_dry_run_of_the_cells_writes_nothing(paper, write_recipe, tmp_path):
    write_recipe("cars/tiny-16")
    code, cells, errors = paper("--dry-run")
    assert (code, cells["cars/tiny-16"]["state"]) == (0, "dry run passed")
    assert "steps_per_epoch" in errors
    assert not (tmp_path / "runs").exists()


def test_a_cell_or_a_folder_that_is_not_there_is_an_error(paper, write_recipe):
    code, _, errors = paper("--list")
    assert code == 2
    assert "`recipes` must hold a folder with a recipe" in errors
    write_recipe("cars/tiny-16")
    code, _, errors = paper("--list", "cars/tiny-32")
    assert code == 2
    assert "`names` must be names of cells, such as cars/tiny-16, but got 'cars/tiny-32'." in errors


@pytest.mark.slow
def test_the_script_shows_a_table_of_the_recipes_that_ship(tmp_path):
    command = [sys.executable, ROOT / "training/paper.py", "--list", "--data-root", tmp_path]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    rows = [line for line in shown.stdout.splitlines() if "no data" in line]
    assert len(rows) == len(RECIPES)
    assert all("to do" in row for row in rows)
