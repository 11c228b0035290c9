import json
import shutil
from importlib.metadata import version

import pytest
import torch
from packaging.version import Version
from safetensors.torch import load_file, save_file
from tiny_runs import same_state, tiny_trainer

from modeling_crh.encoding.loading import load_backbone, load_checkpoint, load_model
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


def edit_weights(change):
    def edit(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


def put(name, convert):
    return edit_weights(lambda weights: weights.update({name: convert(weights[name])}))


DAMAGES = {
    "a weight is missing": edit_weights(lambda weights: weights.pop("hash_head.weight")),
    "weights are cut short": lambda folder: cut(folder / "model.safetensors"),
    "weights are empty": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights are gone": lambda folder: (folder / "model.safetensors").unlink(),
    "the config is cut short": lambda folder: cut(folder / "config.json"),
    "the config is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "the config is empty": lambda folder: (folder / "config.json").write_text("{}"),
    "the config is gone": lambda folder: (folder / "config.json").unlink(),
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


@pytest.mark.parametrize("name", ["runs/mistyped", "./runs/mistyped", "/runs/mistyped"])
def test_a_run_that_is_not_there_is_said_not_to_be_there(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"but '{name}' is not: there is no such folder"):
        load_model(name)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda folder: edit_config(folder, model_type="vit"), "model type is 'vit', and not 'crh'"),
        (put("codebook", lambda words: words * 2), "`codebook` must hold -1 and [+]1 only"),
        (put("codebook", torch.zeros_like), "`codebook` must hold -1 and [+]1 only"),
        (put("codebook", lambda words: words.float()), "`codebook` must be int8, but is F32"),
        (put("assignment", lambda words: words + 4), "`assignment` must hold words from 0 to 5, but holds 4 to 9"),
        (put("assignment", lambda words: words - 1), "`assignment` must hold words from 0 to 5, but holds -1 to 4"),
        (put("assignment", lambda words: words % 2), "`assignment` must give a word to at most 1 .* gives one to 3"),
        (put("assignment", lambda words: words + 0.5), "`assignment` must be int64, but is F32"),
        (put("hash_head.weight", lambda weights: weights.long()), "`hash_head.weight` must be float32, but is I64"),
        pytest.param(
            put("hash_head.bias", lambda weights: weights + 0j),
            "`hash_head.bias` must be float32, but is C64",
            marks=pytest.mark.skipif(Version(version("safetensors")) < Version("0.6"), reason="no complex numbers"),
        ),
    ],
)
def test_a_checkpoint_whose_type_or_tensors_make_no_model_is_refused_by_their_names(edit, message, checkpoint):
    edit(checkpoint)
    with pytest.raises(ValueError, match=rf"`checkpoint` must be a CRH model's folder .* is not: its {message}"):
        load_model(checkpoint)


def test_weights_in_half_precision_and_in_several_files_are_loaded(checkpoint, tmp_path):
    model = load_model(checkpoint, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "half", max_shard_size="4KB")
    assert len([*(tmp_path / "half").glob("model-*.safetensors")]) > 1
    loaded = load_model(tmp_path / "half")
    assert loaded.dtype == torch.bfloat16
    file = next((tmp_path / "half").glob("model-00001*"))
    name, value = next(iter((weights := load_file(file)).items()))
    save_file(weights | {name: value.int()}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"its `{name}` must be bfloat16, but is I32"):
        load_model(tmp_path / "half")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_implementation": "kernels-community/flash-attn"}, "`attn_implementation` in its config.json names co"),
        ({"backbone_config": {"_attn_implementation": "org/x:y"}}, "`_attn_implementation` in its config.json names"),
        ({"attn_implementation": "flash_attention_2"}, "FlashAttention2 has been toggled on"),
        ({"quantization_config": {"quant_method": "torchao"}}, "torchao"),
        ({"quantization_config": 7}, "`quantization_config` in its config.json is no dict: 7"),
        ({"backbone_config": {"text_config": {"attn_implementation": "org/x"}}}, "`attn_implementation` in its config"),
        ({"backbone_config": {"pooler_output_size": -1}}, "`pooler_output_size` .* between 0 and 16777216: -1"),
        ({"backbone_config": {"hidden_size": 2**70}}, "`hidden_size` in its config.json must be between 1 and"),
        ({"backbone_config": {"patch_size": 0}}, "`patch_size` in its config.json must be between 1 and 16777216: 0"),
        ({"backbone_config": {"num_hidden_layers": 2**31}}, r"`num_hidden_layers` .* must be at most 10000"),
    ],
)
def test_a_config_that_asks_for_code_or_packages_that_are_not_here_is_refused(changes, message, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    nested = {"backbone_config": config["backbone_config"] | changes.pop("backbone_config", {})}
    edit_config(checkpoint, **changes, **nested)
    with pytest.raises(ValueError, match=rf"`checkpoint` must be a CRH model's folder .* is not: .*{message}"):
        load_model(checkpoint)


def test_a_processor_or_backbone_with_its_own_code_is_refused_without_a_question(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks at the terminal"))
    own = {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Own"}}
    file = checkpoint / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    with pytest.raises(ValueError, match=r"`checkpoint` must hold what prepares its inputs, .* custom code"):
        load_checkpoint(checkpoint)
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"`backbone` must be .* custom code"):
        load_backbone(tmp_path)


def test_a_file_is_no_checkpoint(checkpoint):
    with pytest.raises(ValueError, match="it is a file"):
        load_model(checkpoint / "config.json")


@pytest.mark.parametrize("content", [None, "{", '{"image_processor_type": "ViTImageProcessor", "size": [9]}'])
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
    with pytest.raises(ValueError, match=r"the training of .* has not ended; its command with `--resume` goes on"):
        load_model(tmp_path / "begun")
