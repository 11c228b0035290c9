import pytest
import yaml

from modeling_crh.data.benchmarks import BENCHMARKS as LOADERS
from modeling_crh.hub.cards import BENCHMARKS, OWN_DATA, RunRecord, public_recipe, read_run
from modeling_crh.training.recipe import Recipe


def test_every_benchmark_has_a_title():
    assert set(BENCHMARKS) == set(LOADERS)


def test_a_public_recipe_names_no_path_no_account_and_no_secret():
    recipe = {
        "dataset": "pictures/of/ada",
        "data_dir": "/home/ada/data",
        "backbone": "/home/ada/vit",
        "model": {"num_bits": 32, "backbone_config": {"model_type": "vit", "_name_or_path": "org/vit"}},
        "augmentation": "light",
        "training": {
            "learning_rate": 0.1,
            "hub_token": "hf_secret",
            "hub_model_id": "ada/x",
            "push_to_hub": True,
            "run_name": "ada",
            "logging_dir": "logs",
            "deepspeed": "~/deepspeed.json",
            "report_to": ["tensorboard", "C:\\ada"],
        },
    }
    assert public_recipe(recipe) == {
        "dataset": OWN_DATA,
        "model": {"num_bits": 32, "backbone_config": {"model_type": "vit"}},
        "augmentation": "light",
        "training": {"learning_rate": 0.1, "report_to": ["tensorboard"]},
    }


def test_what_is_public_already_stays():
    recipe = Recipe.from_dict({"dataset": "cifar10", "backbone": "org/vit", "training": {"num_train_epochs": 3}})
    dumped = yaml.safe_load(recipe.dump())
    assert Recipe.from_dict(public_recipe(dumped)) == recipe


def test_a_folder_named_like_a_backbone_on_the_hub_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "vit").mkdir(parents=True)
    assert public_recipe({"backbone": "org/vit"}) == {}
    assert public_recipe({"backbone": "org/resnet"}) == {"backbone": "org/resnet"}


def test_a_record_that_was_saved_is_read_again(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "contact_sheet.png").write_bytes(b"picture")
    (tmp_path / "one" / "figures.json").write_text('{"map": 0.5, "worst": NaN, "name": "x"}')
    (tmp_path / "one" / "history.json").write_text('[{"eval_map": 0.5, "run": "ada", "epoch": 1}]')
    (tmp_path / "one" / "recipe.yaml").write_text("dataset: cifar10\n")
    assert read_run(tmp_path / "one").pictures == {}  # it shows images of the data
    record = read_run(tmp_path / "one", with_pictures=True)
    (tmp_path / "two").mkdir()
    record.save(tmp_path / "two")
    (tmp_path / "two" / "model").mkdir()
    again = read_run(tmp_path / "two" / "model", with_pictures=True)
    assert (again.figures, again.history, again.recipe) == (record.figures, record.history, record.recipe)
    assert again.figures == {"map": 0.5}
    assert again.history == [{"eval_map": 0.5, "epoch": 1}]
    assert again.pictures["contact_sheet.png"].read_bytes() == b"picture"


def test_a_bare_folder_has_an_empty_record(tmp_path):
    assert read_run(tmp_path) == RunRecord(history=[])


def test_figures_of_a_validation_split_are_not_saved_as_those_of_queries(tmp_path):
    RunRecord(figures={"map": 0.5}, split="validation").save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("figures.json", "{"), ("figures.json", "[1]"), ("history.json", "[1]"), ("recipe.yaml", "a: [")],
)
def test_a_damaged_file_is_an_error(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="`run` must hold complete files, but"):
        read_run(tmp_path)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="`run` must be a folder, but got"):
        read_run(tmp_path / "nowhere")
