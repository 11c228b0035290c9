import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from tiny_runs import same_state, tiny_trainer
from transformers import ViTConfig, ViTModel

from modeling_crh.encoding.loading import load_checkpoint, load_model
from modeling_crh.training.checkpointing import find_last_checkpoint


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """A copy of the tiny checkpoint, to be damaged."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def drop_weight(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("hash_head.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGES = {
    "a weight is missing": drop_weight,
    "weights are cut short": lambda folder: cut(folder / "model.safetensors"),
    "weights are empty": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights are gone": lambda folder: (folder / "model.safetensors").unlink(),
    "the config is cut short": lambda folder: cut(folder / "config.json"),
    "the config is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "the config is empty": lambda folder: (folder / "config.json").write_text("{}"),
    "the config is gone": lambda folder: (folder / "config.json").unlink(),
    "the config is of another model": lambda folder: edit_config(folder, model_type="vit"),
    "the config has other bits": lambda folder: edit_config(folder, num_bits=32),
}


def test_a_whole_checkpoint_loads_with_its_image_processor(checkpoint, tiny_checkpoint):
    model, image_processor = load_checkpoint(checkpoint)
    assert same_state(model, load_model(tiny_checkpoint))
    assert not model.training
    assert image_processor.size["height"] == 16


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused(damage, checkpoint):
    DAMAGES[damage](checkpoint)
    with pytest.raises(ValueError, match=r"`checkpoint` must be a CRH model's folder or Hub id, but .* is not: "):
        load_model(checkpoint)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="its model type is 'vit', and not 'crh'"):
        load_model(tmp_path)


def test_a_file_is_no_checkpoint(checkpoint):
    with pytest.raises(ValueError, match="it is a file"):
        load_model(checkpoint / "config.json")


@pytest.mark.parametrize("content", [None, "{"])
def test_a_checkpoint_without_its_image_processor_is_refused(content, checkpoint):
    path = checkpoint / "preprocessor_config.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"`checkpoint` must hold what prepares its inputs, .* does not: "):
        load_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny_trainer(folder, save_strategy="epoch").train()
    return folder


FILES = ["config.json", "model.safetensors", "trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"]


@pytest.mark.parametrize("name", [*FILES, "class_statistics.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_checkpoint_with_a_damaged_file_is_passed_over(name, damage, run_folder, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    assert find_last_checkpoint(folder) == str(folder / "checkpoint-21")
    path = folder / "checkpoint-21" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-10])
    assert find_last_checkpoint(folder) == str(folder / "checkpoint-14")


def test_what_is_no_checkpoint_is_passed_over(run_folder, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    for name in ("checkpoint-x9", "checkpoint-99", "checkpoint-"):
        (folder / name).mkdir()
    assert find_last_checkpoint(folder) == str(folder / "checkpoint-21")
    assert find_last_checkpoint(tmp_path / "nothing") is None


def test_a_run_is_loaded_by_its_folder_and_by_that_of_its_model(checkpoint, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(checkpoint, run / "model")
    for name in (run, str(run / "model")):
        model, image_processor = load_checkpoint(name)
        assert same_state(model, load_model(checkpoint))
        assert image_processor.size["height"] == 16
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="its training has not ended; `crh train --resume` goes on with it"):
        load_model(tmp_path / "begun")
