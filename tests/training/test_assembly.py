import math
from pathlib import Path

import numpy as np
import pytest
from tiny_inputs import plain_tokenizer
from tiny_runs import same_state, write_features
from transformers import BertModel

from modeling_crh import CRHConfig
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.training.build import build_model, join_processes, load_data
from modeling_crh.training.evaluation import encode_splits, figures_of
from modeling_crh.training.recipe import MODEL_PRESETS, Recipe
from modeling_crh.training.run import train

FRUITS = [("red", "apple"), ("green", "pear")]
RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def test_a_table_of_texts_is_trained_on_and_read_back(tiny_backbone, tmp_path):
    words = ["[PAD]", "[UNK]", "red", "green", "apple", "pear", "a"]
    plain_tokenizer(words, model_max_length=16).save_pretrained(tmp_path / "encoder")
    BertModel(tiny_backbone("bert"), add_pooling_layer=False).save_pretrained(tmp_path / "encoder")
    lines = [f"{'a ' * (row % 3)}{color} {fruit},{fruit}" for row in range(15) for color, fruit in FRUITS]
    (tmp_path / "fruits.csv").write_text("\n".join(["what,kind", *lines]))
    recipe = Recipe.load(
        RECIPES / "text.yaml",
        dataset=str(tmp_path / "fruits.csv"),
        text_column="what",
        label_column="kind",
        backbone=str(tmp_path / "encoder"),
        model={"num_bits": 16},
        training={"num_train_epochs": 2, "per_device_train_batch_size": 8, "use_cpu": True, "report_to": "none"},
    )
    run = train(recipe, tmp_path / "run")
    model, tokenizer = load_checkpoint(tmp_path / "run")
    assert same_state(model, run.model)
    assert figures_of(encode_splits(model, tokenizer, run.splits))["queries"] == 6


@pytest.fixture
def features_of(tmp_path):
    """Fields of a recipe for so many classes of features: 60 rows, of which 42 or 43 train."""

    def write(num_labels):
        settings = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 0.01, "use_cpu": True}
        dataset = write_features(tmp_path, np.arange(60) % num_labels)
        return {"dataset": dataset, "features_column": "features", "training": settings}

    return write


def test_validation_rows_that_are_alone_in_their_class_search_the_training_rows(features_of, tmp_path):
    run = train(Recipe(**features_of(20)), tmp_path / "run")
    logged = [entry for entry in run.history if "eval_map" in entry]
    assert all(entry["eval_database"] == len(run.splits["train"]) for entry in logged)
    assert all(entry["eval_queries_without_relevant"] == 0 and entry["eval_map"] > 0 for entry in logged)


def test_the_best_preset_shares_words_and_settings_of_the_recipe_win(features_of):
    def config_of(**fields):
        recipe = Recipe(**features_of(4), **fields)
        return build_model(recipe, load_data(recipe).splits["train"])[0].config

    own = {"codebook": "own", "quantization_weight": 0.5}
    configs = config_of(), config_of(preset="best"), config_of(preset="best", model=own)
    scale = CRHConfig(backbone_config=None, num_features=4, num_labels=4).scale
    shown = "codebook hash_head_batch_norm scale quantization_weight bit_weight pair_weight".split()
    assert [[getattr(config, name) for name in shown] for config in configs] == [
        ["own", False, scale, 0.1, 0.0, 0.0],
        ["shared", True, 8.0, 0.0, 1.0, 0.0],
        ["own", True, 8.0, 0.5, 1.0, 0.0],
    ]
    several = CRHConfig(**MODEL_PRESETS["best"], problem_type="multi_label_classification", num_labels=4)
    assert several.pair_weight == 3.0


def test_a_last_row_that_a_batch_norm_would_get_alone_is_left_out_and_said(features_of, tmp_path, capfd):
    fields = features_of(4)
    alone = len(load_data(Recipe(**fields)).splits["train"]) - 1
    fields["training"] |= {"per_device_train_batch_size": alone}
    run = train(Recipe(**fields, preset="best"), tmp_path / "run")
    assert "The last training row is left out: it would be a batch alone" in capfd.readouterr().err
    assert run.history[-1]["step"] == 2  # one whole batch in each of two epochs
    train(Recipe(**fields), tmp_path / "paper")
    assert "left out" not in capfd.readouterr().err


@pytest.mark.parametrize("timeout", [0, -1, True, None, "soon", math.nan, math.inf, 1e300, 10**30, [5]])
def test_the_time_that_processes_wait_for_each_other_is_a_number_of_seconds(timeout):
    recipe = Recipe.from_dict({"dataset": "x.npy", "features_column": "f", "training": {"ddp_timeout": timeout}})
    with pytest.raises(ValueError, match=r"`ddp_timeout` must be a number of seconds above 0, at most 10\^9, but got"):
        join_processes(recipe)
