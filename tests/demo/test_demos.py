from pathlib import Path

import pytest
import torch
from tiny_runs import IMAGES, RESNET
from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

from modeling_crh.demo import demos
from modeling_crh.demo.demos import MOVING, NEVER_MOVING, run_demo, run_emoji_demo
from modeling_crh.report.report_page import Plot
from modeling_crh.training.recipe import FEATURES_RECIPE, Recipe


def test_the_demo_ends_with_its_figures_and_a_report(image_folder, tmp_path):
    recipe = Recipe.from_dict(IMAGES, dataset=str(image_folder), training={"num_train_epochs": 1})
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    summary = run_demo(tmp_path / "demo", seed=1, recipe=tmp_path / "recipe.yaml")
    keys = {"map", "map_lower", "map_upper", "precision_at_10", "seconds", "num_bits", "seed", "report"}
    assert set(summary) == keys
    assert summary["map_lower"] <= summary["map"] <= summary["map_upper"]
    assert (summary["num_bits"], summary["seed"]) == (16, 1)
    page = Path(summary["report"]).read_text()
    assert all(name in page for name in ("bright", "dark", "striped"))
    pictures = {path.name for path in (tmp_path / "demo").glob("*.png")}
    assert pictures == {"precision_recall.png", "centers.png", "training.png", "contact_sheet.png"}


@pytest.fixture
def tiny_recipe(monkeypatch, tmp_path):
    """A short training on the features of a backbone of few weights."""

    def load():
        torch.manual_seed(0)
        config = ResNetConfig(**{key: value for key, value in RESNET.items() if key != "model_type"})
        processor = ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True)
        return ResNetModel(config).eval(), processor

    monkeypatch.setattr(demos, "load_efficientnet_lite0", load)
    no_plots = {name: Plot(b"", b"", b"", b"") for name in ("precision_recall", "centers", "training")}
    monkeypatch.setattr("modeling_crh.report.report_page.draw_plots", lambda content: no_plots)
    last = {"num_train_epochs": 2, "load_best_model_at_end": False}  # after the first epoch both have the same weights
    recipe = Recipe.load(FEATURES_RECIPE, model={"hash_head_hidden_size": 32}, training=last)
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    return tmp_path / "recipe.yaml"


def test_two_heads_are_compared_on_the_same_queries(tiny_recipe, tmp_path):
    summary = run_emoji_demo(tmp_path / "demo", seed=1, recipe=tiny_recipe)
    for figure in ("map", "map_subgroup", "map_group", "pcc"):
        assert set(summary[figure]) == {NEVER_MOVING, MOVING}
    assert summary["map"][NEVER_MOVING] != summary["map"][MOVING]
    assert (summary["num_bits"], summary["num_labels"], summary["seed"]) == (32, 200, 1)
    page = Path(summary["report"]).read_text()
    assert page.count(f"{NEVER_MOVING}: ") == page.count(f"{MOVING}: ") == 10
    assert "mAP by subgroup" in page
    assert "the pairs of different classes in two branches" in page


def test_a_folder_that_holds_something_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="`out` must be a new or empty folder"):
        run_emoji_demo(tmp_path, tmp_path / "nowhere")
