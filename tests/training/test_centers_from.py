"""Training to the centers of another model: a model of features to those of a model of images."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from tiny_runs import IMAGES, go_on, same_state, stop_run, write_features

from modeling_crh.encoding.loading import load_checkpoint, load_model
from modeling_crh.hub.run_record import read_run
from modeling_crh.training.build import build_model, build_trainer, load_data
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import dry_run, train

NAMES = {0: "bright", 1: "dark", 2: "striped"}
SETTINGS = {"num_train_epochs": 3, "per_device_train_batch_size": 8, "use_cpu": True, "report_to": "none"}


@pytest.fixture(scope="module")
def source(image_folder, tmp_path_factory):
    """Folder of a run on images of three classes, whose centers were reassigned."""
    folder = tmp_path_factory.mktemp("source") / "run"
    train(Recipe.from_dict(IMAGES, dataset=str(image_folder)), folder)
    return folder


@pytest.fixture(scope="module")
def recipe(source, tmp_path_factory):
    """Recipe of a head on features of two of the classes, of which the first is missing, to the centers of that run."""
    dataset = write_features(tmp_path_factory.mktemp("features"), np.repeat(["striped", "dark"], 20))
    fields = {"dataset": dataset, "features_column": "features", "centers_from": str(source)}
    return Recipe.from_dict(fields, training=SETTINGS | {"learning_rate": 0.05})


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return train(recipe, folder), folder


def test_the_model_has_the_classes_and_centers_of_the_other_and_keeps_them(source, recipe, finished):
    model, _ = load_checkpoint(finished[1])
    other = load_model(source)
    assert model.config.id2label == other.config.id2label == NAMES
    assert torch.equal(model.codebook, other.codebook)
    assert torch.equal(model.assignment, other.assignment)
    assert (model.config.fixed_centers, other.config.fixed_centers) == (True, False)
    assert Recipe.load(finished[1] / "recipe.yaml") == recipe


def test_codes_lie_near_the_centers_of_classes_of_the_same_name(source, finished):
    run, _ = finished
    rows = run.splits["query"]
    names = [rows.features["label"].int2str(label) for label in rows["label"]]
    codes = run.model.encode(features=torch.tensor(rows["features"], dtype=torch.float32))
    nearest = (codes.float() @ load_model(source).centers.float().T).argmax(1).tolist()
    assert [NAMES[label] for label in nearest] == names


def test_several_labels_are_matched_by_name_too(source, recipe, tmp_path):
    labels = [["striped", "dark"], ["dark"], []] * 10
    table = Dataset.from_dict({"features": [[float(len(names))] * 4 for names in labels], "label": labels})
    table.to_parquet(tmp_path / "rows.parquet")
    several = replace(recipe, dataset=str(tmp_path / "rows.parquet"))
    splits = load_data(several).splits
    items = build_trainer(several, tmp_path, *build_model(several, splits["train"]), splits).train_dataset
    expected = {2: [0.0, 1.0, 1.0], 1: [0.0, 1.0, 0.0], 0: [0.0, 0.0, 0.0]}  # bright, dark, striped
    assert items.labels.tolist() == [expected[row[0]] for row in splits["train"]["features"]]


def test_a_class_that_the_other_model_lacks_is_named(source, recipe, tmp_path):
    recipe = replace(recipe, dataset=write_features(tmp_path, np.repeat(["dark", "zebra", "eel"], 20)))
    message = f"`centers_from` must know every class of the data, but {str(source)!r} has no 'eel' and 1 more of the 3."
    with pytest.raises(ValueError, match=re.escape(message)):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"training": {"reassignment": "greedy"}}, "`reassignment` must be 'none' with `centers_from`, but got 'greed"),
        ({"model": {"num_bits": 24}}, "`num_bits` must be 16, as in `centers_from`, but got 24."),
        ({"model": {"codebook": "shared"}}, "`codebook` must be 'own', as in `centers_from`, but got 'shared'."),
        ({"model": {"fixed_centers": False}}, "`fixed_centers` is no field of `model`"),
        ({"method": "csq"}, "`centers_from` must be left out for csq"),
        ({"centers_from": "no/such/run"}, "`centers_from` must be a CRH model's folder or Hub id, but 'no/such/run'"),
    ],
)
def test_a_setting_that_contradicts_the_other_model_is_refused(recipe, overrides, message, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=re.escape(message)):
        train(Recipe.from_dict(yaml.safe_load(recipe.dump()), **overrides), tmp_path / "run")


def test_the_centers_of_a_method_without_centers_are_refused(recipe, source, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "recipe.yaml").write_text((source / "recipe.yaml").read_text().replace("method: crh", "method: hashnet"))
    (other / "model").symlink_to(source / "model")
    with pytest.raises(ValueError, match=r"`centers_from` must be a model trained by crh, but .* was by hashnet"):
        build_model(replace(recipe, centers_from=str(other)), load_data(recipe).splits["train"])


def test_a_preset_gives_way_to_the_centers_of_the_other_model(recipe, source):
    model, _ = build_model(replace(recipe, preset="best"), load_data(recipe).splits["train"])
    assert (model.config.codebook, model.config.hash_head_batch_norm) == ("own", True)
    assert torch.equal(model.centers, load_model(source).centers)


def test_centers_of_another_model_never_move(finished, recipe, tmp_path):
    model, _ = load_checkpoint(finished[1])
    moving = replace(recipe, centers_from=None)
    message = "`reassignment` must be 'none' for a model with `fixed_centers`, .* but got 'hungarian'"
    with pytest.raises(ValueError, match=message):
        build_trainer(moving, tmp_path, model, None, finished[0].splits)


def test_a_stopped_run_goes_on_to_the_same_weights(recipe, finished, tmp_path):
    stop_run(recipe, tmp_path / "run", 6)
    assert same_state(go_on(recipe, tmp_path / "run").model, finished[0].model)


def test_a_dry_run_tries_it(recipe):
    summary = dry_run(recipe)
    assert (summary["num_labels"], summary["num_bits"]) == (3, 16)


def test_the_card_says_that_the_centers_are_another_models_but_no_path(finished):
    assert read_run(finished[1]).recipe["centers_from"] == "your-model"
