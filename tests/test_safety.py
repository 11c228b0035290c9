"""Tests of safety: no pickle of a model is read or written, and no code is trusted unasked."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModel, ViTImageProcessor, ViTModel, pipeline

import modeling_crh
from modeling_crh import CRHConfig, CRHModel
from modeling_crh.encoding import load_backbone, load_checkpoint
from modeling_crh.encoding.adapters import ADAPTER_FILE, save_adapter
from modeling_crh.training.fine_tuning import LoraSettings, add_lora

PACKAGE = Path(modeling_crh.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.fixture
def pickled(tiny_checkpoint, tmp_path):
    """A checkpoint whose weights are a pickle."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "pickled")
    torch.save(CRHModel.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_checkpoint_of_pickles_is_refused_in_one_sentence(pickled):
    with pytest.raises(ValueError, match=r"`checkpoint` must be .* is not: Error no file named model\.safetensors"):
        load_checkpoint(pickled)
    for load in (CRHModel, AutoModel):
        with pytest.raises(OSError, match=r"no file named model\.safetensors"):
            load.from_pretrained(pickled)
    with pytest.raises(ValueError, match="`use_safetensors` must be True, but got False"):
        CRHModel.from_pretrained(pickled, use_safetensors=False)


def test_a_backbone_of_pickles_is_refused(tiny_backbone, tmp_path):
    backbone = ViTModel(tiny_backbone("vit"))
    backbone.config.save_pretrained(tmp_path)
    torch.save(backbone.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        CRHModel.from_backbone(str(tmp_path), num_labels=3)
    with pytest.raises((OSError, ValueError), match=r"no file named model\.safetensors"):
        load_backbone(str(tmp_path))


@pytest.fixture(params=["model", "backbone"])
def trap(request, tiny_checkpoint, tiny_backbone, tmp_path, monkeypatch):
    """A folder of a model or of a backbone with a pickle beside its weights, and all ways to load it."""
    if request.param == "model":
        folder = shutil.copytree(tiny_checkpoint, tmp_path / "trap")
        doors = [load_checkpoint, CRHModel.from_pretrained, AutoModel.from_pretrained]
    else:
        folder = tmp_path / "trap"
        ViTModel(tiny_backbone("vit")).save_pretrained(folder)
        ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
        doors = [load_backbone, lambda name: CRHModel.from_backbone(str(name), num_labels=3)]
    with safe_open(folder / "model.safetensors", "pt") as weights:
        state = {name: weights.get_tensor(name) for name in weights.keys()}
    for name in ("adapter_model.bin", "pytorch_model.bin", "x.safetensors"):
        torch.save(state, folder / name)
    monkeypatch.setattr(torch, "load", lambda *args, **settings: pytest.fail("a pickle is read"))
    return folder, state, doors


def change(file, **values):
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | values))


PLACES = ["pytorch_model.bin", "../checkpoint/model.safetensors", "/dev/zero", "a/b.safetensors", 5, None]


@pytest.mark.parametrize("place", PLACES)
def test_an_index_of_weights_that_names_a_pickle_or_another_folder_is_refused(place, trap):
    folder, state, doors = trap
    for name, weights in (("model.safetensors.index.json", None), ("own.safetensors.index.json",) * 2):
        change(folder / name, metadata={}, weight_map=dict.fromkeys(state, place))
        if weights is not None:
            change(folder / "config.json", transformers_weights=weights)
        for load in doors:
            with pytest.raises(ValueError, match=rf"`weight_map` in its {name} must name safetensors files beside it"):
                load(folder)
        (folder / name).unlink()


@pytest.mark.parametrize("weights", ["adapter_model.bin", "pytorch_model.bin", 5, ["model.safetensors"]])
def test_no_config_makes_weights_of_a_pickle(weights, trap):
    folder, _, doors = trap
    change(folder / "config.json", transformers_weights=weights)
    for load in doors:
        with pytest.raises(ValueError, match="`transformers_weights` must name a safetensors file, but got"):
            load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attn_implementation": "org/kernel"}, "names code of a repository"),
        ({"attn_implementation": ["org/kernel"]}, "names code of a repository"),
        ({"_attn_implementation": {"vision_config": "org/kernel"}}, "names code of a repository"),
        ({"vision_config": {"_attn_implementation": "org/kernel"}}, "names code of a repository"),
        ({"experts_implementation": "org/kernel"}, "names code of a repository"),
        ({"model_args": {"checkpoint_path": "x.pth"}}, r"`model_args` in its config\.json names a file of weights"),
        ({"architecture": "hf-hub:org/model"}, r"`architecture` in its config\.json names another model"),
        ({"backbone": "local-dir:/data"}, r"`backbone` in its config\.json names another model"),
        ({"to_dict": "x"}, r"`to_dict` in its config\.json is no field"),
        ({"__dict__": {}}, r"`__dict__` in its config\.json is no field"),
        ({"num_labels": 10**9}, r"`num_labels` in its config\.json must be at most 10000000"),
        ({"num_labels": "x"}, r"`num_labels` in its config\.json is no int"),
        ({"dtype": "load"}, r"`dtype` in its config\.json is no type of torch"),
        ({"num_channels": -1}, r"`num_channels` in its config\.json must be between 1 and 16777216"),
    ],
)
def test_a_config_that_leads_to_code_or_weights_elsewhere_is_refused_at_any_depth(values, message, trap):
    folder, _, doors = trap
    before = (folder / "config.json").read_text()
    for changed in (values, {"inner_config": {"deeper_config": values}}):
        (folder / "config.json").write_text(before)
        change(folder / "config.json", **changed)
        for load in doors[:2]:  # AutoModel makes a config before it asks the model's class
            with pytest.raises(ValueError, match=message):
                load(folder)


DEEP = ["[" * 2_000, '{"a":' * 2_000, '{"a":' * 500 + "[]" + "}" * 500, '{"a":' + "[" * 99 + "]" * 99 + "}"]


@pytest.mark.parametrize("content", [*DEEP, "[]", '{"a": '], ids=range(6))
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "preprocessor_config.json"])
def test_a_file_of_another_form_is_refused(name, content, trap):
    folder, _, doors = trap
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=rf"its {name} (is nested too deeply|holds no JSON object|must name)"):
        doors[0](folder)


@pytest.mark.parametrize("content", [*DEEP, "[]", '{"a": ', '{"tokenizer_class": 5}'], ids=range(7))
def test_the_config_of_a_tokenizer_is_looked_at_too(content, text_checkpoint, tmp_path):
    folder = shutil.copytree(text_checkpoint, tmp_path / "texts")
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"its tokenizer_config\.json (is nested too|holds no JSON object|is no)"):
        load_checkpoint(folder)


def test_classes_may_be_called_as_values_of_a_config_are(tiny_model, tmp_path):
    names = dict(enumerate(["dtype", "num_x", "auto_map"]))
    model = tiny_model(None, id2label=names, label2id={name: number for number, name in names.items()})
    model.save_pretrained(tmp_path)
    assert CRHModel.from_pretrained(tmp_path).config.id2label == names


@pytest.fixture
def adapter(tiny_backbone, tmp_path):
    """Folder of a LoRA adapter, and a function that changes its metadata."""
    pytest.importorskip("peft")
    ViTModel(tiny_backbone("vit")).save_pretrained(tmp_path / "base")
    model = CRHModel.from_backbone(str(tmp_path / "base"), num_labels=3)
    add_lora(model, LoraSettings(rank=2))
    save_adapter(model, tmp_path / "adapter")
    file = tmp_path / "adapter" / ADAPTER_FILE

    def write(part, values):
        with safe_open(file, "pt") as saved:
            tensors, metadata = {name: saved.get_tensor(name) for name in saved.keys()}, saved.metadata()
        content = values if isinstance(values, str) else json.dumps(json.loads(metadata[part]) | values)
        save_file(tensors, file, metadata | {part: content})

    return tmp_path / "adapter", write


@pytest.mark.parametrize(
    ("part", "values"),
    [
        *(("lora", {"megatron_config": {"a": 1}, "megatron_core": module}) for module in ("antigravity", "megatron")),
        *(("lora", {name: 5}) for name in ("target_modules", "rank_pattern", "bias", "use_dora", "unknown")),
        ("lora", {"target_modules": "(.*a)*(.*a)*z"}),
        ("lora", {"rank_pattern": {}}),
        ("lora", {"init_lora_weights": "eva"}),
        *(("base", {"dtype": dtype}) for dtype in ("load", "int8", "complex64", "__name__", 5)),
        *(("base", {name: ["a"]}) for name in ("name", "revision", "is_backbone", "checksum")),
        *((part, content) for part in ("lora", "base") for content in ("5", "null", "[]", "{}", "x", "[" * 2_000)),
    ],
)
def test_an_adapter_that_asks_for_more_than_is_saved_is_refused(part, values, adapter):
    folder, write = adapter
    write(part, values)
    for load in (load_checkpoint, CRHModel.from_pretrained):
        with pytest.raises(ValueError, match=r"`adapter` must (be a file of `save_adapter`|have a rank for each)"):
            load(folder)


def test_an_adapter_with_a_rank_that_its_weights_do_not_have_takes_no_memory(adapter):
    folder, write = adapter
    with safe_open(folder / ADAPTER_FILE, "pt") as saved:
        names = json.loads(saved.metadata()["lora"])["target_modules"]
    write("lora", {"rank_pattern": dict.fromkeys(names, 10**12)})
    with pytest.raises(ValueError, match="`adapter` must have a rank for each of its layers"):
        load_checkpoint(folder)


def test_an_adapter_that_names_itself_as_its_base_is_refused(adapter):
    folder, write = adapter
    write("base", {"name": str(folder), "is_backbone": False})
    with pytest.raises(ValueError, match=r"the base of the adapter, '.*', is an adapter of itself"):
        CRHModel.from_pretrained(folder)


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt"])
def test_a_config_that_points_at_a_pickle_is_refused(name):
    saved = CRHConfig(backbone_config=None, num_features=4, num_labels=3).to_dict()
    with pytest.raises(ValueError, match=f"`transformers_weights` must name a safetensors file, but got '{name}'"):
        CRHConfig.from_dict(saved | {"transformers_weights": name})


def test_no_source_reads_or_writes_a_pickle_or_trusts_by_itself():
    assert len(SOURCES) > 50
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(names), file
            if isinstance(node, ast.Call):
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert "trust_remote_code" not in keywords, file
                assert ast.unparse(node.func) != "torch.save", file
                assert ast.unparse(node.func) != "torch.load" or keywords["weights_only"] == "True", file


def test_code_in_a_folder_is_not_run_by_the_imported_library(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "trap")
    for file in folder.glob("*.py"):
        file.write_text("raise AssertionError('this code was run')\n")
    for settings in ({}, {"trust_remote_code": True}):  # its own code answers for its own models
        assert type(AutoModel.from_pretrained(folder, **settings)) is CRHModel
        assert pipeline("crh-hashing", model=str(folder), **settings).model.config.num_bits == 16
    load_checkpoint(folder)
