from pathlib import Path

import numpy as np
import pytest
from tiny_inputs import plain_tokenizer
from tiny_runs import same_state
from transformers import BertModel

from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.training.build import load_data
from modeling_crh.training.evaluation import encode_splits, figures_of
from modeling_crh.training.recipe import DEMO_RECIPE, Recipe
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


def test_a_share_of_queries_is_refused_where_the_benchmark_has_its_own():
    with pytest.raises(ValueError, match="`query_fraction` must be"):
        load_data(Recipe.load(DEMO_RECIPE, query_fraction=0.1))
