import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tiny_commands import done, refusal
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
    trained = done(crh("train", recipe_file, "--out", tmp_path / "run", *shares, "--json"))
    assert (trained["queries"], trained["database"]) == (6, 54)
    evaluated = done(crh("evaluate", tmp_path / "run", "--dataset", image_folder, "--json"))
    assert (evaluated["queries"], evaluated["map"]) == (6, trained["map"])


def test_a_run_without_some_classes_is_evaluated_with_the_figures_of_its_training(crh, recipe_file, tmp_path):
    trained = done(crh("train", recipe_file, "--unseen-fraction", "0.3", "--out", tmp_path / "run", "--json"))
    assert {"map_seen", "map_unseen", "map_unseen_alone"} < trained.keys()
    assert trained.items() <= done(crh("evaluate", tmp_path / "run", "--json")).items()


def test_evaluate_lists_the_worst_classes_and_gives_every_class_in_its_document(
    crh, recipe_file, image_folder, tmp_path
):
    done(crh("train", recipe_file, "--out", tmp_path / "run"))
    data = ("evaluate", tmp_path / "run", "--dataset", image_folder, "--per-class")
    figures = done(crh(*data, "--json"))
    classes = figures["per_class"]
    assert set(classes[0]) == {"name", "map", "queries", "database"}
    for side in ("queries", "database"):
        assert sum(one[side] for one in classes) == figures[side]
    mean = sum(one["map"] * one["queries"] for one in classes) / figures["queries"]
    assert mean == pytest.approx(figures["map"])
    table = done(crh(*data)).partition("Classes with the lowest mAP")[2]
    assert f"{min(one['map'] for one in classes):.4f}" in table.split("\n")[4]


def test_options_take_precedence_over_the_recipe_also_where_their_value_is_the_default(crh, recipe_file, tmp_path):
    recipe_file.write_text(recipe_file.read_text().replace("seed: 0", "seed: 5"))
    options = ["--num-bits", "24", "--epochs", "2", "--batch-size", "7", "--learning-rate", "0.02", "--seed", "0"]
    code, output, errors = crh("train", recipe_file, "--out", tmp_path / "run", *options)
    assert (code, "map_lower" in output, "epoch 1/2" in errors) == (0, True, True), errors
    recipe = Recipe.load(tmp_path / "run" / "recipe.yaml")
    assert (recipe.model["num_bits"], recipe.seed) == (24, 0)
    given = {"num_train_epochs": 2, "per_device_train_batch_size": 7, "learning_rate": 0.02}
    assert given.items() <= recipe.training.items()


def test_a_dry_run_prints_what_the_run_would_be_and_leaves_nothing(crh, recipe_file, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    dry = ["train", recipe_file, "--out", tmp_path / "run", "--num-bits", "32", "--dry-run"]
    code, output, errors = crh(*dry, "--json")
    assert (code, "epoch 1/1" in errors) == (0, False), errors
    assert {"num_bits": 32, "train": 43, "query": 12}.items() <= json.loads(output).items()
    assert "steps_per_epoch" in done(crh(*dry))
    assert sorted(tmp_path.rglob("*")) == before


def test_features_are_stored_and_a_head_is_trained_on_them(crh, tiny_checkpoint, image_folder, tmp_path):
    store = ["features", tiny_checkpoint, image_folder, "--out", tmp_path / "features", "--views", "2"]
    table = str(tmp_path / "features" / "features.parquet")
    assert done(crh(*store, "--json")) == {"features": [table], "items": 60, "left_out": 0, "views": 2}
    options = ["--features-column", "features", "--epochs", "2", "--num-bits", "16", "--out", tmp_path / "run"]
    assert done(crh("train", "--dataset", table, *options, "--json"))["queries"] == 12
    assert "holds 'features.parquet'" in refusal(crh(*store))


def test_evaluate_compares_the_centers_with_a_taxonomy_and_knows_its_levels(crh, tmp_path):
    generator = np.random.default_rng(0)
    label = np.arange(120) % 6
    rows = {"features": list(generator.normal(size=(120, 8)) + np.eye(6, 8)[label] * 3)}
    for name, width in (("label", 1), ("subgroup", 2), ("group", 3)):
        rows[name] = [f"{name} {number // width}" for number in label]
    Dataset.from_dict(rows).to_parquet(tmp_path / "table.parquet")
    data = ["--dataset", tmp_path / "table.parquet", "--features-column", "features"]
    train = ["train", *data, "--epochs", "2", "--num-bits", "16", "--out", tmp_path / "run", "--json"]
    trained = done(crh(*train))
    figures = done(crh("evaluate", tmp_path / "run", *data, "--reference", "taxonomy", "--json"))
    assert figures | {"checkpoint": trained["checkpoint"]} == figures | trained
    assert figures["map_group"] != figures["map_subgroup"] != figures["map"]
    assert -1 <= figures["pcc_before"] <= 1
    assert 0 < figures["p_value_after"] <= 1


def test_a_rival_is_trained_by_its_name_and_has_no_centers_that_moved(crh, recipe_file, image_folder, tmp_path):
    done(crh("train", recipe_file, "--method", "csq", "--out", tmp_path / "run"))
    assert Recipe.load(tmp_path / "run" / "recipe.yaml").method == "csq"
    said = refusal(crh("evaluate", tmp_path / "run", "--dataset", image_folder, "--reference", "taxonomy"))
    assert "`reference` must be left out for csq" in said


def test_every_command_explains_itself():
    for command in ([], ["train"], ["evaluate"], ["encode"], ["features"], ["index"], ["search"], ["dedupe"], ["demo"]):
        result = CliRunner().invoke(cli.commands, [*command, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.output


SCRIPTS = ["training/train", "training/evaluate_model", "training/paper"]
SCRIPTS += ["pipelines/encode", "pipelines/search", "pipelines/app"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_the_same_commands(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
    assert ("--image-root" if script == "pipelines/app" else "--json") in capsys.readouterr().out


@pytest.mark.slow
def test_accelerate_launches_training_on_two_processes(recipe_file, tmp_path):
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    train = [ROOT / "training/train.py", recipe_file, "--out", tmp_path / "run", "--json"]
    command = [sys.executable, *launch.split(), "--dynamo_backend", "no", *train]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["queries"] == 12
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
