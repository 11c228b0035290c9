"""Runs of rivals from recipes, as `crh train` makes them."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny_runs import IMAGES, go_on, same_state, stop_run

from modeling_crh.data import prepare_dataset
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.training.build import build_model, build_objective
from modeling_crh.training.objectives import METHODS, OBJECTIVES, UNTRAINED
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import dry_run, train

RIVALS = [name for name in METHODS if name != "crh"]


@pytest.fixture
def recipe_of(image_folder):
    """Give the recipe of a method on tiny images; the backbone's features are as many as the bits."""
    return lambda method, **more: Recipe.from_dict(IMAGES, dataset=str(image_folder), method=method, **more)


def features_split(multi_label=False):
    """Stored features of three classes."""
    labels = [["apple"], ["banana"], ["cherry"]] if multi_label else ["apple", "banana", "cherry"]
    rows = Dataset.from_dict({"features": np.eye(3, 4).tolist(), "label": labels})
    return prepare_dataset(rows, features_column="features")


def features_recipe(method, **overrides):
    fields = {"dataset": "unread.parquet", "features_column": "features", "model": {"num_bits": 8}}
    return Recipe.from_dict(fields, method=method, **overrides)


@pytest.mark.parametrize("method", RIVALS)
def test_a_rival_is_trained_saved_and_read_back(method, recipe_of, tmp_path):
    if method in ("lsh", "itq"):
        pytest.importorskip("faiss")
    recipe = recipe_of(method)
    run = train(recipe, tmp_path / "run")
    assert run.model.config.codebook_shape == (1, 3, 16)  # one head of as many words as classes
    assert run.model.config.hash_head_batch_norm == (method == "orthohash")
    loaded, _ = load_checkpoint(tmp_path / "run")
    assert same_state(loaded, run.model)
    assert Recipe.load(tmp_path / "run" / "recipe.yaml") == recipe
    assert json.loads((tmp_path / "run" / "history.json").read_text()) == run.history
    assert (run.history == []) == (method in UNTRAINED)
    again = train(recipe, tmp_path / "run", resume=True)
    assert same_state(again.model, run.model)


@pytest.mark.parametrize("method", ["shc", "sign", "itq"])
def test_a_rival_is_tried_out(method, recipe_of):
    if method == "itq":
        pytest.importorskip("faiss")
    found = dry_run(recipe_of(method))
    assert found["num_heads"] == 1
    assert (found["loss"] is None, found["steps_per_epoch"]) == ((False, 6) if method == "shc" else (True, 0))


def test_an_interrupted_shc_run_that_is_resumed_keeps_its_centers(recipe_of, tmp_path, monkeypatch):
    recipe = recipe_of("shc")
    whole = train(recipe, tmp_path / "whole")
    stop_run(recipe, tmp_path / "run", 7)  # in the second of two epochs
    monkeypatch.setattr(OBJECTIVES["shc"], "place_centers", lambda *_: pytest.fail("the first stage ran again"))
    assert same_state(go_on(recipe, tmp_path / "run").model, whole.model)


def test_an_objective_gets_the_settings_and_the_seed_of_its_recipe():
    recipe = features_recipe("orthohash", method_settings={"scale": 3, "margin": 0.5}, seed=6)
    objective = build_objective(recipe, build_model(recipe, features_split())[0])
    assert (objective.scale, objective.margin, objective.seed) == (3, 0.5, 6)
    assert torch.equal(objective.centers, OBJECTIVES["orthohash"](3, 8, 6).centers)
    assert build_objective(dataclasses.replace(recipe, method="crh", method_settings={}), None) is None


@pytest.mark.parametrize("method", ["greedyhash", "shc"])
def test_data_of_several_labels_are_an_error_where_the_method_has_no_loss_for_them(method):
    with pytest.raises(ValueError, match=rf"which {method} does not; those that do are crh, csq, .*, dtsh\."):
        build_model(features_recipe(method), features_split(multi_label=True))


OWN = """
from modeling_crh.training.objectives import Objective

NUMBER = 3


class PullApart(Objective):
    \"\"\"Draws the logits of a class to the bits of its number.\"\"\"

    name = "pull-apart"

    def __init__(self, num_labels, num_bits, seed=0, *, strength=1.0):
        super().__init__(num_labels, num_bits, seed)
        self.strength = strength

    def loss(self, hash_logits, labels):
        targets = (labels.unsqueeze(1) >> (labels.new_tensor(range(self.num_bits)) % 2)) % 2 * 2 - 1
        return self.strength * (hash_logits - targets).square().mean()
"""


def test_a_method_of_ones_own_is_trained_from_the_working_directory(recipe_of, tmp_path, monkeypatch):
    (tmp_path / "own_method.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    recipe = recipe_of("own_method:PullApart", method_settings={"strength": 2.0})
    run = train(recipe, tmp_path / "run")
    assert Recipe.load(tmp_path / "run" / "recipe.yaml") == recipe
    assert same_state(load_checkpoint(tmp_path / "run")[0], run.model)
    wrong = recipe_of("own_method:PullApart", method_settings={"strenght": 2.0})
    with pytest.raises(ValueError, match="`strenght` is no field of `method_settings`; did you mean `strength`"):
        train(wrong, tmp_path / "wrong")
    for method, message in {
        "own_method:NUMBER": "as `module:Class`, but 'NUMBER' in 'own_method' is something else",
        "own_method:Gone": "'Gone' in 'own_method' is not there",
        "gone_method:PullApart": "a module that can be imported from here, but there is no 'gone_method'",
    }.items():
        with pytest.raises(ValueError, match=message):
            train(recipe_of(method), tmp_path / "wrong")
