"""`crh train` with LoRA or a part of the backbone: what a run says, leaves and refuses."""

import json
import re
import sys

import pytest
import torch
from tiny_runs import IMAGES, VIT, same_state
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from modeling_crh import CRHModel
from modeling_crh.encoding.adapters import ADAPTER_FILE
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.training.build import load_data
from modeling_crh.training.evaluation import encode_splits, figures_of
from modeling_crh.training.recipe import Recipe

ADAPTED = {ADAPTER_FILE, "config.json", "preprocessor_config.json"}


@pytest.fixture
def lora_recipe(image_folder, tmp_path):
    """File of a recipe of LoRA on a pretrained ViT with its processor."""
    torch.manual_seed(0)
    config = ViTConfig(**VIT | {"image_size": 16, "num_hidden_layers": 3})
    ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True).save_pretrained(tmp_path / "vit")
    fields = {"model": {"num_bits": 16, "hash_head": "mlp"}, "lora": {"rank": 4}, "training": IMAGES["training"]}
    recipe = Recipe.from_dict(fields, dataset=str(image_folder), backbone=str(tmp_path / "vit"))
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    return tmp_path / "recipe.yaml"


def test_a_lora_run_leaves_a_plain_model_and_its_adapter_with_the_same_codes(crh, lora_recipe, tmp_path):
    code, output, errors = crh("train", lora_recipe, "--lora-rank", 2, "--out", tmp_path / "run", "--json")
    assert code == 0, errors
    assert re.search(r"\d of [\d,]+ parameters trained, 16 bits", errors)
    assert {path.name for path in (tmp_path / "run" / "adapter").iterdir()} == ADAPTED
    plain, processor = load_checkpoint(tmp_path / "run")
    assert same_state(load_checkpoint(tmp_path / "run" / "adapter")[0], plain)
    splits = load_data(Recipe.load(tmp_path / "run" / "recipe.yaml")).splits
    assert figures_of(encode_splits(plain, processor, splits))["map"] == json.loads(output)["map"]
    assert same_state(CRHModel.from_pretrained(tmp_path / "run" / "adapter", dtype="auto"), plain)
    half = CRHModel.from_pretrained(tmp_path / "run" / "adapter", dtype="bfloat16", device_map="cpu")
    assert half.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="`num_bits` must be left out for a LoRA adapter"):
        CRHModel.from_pretrained(tmp_path / "run" / "adapter", num_bits=32)
    assert crh("train", lora_recipe, "--lora-rank", 2, "--out", tmp_path / "run", "--resume")[0] == 0
    (tmp_path / "vit").rename(tmp_path / "moved")
    with pytest.raises(OSError, match=r"the base of the adapter, '.*vit', cannot be loaded: "):
        CRHModel.from_pretrained(tmp_path / "run" / "adapter")


@pytest.mark.slow
def test_a_dry_run_counts_what_is_trained(crh, lora_recipe, tmp_path):
    (tmp_path / "plain.yaml").write_text(lora_recipe.read_text().replace("lora:\n  rank: 4\n", ""))
    counts = []
    for options in ([], ["--freeze-backbone"], ["--unfreeze-last", 2], ["--lora-rank", 1]):
        code, output, errors = crh("train", tmp_path / "plain.yaml", *options, "--dry-run", "--json")
        assert code == 0, errors
        counts.append(json.loads(output)["trained_parameters"])
    everything, head, blocks, lora = counts
    assert head < lora < blocks < everything


def test_an_option_that_contradicts_the_recipe_and_a_lack_of_peft_are_refused(crh, lora_recipe, monkeypatch):
    code, _, errors = crh("train", lora_recipe, "--freeze-backbone", "--dry-run")
    assert code == 2
    assert "`freeze_backbone` and `lora` contradict each other: a recipe must have one" in " ".join(errors.split())
    monkeypatch.setitem(sys.modules, "peft", None)
    code, _, errors = crh("train", lora_recipe, "--dry-run")
    assert code == 2
    assert "LoRA needs peft; run `pip install 'modeling-crh[lora]'`." in " ".join(errors.split())
