import math
from pathlib import Path

import numpy as np
import pytest
from tiny_inputs import plain_tokenizer
from tiny_runs import same_state
from transformers import BertModel

from modeling_crh import CRHConfig
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.training.build import join_processes, load_data
from modeling_crh.training.evaluation import encode_splits, figures_of
from modeling_crh.training.recipe import DEMO_RECIPE, MODEL_PRESETS, Recipe
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


def test_validation_rows_that_are_alone_in_their_class_search_the_training_rows(tmp_path):
    labels = np.arange(60) % 20
    np.save(tmp_path / "clip.npy", np.eye(20)[labels])
    np.save(tmp_path / "clip.labels.npy", labels)
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 0.01, "use_cpu": True}
    recipe = Recipe(dataset=str(tmp_path / "clip.npy"), features_column="features", training=settings)
    run = train(recipe, tmp_path / "run")
    logged = [entry for entry in run.history if "eval_map" in entry]
    assert all(entry["eval_database"] == len(run.splits["train"]) for entry in logged)
    assert all(entry["eval_queries_without_relevant"] == 0 and entry["eval_map"] > 0 for entry in logged)


@pytest.fixture
def clip(tmp_path):
    """Fields of a recipe for 4 classes of features: 60 rows, of which 42 train."""
    labels = np.arange(60) % 4
    features = np.eye(4)[labels] + np.random.default_rng(0).normal(0, 0.3, (60, 4))
    np.save(tmp_path / "clip.npy", features)
    np.save(tmp_path / "clip.labels.npy", labels)
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 0.01, "use_cpu": True}
    return {"dataset": str(tmp_path / "clip.npy"), "features_column": "features", "training": settings}


def test_the_best_preset_shares_words_and_settings_of_the_recipe_win(clip, tmp_path):
    configs = {
        name: train(Recipe(**clip | fields), tmp_path / name).model.config
        for name, fields in {
            "paper": {},
            "best": {"preset": "best"},
            "own": {"preset": "best", "model": {"codebook": "own", "quantization_weight": 0.5}},
        }.items()
    }
    shown = {name: (config.codebook, config.hash_head_batch_norm, config.scale) for name, config in configs.items()}
    paper = CRHConfig(backbone_config=None, num_features=4, num_labels=4)
    assert shown["paper"] == ("own", False, paper.scale)
    assert shown["best"] == ("shared", True, 8.0)
    assert shown["own"] == ("own", True, 8.0)
    assert [config.quantization_weight for config in configs.values()] == [0.1, 0.0, 0.5]
    assert [config.bit_weight for config in configs.values()] == [0.0, 1.0, 1.0]
    assert [config.pair_weight for config in configs.values()] == [0.0, 0.0, 0.0]
    several = CRHConfig(**MODEL_PRESETS["best"], problem_type="multi_label_classification", num_labels=4)
    assert several.pair_weight == 3.0


def test_a_last_row_that_a_batch_norm_would_get_alone_is_left_out_and_said(clip, tmp_path, capfd):
    alone = len(load_data(Recipe(**clip)).splits["train"]) - 1
    clip["training"] |= {"per_device_train_batch_size": alone}
    run = train(Recipe(**clip, preset="best"), tmp_path / "run")
    assert "The last training row is left out: it would be a batch alone" in capfd.readouterr().err
    assert run.history[-1]["step"] == 2  # one whole batch in each of two epochs
    train(Recipe(**clip), tmp_path / "paper")
    assert "left out" not in capfd.readouterr().err


def test_a_share_of_queries_is_refused_where_the_benchmark_has_its_own():
    with pytest.raises(ValueError, match="`query_fraction` must be"):
        load_data(Recipe.load(DEMO_RECIPE, query_fraction=0.1))


@pytest.mark.parametrize("timeout", [0, -1, True, None, "soon", math.nan, math.inf, 1e300, 10**30, [5]])
def test_the_time_that_processes_wait_for_each_other_is_a_number_of_seconds(timeout):
    recipe = Recipe.from_dict({"dataset": "x.npy", "features_column": "f", "training": {"ddp_timeout": timeout}})
    with pytest.raises(ValueError, match=r"`ddp_timeout` must be a number of seconds above 0, at most 10\^9, but got"):
        join_processes(recipe)
