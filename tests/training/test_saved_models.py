import json
from functools import partial

import pytest
import torch
from datasets import Dataset
from tiny_inputs import DTYPES, IMAGE_BACKBONES, assert_same_state, in_dtype, inputs_of, move_centers, plain_tokenizer
from transformers import AutoModel

from modeling_crh import CRHModel
from modeling_crh.backbones import pooling_of
from modeling_crh.codebook import draw_centers
from modeling_crh.encoding import load_backbone, load_checkpoint
from modeling_crh.encoding.inputs import load_processor
from modeling_crh.pipeline_crh import tokenize
from modeling_crh.pretrained import declared_pooling
from modeling_crh.training import choose_recipe, dry_run


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [None, "bert", *IMAGE_BACKBONES])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, tiny_model, name, dtype):
    model = tiny_model(name, hash_head="mlp" if name is None else "linear").to(dtype)
    moved = move_centers(model)
    inputs = in_dtype(inputs_of(name), dtype)
    model.save_pretrained(tmp_path / "first")
    first = CRHModel.from_pretrained(tmp_path / "first")
    first.save_pretrained(tmp_path / "second")
    second = AutoModel.from_pretrained(tmp_path / "second")
    assert type(second) is CRHModel
    for loaded in (first, second):
        assert loaded.dtype == dtype
        assert not loaded.training
        assert_same_state(loaded, model)
        assert (loaded.codebook.dtype, loaded.assignment.dtype) == (torch.int8, torch.int64)
        assert torch.equal(loaded.assignment, moved)
        assert torch.equal(loaded(**inputs).hash_logits, model(**inputs).hash_logits)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_centers_keep_their_types_in_half_precision(tmp_path, tiny_model, dtype):
    model = tiny_model("vit")
    moved = move_centers(model)
    model.save_pretrained(tmp_path)
    loaded = CRHModel.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert (loaded.codebook.dtype, loaded.assignment.dtype) == (torch.int8, torch.int64)
    assert torch.equal(loaded.assignment, moved)
    loss = loaded(**in_dtype(inputs_of("vit"), dtype), labels=torch.tensor([0, 1, 2])).loss
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", IMAGE_BACKBONES)
@pytest.mark.parametrize("saved_dtype", [torch.float32, torch.bfloat16])
def test_a_pretrained_backbone_keeps_its_weights(tmp_path, tiny_backbone, name, saved_dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pretrained = AutoModel.from_config(tiny_backbone(name)).to(saved_dtype)
    for buffer in pretrained.buffers():
        if buffer.is_floating_point():
            buffer.add_(0.5)  # running statistics are weights too
    pretrained.save_pretrained(tmp_path)
    model = CRHModel.from_backbone(str(tmp_path), num_labels=3, num_bits=16, codebook_seed=4)
    kept = pretrained.state_dict()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, kept[key].to(value.dtype)), key
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert model(**inputs_of(name)).hash_logits.shape == (3, 16)
    assert torch.equal(model.codebook, draw_centers(*model.config.codebook_shape, 3, seed=4)[0])


def test_a_wrong_field_is_an_error_before_the_weights_are_loaded(tmp_path, tiny_backbone):
    tiny_backbone("vit").save_pretrained(tmp_path)  # no weights at all
    with pytest.raises(ValueError, match="`num_bit` is no field of CRHConfig"):
        CRHModel.from_backbone(str(tmp_path), num_labels=3, num_bit=16)
    with pytest.raises(ValueError, match="`torch_dtype` must be given as `dtype`"):
        CRHModel.from_backbone(str(tmp_path), num_labels=3, torch_dtype=torch.bfloat16)
    with pytest.raises(OSError, match="no file named"):
        CRHModel.from_backbone(str(tmp_path), num_labels=3)


@pytest.mark.parametrize(
    ("settings", "dtype", "attention"),
    [
        ({}, torch.float32, "sdpa"),
        ({"dtype": torch.bfloat16}, torch.bfloat16, "sdpa"),
        ({"dtype": "auto"}, torch.float16, "sdpa"),
        ({"attn_implementation": "eager"}, torch.float32, "eager"),
        ({"device_map": "cpu", "local_files_only": True, "token": "hf_mine"}, torch.float32, "sdpa"),
    ],
)
def test_a_pretrained_backbone_is_loaded_as_asked_without_a_word(
    tmp_path, tiny_backbone, capfd, settings, dtype, attention
):
    AutoModel.from_config(tiny_backbone("vit")).half().save_pretrained(tmp_path)
    capfd.readouterr()
    model = CRHModel.from_backbone(str(tmp_path), num_labels=3, num_bits=16, **settings)
    assert capfd.readouterr() == ("", "")
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.backbone.config._attn_implementation == attention
    assert model(**in_dtype(inputs_of("vit"), dtype)).hash_logits.dtype == dtype


def test_a_backbone_that_is_not_there_or_brings_its_own_code_is_an_error(tmp_path):
    with pytest.raises(OSError, match="couldn't find them in the cached files"):
        CRHModel.from_backbone("org/none-such", num_labels=3, local_files_only=True)
    classes = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": classes}))
    (tmp_path / "code.py").write_text(
        "from transformers import PreTrainedConfig\nclass Config(PreTrainedConfig):\n    model_type = 'mine'\n"
    )
    for trust, message in ((False, "contains custom code"), (True, "but mine is no model of transformers itself")):
        with pytest.raises(ValueError, match=message):
            CRHModel.from_backbone(str(tmp_path), num_labels=3, trust_remote_code=trust)


def save_sentence_transformer(folder, modules=("Transformer", "Pooling", "Normalize"), **prompts):
    types = [f"sentence_transformers.models.{name}" for name in modules]
    listed = [{"idx": row, "path": "", "type": name} for row, name in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6, "do_lower_case": False}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))


def write_pooling(folder, **settings):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def test_the_length_and_the_prompt_of_sentence_transformers_are_kept_with_the_model(tiny_backbone, tmp_path):
    folder, saved = tmp_path / "st", tmp_path / "saved"
    AutoModel.from_config(tiny_backbone("bert")).save_pretrained(folder)
    plain_tokenizer(["[PAD]", "[UNK]", "the", "cat", "sat", "on"], model_max_length=32).save_pretrained(folder)
    save_sentence_transformer(folder, prompts={"query": "the cat "}, default_prompt_name="query")
    model, (_, tokenizer) = CRHModel.from_backbone(str(folder), num_labels=3), load_backbone(folder)
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    for one in (tokenizer, load_checkpoint(saved)[1]):
        assert tokenize(one, ["sat on"])["input_ids"].tolist() == [[2, 3, 4, 5]]
        assert tokenize(one, ["sat " * 9])["input_ids"].shape == (1, 6)
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "a"}}')  # none by default
    assert tokenize(load_backbone(folder)[1], ["sat"])["input_ids"].tolist() == [[4]]


def test_modules_that_a_backbone_cannot_have_are_named(tiny_backbone, tmp_path):
    AutoModel.from_config(tiny_backbone("bert")).save_pretrained(tmp_path)
    save_sentence_transformer(tmp_path, ["Transformer", "Pooling", "Dense", "Normalize"])
    for load in (partial(CRHModel.from_backbone, num_labels=3), load_backbone):
        with pytest.raises(ValueError, match=r"`pooling` must be given for .*, whose modules\.json has Dense"):
            load(str(tmp_path))
    assert CRHModel.from_backbone(str(tmp_path), num_labels=3, pooling="mean").config.pooling == "mean"
    assert pooling_of(load_backbone(tmp_path, pooling="mean")[0]) == "mean"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config.json", "[", "Expecting value"),
        ("modules.json", '{"a": 1}', "its modules.json lists no modules"),
        ("modules.json", '[{"type": 3}]', "its modules.json lists no modules"),
        ("modules.json", "[" * 10**5, "its modules.json is no JSON"),
        ("sentence_bert_config.json", '{"max_seq_length": "x"}', "`max_seq_length` .* must be a whole number"),
        ("config_sentence_transformers.json", '{"default_prompt_name": "q"}', "`default_prompt_name` must name one"),
        ("config_sentence_transformers.json", '{"default_prompt_name": [], "prompts": 3}', "must name one"),
        ("1_Pooling/config.json", '{"pooling_mode": "mean", "include_prompt": false}', "`include_prompt` .* be true"),
    ],
)
def test_damaged_files_of_sentence_transformers_are_refused_in_one_sentence(
    tiny_backbone, tmp_path, file, content, message
):
    AutoModel.from_config(tiny_backbone("bert")).save_pretrained(tmp_path)
    plain_tokenizer(["[PAD]", "[UNK]"]).save_pretrained(tmp_path)
    save_sentence_transformer(tmp_path, prompts={"query": "a "}, default_prompt_name="query")
    write_pooling(tmp_path, pooling_mode="mean")
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_processor(tmp_path, CRHModel.from_backbone(str(tmp_path), num_labels=3, pooling="mean"))
    rows = Dataset.from_dict({"text": ["the", "a"] * 20, "label": ["x", "y"] * 20})
    rows.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=f"`backbone` must be .*, but '{tmp_path}' is not: .*{message}"):
        dry_run(choose_recipe(dataset=str(tmp_path / "rows.parquet"), text_column="text", backbone=str(tmp_path)))


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [
        (None, None),
        (["pooling_mode_cls_token"], "cls"),
        (["pooling_mode_mean_tokens"], "mean"),
        (["pooling_mode_lasttoken"], "last"),
        ([], "which pools by no mode"),
        (["pooling_mode_max_tokens"], "which pools by max"),
        (["pooling_mode_cls_token", "pooling_mode_mean_tokens"], "which pools by cls and mean"),
        ("lasttoken", "last"),  # as version 6 writes it
    ],
)
def test_the_pooling_of_a_folder_of_sentence_transformers_is_read(tmp_path, modes, pooling):
    known = ["pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens", "pooling_mode_lasttoken"]
    if modes is not None:
        flags = {"pooling_mode": modes} if isinstance(modes, str) else {mode: mode in modes for mode in known}
        write_pooling(tmp_path, word_embedding_dimension=8, include_prompt=True, **flags)
    if pooling is None or " " not in pooling:
        assert declared_pooling(str(tmp_path), trust_remote_code=False) == pooling
    else:
        with pytest.raises(ValueError, match=f"`pooling` must be given for .*, {pooling}"):
            declared_pooling(str(tmp_path))
