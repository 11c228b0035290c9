import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_runs import IMAGES, write_features

from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import train

TRAINING = IMAGES["training"]


@pytest.fixture
def fields(tmp_path):
    """Fields of a recipe for a head with dropout over features of three classes."""
    head = {"num_bits": 16, "hash_head": "mlp", "hash_head_hidden_size": 32, "hash_head_dropout": 0.3}
    return {"dataset": write_features(tmp_path, np.arange(60) % 3), "features_column": "features", "model": head}


def hash_of(folder):
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def run(fields, out, **settings):
    train(Recipe.from_dict(fields, training=TRAINING | settings), out)
    return hash_of(out)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_images_and_recipe_give_the_same_file_however_many_workers_load_them(workers, image_folder, tmp_path):
    fields = IMAGES | {"dataset": str(image_folder), "augmentation": "standard"}
    hashes = [run(fields, tmp_path / name, dataloader_num_workers=workers) for name in ("one", "two")]
    assert hashes[0] == hashes[1]
    assert hashes[0] == run(fields, tmp_path / "plain")


def test_another_seed_gives_another_file(fields, tmp_path):
    assert run(fields, tmp_path / "one") != run(fields | {"seed": 1}, tmp_path / "two")


@pytest.mark.slow
def test_the_same_command_gives_the_same_file_in_another_process(fields, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(fields | {"training": TRAINING}))
    script = Path(__file__).parents[2] / "training" / "train.py"
    setting = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, script, recipe, "--out", tmp_path / "other"]
    done = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    train(Recipe.load(recipe), tmp_path / "own")
    assert hash_of(tmp_path / "own") == hash_of(tmp_path / "other")
