from pathlib import Path

from tiny_runs import IMAGES

from modeling_crh.demo.fashion_mnist_demo import run_demo
from modeling_crh.training.recipe import Recipe


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
