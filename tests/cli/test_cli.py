import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tiny_runs import IMAGES
from typer.testing import CliRunner

from modeling_crh import cli
from modeling_crh.training.recipe import Recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe_file(image_folder, tmp_path):
    recipe = Recipe.from_dict(IMAGES, dataset=str(image_folder), training={"num_train_epochs": 1})
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.dump())
    return path


def test_the_share_of_queries_is_that_of_the_run_when_it_is_evaluated(crh, recipe_file, image_folder, tmp_path):
    shares = ["--query-fraction", "0.1", "--validation-fraction", "0.2"]
    code, output, errors = crh("train", recipe_file, "--out", tmp_path / "run", *shares, "--json")
    assert code == 0, errors
    trained = json.loads(output)
    assert (trained["queries"], trained["database"]) == (6, 54)
    code, output, errors = crh("evaluate", tmp_path / "run", "--dataset", image_folder, "--json")
    assert code == 0, errors
    evaluated = json.loads(output)
    assert (evaluated["queries"], evaluated["map"]) == (6, trained["map"])


def test_a_run_without_some_classes_is_evaluated_with_the_figures_of_its_training(
    crh, recipe_file, image_folder, tmp_path
):
    code, output, errors = crh("train", recipe_file, "--unseen-fraction", "0.3", "--out", tmp_path / "run", "--json")
    assert code == 0, errors
    trained = json.loads(output)
    assert {"map_seen", "map_unseen", "map_unseen_alone"} < trained.keys()
    code, output, errors = crh("evaluate", tmp_path / "run", "--json")
    assert code == 0, errors
    evaluated = json.loads(output)
    assert {name: evaluated[name] for name in trained} == trained


def test_evaluate_lists_the_worst_classes_and_gives_every_class_in_its_document(
    crh, recipe_file, image_folder, tmp_path
):
    assert crh("train", recipe_file, "--out", tmp_path / "run")[0] == 0
    data = ("evaluate", tmp_path / "run", "--dataset", image_folder, "--per-class")
    code, output, errors = crh(*data, "--json")
    assert code == 0, errors
    figures = json.loads(output)
    classes = figures["per_class"]
    assert set(classes[0]) == {"name", "map", "queries", "database"}
    assert sum(one["queries"] for one in classes) == figures["queries"]
    assert sum(one["database"] for one in classes) == figures["database"]
    mean = sum(one["map"] * one["queries"] for one in classes) / figures["queries"]
    assert mean == pytest.approx(figures["map"])
    table = crh(*data)[1].partition("Classes with the lowest mAP")[2]
    worst = min(classes, key=lambda one: one["map"])
    assert f"{worst['map']:.4f}" in table.split("\n")[4]


def test_options_take_precedence_over_the_recipe_also_where_their_value_is_the_default(crh, recipe_file, tmp_path):
    recipe_file.write_text(recipe_file.read_text().replace("seed: 0", "seed: 5"))
    options = ["--num-bits", "24", "--epochs", "2", "--batch-size", "7", "--learning-rate", "0.02", "--seed", "0"]
    code, output, errors = crh("train", recipe_file, "--out", tmp_path / "run", *options)
    assert (code, "map_lower" in output, "epoch 1/2" in errors) == (0, True, True), errors
    recipe = Recipe.load(tmp_path / "run" / "recipe.yaml")
    assert (recipe.model["num_bits"], recipe.seed) == (24, 0)
    assert recipe.training["num_train_epochs"] == 2
    assert recipe.training["per_device_train_batch_size"] == 7
    assert recipe.training["learning_rate"] == 0.02


def test_a_dry_run_prints_what_the_run_would_be_and_leaves_nothing(crh, recipe_file, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, output, errors = crh(
        "train", recipe_file, "--out", tmp_path / "run", "--num-bits", "32", "--dry-run", "--json"
    )
    assert code == 0, errors
    summary = json.loads(output)
    assert (summary["num_bits"], summary["train"], summary["query"]) == (32, 43, 12)
    assert "epoch 1/1" not in errors
    code, output, errors = crh("train", recipe_file, "--out", tmp_path / "run", "--dry-run")
    assert (code, "steps_per_epoch" in output) == (0, True)
    assert sorted(tmp_path.rglob("*")) == before


def test_features_are_stored_and_a_head_is_trained_on_them(crh, tiny_checkpoint, image_folder, tmp_path):
    code, output, errors = crh(
        "features", tiny_checkpoint, image_folder, "--out", tmp_path / "features", "--views", "2", "--json"
    )
    assert code == 0, errors
    assert json.loads(output) == {
        "features": [str(tmp_path / "features" / "features.parquet")],
        "items": 60,
        "left_out": 0,
        "views": 2,
    }
    table = json.loads(output)["features"][0]
    options = ["--features-column", "features", "--epochs", "2", "--num-bits", "16", "--out", tmp_path / "run"]
    code, output, errors = crh("train", "--dataset", table, *options, "--json")
    assert code == 0, errors
    assert json.loads(output)["queries"] == 12
    code, output, errors = crh("features", tiny_checkpoint, image_folder, "--out", tmp_path / "features")
    assert (code, output) == (2, "")
    assert "holds 'features.parquet'" in errors


def test_evaluate_compares_the_centers_with_a_taxonomy_and_knows_its_levels(crh, tmp_path):
    generator = np.random.default_rng(0)
    label = np.arange(120) % 6
    rows = {"features": list(generator.normal(size=(120, 8)) + np.eye(6, 8)[label] * 3)}
    rows |= {"label": [f"class {number}" for number in label]}
    rows |= {
        "subgroup": [f"sub {number // 2}" for number in label],
        "group": [f"top {number // 3}" for number in label],
    }
    Dataset.from_dict(rows).to_parquet(tmp_path / "table.parquet")
    data = ["--dataset", tmp_path / "table.parquet", "--features-column", "features"]
    code, output, errors = crh("train", *data, "--epochs", "2", "--num-bits", "16", "--out", tmp_path / "run", "--json")
    assert code == 0, errors
    trained = json.loads(output)
    code, output, errors = crh("evaluate", tmp_path / "run", *data, "--reference", "taxonomy", "--json")
    assert code == 0, errors
    figures = json.loads(output)
    assert {name: figures[name] for name in trained if name != "checkpoint"} == {
        name: value for name, value in trained.items() if name != "checkpoint"
    }
    assert figures["map_group"] != figures["map_subgroup"] != figures["map"]
    assert -1 <= figures["pcc_before"] <= 1
    assert 0 < figures["p_value_after"] <= 1


def test_a_rival_is_trained_by_its_name_and_has_no_centers_that_moved(crh, recipe_file, image_folder, tmp_path):
    code, output, errors = crh("train", recipe_file, "--method", "csq", "--out", tmp_path / "run", "--json")
    assert code == 0, errors
    assert Recipe.load(tmp_path / "run" / "recipe.yaml").method == "csq"
    code, output, errors = crh("evaluate", tmp_path / "run", "--dataset", image_folder, "--reference", "taxonomy")
    assert (code, output) == (2, "")
    assert "`reference` must be left out for csq" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere.yaml"], "`recipe` must be a readable YAML file, but 'nowhere.yaml' is not"),
        (["train", "."], "`recipe` must be a YAML file, but '.' is a folder: name data by `dataset`."),
        (["train", "--dataset", "./nowhere/at/all"], "`dataset` must be a folder, a table, the Hub id of a dataset"),
        (
            ["train", "--backbone", "/no/such/model"],
            "`backbone` must be a model's folder or Hub id, but '/no/such/model' is not: there is no such folder",
        ),
        (["train", "--num-bits", "12"], "`num_bits` must be a positive multiple of 8, but got 12."),
        (
            ["evaluate", "./nowhere/at/all"],
            "CRH model's folder or Hub id, but './nowhere/at/all' is not: there is no such",
        ),
        (["features", "./nowhere/at/all", ".", "--out", "features"], "`backbone` must be the folder or Hub id of"),
        (["demo", "--data-dir", "."], "`data_dir` must be given with emoji only, but got '.' with fashion_mnist."),
        (["encode", "./nowhere/at/all", ".", "--out", "codes"], "`checkpoint` must be a CRH model's folder or Hub id"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(crh, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output, errors = crh(*arguments)
    assert (code, output) == (2, "")
    lines = errors.strip().splitlines()
    assert message in lines[-1]
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_data_in_the_place_of_the_recipe_are_told_their_option(crh, tmp_path):
    (tmp_path / "rows.csv").write_text("picture,kind\na.png,cat\n")
    (tmp_path / "rows.npy").write_bytes(b"\x93NUMPY")
    for name, message in (("rows.csv", "must hold fields by name, but"), ("rows.npy", "must be a YAML file, but")):
        code, output, errors = crh("train", tmp_path / name, "--out", tmp_path / "run")
        assert (code, output) == (2, "")
        assert message in errors
        assert errors.endswith(": name data by `dataset`.\n")


def test_every_command_explains_itself():
    for command in ([], ["train"], ["evaluate"], ["encode"], ["features"], ["index"], ["search"], ["dedupe"], ["demo"]):
        result = CliRunner().invoke(cli.commands, [*command, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.output


@pytest.mark.parametrize(
    "script",
    [
        "training/train.py",
        "training/evaluate_model.py",
        "training/paper.py",
        "pipelines/encode.py",
        "pipelines/search.py",
    ],
)
@pytest.mark.slow
def test_the_scripts_are_the_same_commands(script):
    shown = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "--json" in shown.stdout


@pytest.mark.slow
def test_accelerate_launches_training_on_two_processes(recipe_file, tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    arguments = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", ROOT / "training/train.py"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *arguments, recipe_file, "--out", tmp_path / "run", "--json"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["queries"] == 12
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
