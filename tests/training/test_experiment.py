import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from tiny_runs import IMAGES, RESNET, VIT, go_on, same_state, stop_run, write_features

from modeling_crh.data import PROTOCOLS, Protocol, load_splits
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.runtime.atomic_files import only_run
from modeling_crh.training import build as assembly
from modeling_crh.training.checkpointing import check_folder
from modeling_crh.training.chosen_recipe import find_recipe
from modeling_crh.training.evaluation import encode_splits, figures_of
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import _use_fast_memory_format, dry_run, train


@pytest.fixture(scope="module")
def recipe(image_folder):
    return Recipe.from_dict(IMAGES, dataset=str(image_folder), training={"num_train_epochs": 3})


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """A run of that recipe, and its folder, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return train(recipe, folder), folder


def test_a_run_leaves_a_checkpoint_its_recipe_and_its_history(recipe, finished):
    run, folder = finished
    assert {path.name for path in folder.iterdir()} == {
        *("model", "recipe.yaml", "history.json", "division.json", "checkpoints")
    }
    files = {path.name for path in (folder / "model").iterdir() if path.suffix != ".py"}  # its code is there too
    assert files == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert Recipe.load(folder / "recipe.yaml") == recipe
    assert json.loads((folder / "history.json").read_text()) == run.history
    assert run.model.config.id2label == {0: "bright", 1: "dark", 2: "striped"}
    model, processor = load_checkpoint(folder)
    assert same_state(model, run.model)
    figures = figures_of(encode_splits(model, processor, run.splits))
    assert figures == figures_of(encode_splits(run.model, run.processor, run.splits))
    assert figures["map"] > 0.6
    assert all(weight.is_contiguous() for weight in model.state_dict().values())  # the default layout


def test_a_run_in_mixed_precision_is_evaluated_as_its_checkpoint_is(recipe, tmp_path):
    mixed = Recipe.from_dict(yaml.safe_load(recipe.dump()), training={"bf16": True, "num_train_epochs": 1})
    run = train(mixed, tmp_path / "run")
    model, _ = load_checkpoint(tmp_path / "run")
    pixels = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(run.model(pixel_values=pixels).hash_logits, model(pixel_values=pixels).hash_logits)


def test_a_pretrained_backbone_is_where_training_starts(recipe, finished, tmp_path):
    first, _ = finished
    first.model.backbone.save_pretrained(tmp_path / "backbone")
    first.processor.save_pretrained(tmp_path / "backbone")
    fields = {"dataset": recipe.dataset, "backbone": str(tmp_path / "backbone"), "freeze_backbone": True}
    training = recipe.training | {"num_train_epochs": 1}
    second = train(Recipe.from_dict(fields | {"training": training}), tmp_path / "second")
    before, after = first.model.backbone.state_dict(), second.model.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_weights(recipe, finished, tmp_path):
    stop_run(recipe, tmp_path / "run", 8)  # 6 steps an epoch
    assert not (tmp_path / "run" / "model").exists()
    with pytest.raises(ValueError, match=r"holds this run, interrupted; `--resume` goes on"):
        train(recipe, tmp_path / "run")
    assert same_state(go_on(recipe, tmp_path / "run").model, finished[0].model)


def test_a_finished_run_is_read_back_when_it_is_resumed_and_left_alone_by_any_other(recipe, finished):
    run, folder = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = train(recipe, folder, resume=True)
    assert same_state(again.model, run.model)
    assert again.history == run.history
    figures = [figures_of(encode_splits(one.model, one.processor, one.splits)) for one in (again, run)]
    assert figures[0] == figures[1]
    with pytest.raises(ValueError, match=r"`out` must be a new or empty folder, but .* holds this run, finished"):
        train(recipe, folder)
    other = Recipe.from_dict(yaml.safe_load(recipe.dump()), seed=1)
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"`out` must be a new .* holds another run, with another `seed`"):
            train(other, folder, resume=resume)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_goes_on_with_other_options_names_them_and_the_command_that_would(recipe, finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    values = yaml.safe_load(recipe.dump())
    other = Recipe.from_dict(values | {"training": values["training"] | {"num_train_epochs": 7}})
    run = re.escape(str(tmp_path / "run"))
    message = rf"another `training\.num_train_epochs`; `crh train {run}/recipe\.yaml --out {run} --resume` goes on"
    with pytest.raises(ValueError, match=message):
        train(other, tmp_path / "run", resume=True)


def test_a_run_that_ended_before_its_first_checkpoint_is_begun_anew_and_tells_its_speed(recipe, tmp_path, capfd):
    (tmp_path / "run" / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").write_text("dataset: another")
    train(recipe, tmp_path / "run", resume=True)
    assert Recipe.load(tmp_path / "run" / "recipe.yaml") == recipe
    lines = capfd.readouterr().err.splitlines()
    (first,) = [line for line in lines if line.startswith("Read ")]
    assert "images of 3 classes, 43 train, 5 validation, 12 query, 48 database. crh: resnet from scratch, " in first
    assert first.endswith("3 epochs with batches of 8 and learning rate 0.01, on cpu.")
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert ["items a second" in line for line in epochs] == [True, False, False]


def test_narrow_convolutions_keep_their_memory_format(tiny_model):
    for name, expected in (("resnet", False), ("vit", True)):
        model = tiny_model(name)
        _use_fast_memory_format(model)
        convolution = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last) == expected


def test_a_second_run_into_one_folder_is_refused(recipe, tmp_path):
    with only_run(tmp_path / "run"):
        with pytest.raises(ValueError, match="`out` must be a folder that no other run writes to, but"):
            train(recipe, tmp_path / "run")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(("resume", "message"), [(False, "holds this run, finished"), (True, "one has finished")])
def test_a_run_knows_what_another_has_written_after_it_looked(recipe, finished, tmp_path, monkeypatch, resume, message):
    looked = []

    def look_early(out, *args):
        looked.append(check_folder(out, *args))
        shutil.copytree(finished[1], out, dirs_exist_ok=True)
        return looked[-1]

    monkeypatch.setattr("modeling_crh.training.checkpointing.check_folder", look_early)
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run", resume=resume)
    assert looked[0] is False
    assert same_state(load_checkpoint(tmp_path / "run")[0], finished[0].model)


def test_a_folder_of_something_else_is_left_alone(recipe, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        train(recipe, tmp_path)
    with pytest.raises(ValueError, match=re.escape("notes.txt' is a file")):
        train(recipe, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir() if path.name != "images"] == ["notes.txt"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"dataset": "no/such/folder"}, "no/such/folder"),
        ({"training": {"report_to": "nobody"}}, "nobody"),
        ({"model": {"backbone_config": RESNET | {"depths": [1]}}}, "as many `depths` as `hidden_sizes`, .* 1 and 2"),
        ({"model": {"backbone_config": VIT}}, "Input image size"),
        ({"protocol": "sampled"}, "`protocol` must be given with a benchmark only"),
        ({"augmentation": "wild"}, "`augment` must be an Augmentation or one of"),
    ],
)
def test_a_mistake_in_a_recipe_writes_nothing(recipe, overrides, message, tmp_path):
    wrong = Recipe.from_dict(yaml.safe_load(recipe.dump()), **overrides)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_on_a_benchmark_names_the_rows_of_its_splits(recipe, tmp_path, monkeypatch):
    fields = yaml.safe_load(recipe.dump()) | {"dataset": "fashion_mnist_sample", "protocol": "disjoint", "seed": 3}
    monkeypatch.setitem(PROTOCOLS, "fashion_mnist_sample", {"disjoint": Protocol(50, 100, train_in_database=False)})
    run = train(Recipe.from_dict(fields, training={"num_train_epochs": 1}), tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "rows.json").read_text())
    expected = load_splits("fashion_mnist_sample", protocol="disjoint", seed=3).rows
    assert rows == {name: chosen.tolist() for name, chosen in expected.items()}
    assert {name: len(chosen) for name, chosen in rows.items()} == run.splits.num_rows


def test_a_dry_run_says_what_the_run_would_be_and_leaves_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    summary = dry_run(recipe)
    assert list(tmp_path.iterdir()) == []
    assert summary.pop("loss") > 0
    assert summary.pop("parameters") == summary.pop("trained_parameters")
    rows = {"train": 43, "validation": 5, "query": 12, "database": 48, "left_out": 0}
    model = {"backbone": "resnet", "num_labels": 3, "num_bits": 16, "num_heads": 4}
    assert summary == {"dataset": recipe.dataset, **rows, **model, "steps_per_epoch": 6, "num_train_epochs": 3}


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup_steps": 0.5},
        {"gradient_accumulation_steps": 3},
        {"dataloader_drop_last": True, "per_device_train_batch_size": 16},
        {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False},
        {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 2, "dataloader_persistent_workers": True},
        {"bf16": True},
        {"max_steps": 4},
    ],
)
def test_a_dry_run_moves_the_weights_by_one_step_whatever_the_settings(recipe, settings, monkeypatch):
    trained = []

    class Trainer(assembly.CRHTrainer):
        def train(self, *args, **kwargs):
            before = {name: weight.clone() for name, weight in self.model.named_parameters()}
            output = super().train(*args, **kwargs)
            moved = [not torch.equal(before[name], weight) for name, weight in self.model.named_parameters()]
            trained.append((self.state.global_step, len(self.train_dataset), all(moved)))
            return output

    monkeypatch.setattr(assembly, "CRHTrainer", Trainer)
    dry_run(Recipe.from_dict(yaml.safe_load(recipe.dump()), training=settings))
    assert trained == [(1, 8, True)]


def test_the_recipe_of_a_run_is_found_by_its_folder_its_model_and_its_adapter(recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    (tmp_path / "model").mkdir()
    (tmp_path / "other").mkdir()
    assert find_recipe(tmp_path) == find_recipe(tmp_path / "model") == find_recipe(tmp_path / "adapter") == recipe
    assert find_recipe(tmp_path / "other") is None
    assert find_recipe("org/name") is None


def test_a_flat_run_of_an_older_version_is_read_back(recipe, finished, tmp_path):
    run, folder = finished
    shutil.copytree(folder, tmp_path / "run")
    for path in (tmp_path / "run" / "model").iterdir():
        path.rename(tmp_path / "run" / path.name)
    (tmp_path / "run" / "model").rmdir()
    old = yaml.safe_load(recipe.dump()) | {"label_column": "label", "validation_fraction": 0.1}
    old["skip_bad_images"] = old.pop("skip_bad")
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(old))
    again = train(recipe, tmp_path / "run", resume=True)
    assert same_state(again.model, run.model)
    assert again.history == run.history


def test_a_command_without_a_backbone_says_which_it_takes(crh, image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "photos")
    (tmp_path / "photos" / "notes.txt").write_text("none of these are for sale")
    code, _, errors = crh("train", "--dataset", tmp_path / "photos", "--epochs", 1, "--dry-run")
    assert code == 0
    assert errors.count("Passed over") == 1
    assert "No `--backbone` was named, so the small ResNet of the demo is trained from scratch" in errors
    code, _, errors = crh("train", "--dataset", tmp_path / "reviews.csv", "--text-column", "text", "--dry-run")
    assert code == 2
    assert "`backbone` must be given with a `text_column`" in errors


def test_a_command_trains_a_head_on_data_that_hold_features(crh, tmp_path):
    options = ("--num-bits", 16, "--epochs", 5, "--batch-size", 8, "--out", tmp_path / "run", "--json")
    code, output, errors = crh("train", "--dataset", write_features(tmp_path, np.arange(60) % 3), *options)
    assert code == 0
    assert "No `--backbone`" not in errors
    assert json.loads(output)["map"] > 0.9
    model, processor = load_checkpoint(tmp_path / "run")
    assert (processor, model.config.hash_head) == (None, "mlp")
