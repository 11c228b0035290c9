import json

import numpy as np
import PIL.Image
import pytest
import torch
from backbones.architectures import ARCHITECTURES, QUICK, REFUSED, Architecture, feature_extractor, tiny_config
from datasets import Dataset, Features, Image, Value
from tiny_data import sound_bytes
from tiny_inputs import plain_tokenizer
from torch.utils.data import default_collate
from transformers import AutoModel, ViTImageProcessor, pipeline

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.backbones import build_backbone, embed
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data import prepare_dataset
from modeling_crh.encoding import labelled_dataset, run_batches
from modeling_crh.encoding.inputs import kind_of, make_inputs
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.processors import fit_processor
from modeling_crh.sounds import Sound

EMBEDDINGS = {"vision": "get_image_features", "text": "get_text_features", "audio": "get_audio_features"}
WORDS = "[PAD] [CLS] [SEP] [UNK] a red blue shoe hat coat with long short sleeves and lace of wool".split()
TEXTS = ["a red shoe with lace", "a blue coat of wool with long sleeves and a red hat and a short lace"]
ROWS = [pytest.param(row, id=row.name, marks=() if row.name in QUICK else pytest.mark.slow) for row in ARCHITECTURES]


def image_processor(config):
    size = getattr(config, "image_size", None) or 64
    height, width = (size, size) if isinstance(size, int) else size
    return ViTImageProcessor(size={"height": height, "width": width}, do_convert_rgb=True)


def tokenizer(config):
    return plain_tokenizer(WORDS, cls_token="[CLS]", sep_token="[SEP]", model_max_length=32)


def items_of(kind, config):
    """Two items, the first of which is the longer, and the processor."""
    generator = np.random.default_rng(0)
    if kind == "audio":
        sounds = [Sound(generator.normal(size=size).astype(np.float32), 16_000) for size in (16_000, 9_600)]
        return sounds, feature_extractor(config)
    if kind == "text":
        return TEXTS, tokenizer(config)
    pixels = generator.integers(0, 256, (2, 3, 50, 40), dtype=np.uint8)
    tower = getattr(config, "vision_config", getattr(config, "image_config", config))
    return list(torch.from_numpy(pixels)), image_processor(tower)


def expected_vectors(row, whole, inputs):
    """The vectors as the authors make them, computed from the whole model."""
    if row.pooling == "embedding":
        outputs = getattr(whole, EMBEDDINGS[row.tower])(**inputs)
        pooled = outputs.pooler_output
        return pooled[:, 0] if pooled.ndim == 3 else pooled
    if row.kind == "vit_mae":
        whole.config.mask_ratio = 0.0
    model = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    outputs = model(**inputs)
    if row.pooling == "pooler":
        return outputs.pooler_output.flatten(2).mean(2) if outputs.pooler_output.ndim == 4 else outputs.pooler_output
    hidden = outputs.last_hidden_state
    if row.pooling == "cls":
        return outputs.cls_token_value[:, 0] if row.kind == "cvt" else hidden[:, 0]
    if hidden.ndim == 4:
        return hidden.flatten(2).mean(2)
    mask = inputs.get("attention_mask")
    if mask is not None and mask.shape[1] != hidden.shape[1]:
        mask = model._get_feature_vector_attention_mask(hidden.shape[1], mask)
    lengths = [hidden.shape[1]] * len(hidden) if mask is None else mask.sum(1).tolist()
    rows = [tokens[:length] for tokens, length in zip(hidden, lengths, strict=True)]
    return torch.stack([tokens[-1] if row.pooling == "last" else tokens.mean(0) for tokens in rows])


def build_whole(row, folder):
    config = tiny_config(row.kind, row.fields)
    settings = {"add_pooling_layer": True} if row.kind == "data2vec-vision" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = AutoModel.from_config(config, **settings).eval()
    whole.save_pretrained(folder)
    return whole


def raw_items(kind, items):
    """The items as a user has them: images, files of sound, texts."""
    if kind == "image":
        return [PIL.Image.fromarray(item.permute(1, 2, 0).numpy()) for item in items]
    return [sound_bytes(item.samples, item.rate, subtype="FLOAT") for item in items] if kind == "audio" else items


def training_logits(model, processor, items):
    """Hash logits of the items as a training reads them, one at a time."""
    kind = kind_of(model)
    values = raw_items(kind, items)
    features = Features({kind: Image() if kind == "image" else Value("binary" if kind == "audio" else "string")})
    rows = Dataset.from_dict({kind: values}, features=features).add_column("label", ["shoe", "coat"])
    read = labelled_dataset(prepare_dataset(rows, **{f"{kind}_column": kind}), processor)
    batches = (default_collate([read[number]]) for number in range(2))
    return torch.cat(list(run_batches(model, batches)))


def logits_of(model, inputs):
    return torch.cat(list(run_batches(model, [inputs])))


@pytest.mark.parametrize("row", ROWS)
def test_an_architecture_is_trained_saved_and_pooled_as_its_authors_do(row, tmp_path):
    whole = build_whole(row, tmp_path / "whole")
    model = CRHModel.from_backbone(str(tmp_path / "whole"), tower=row.tower, num_labels=3, num_bits=32)
    pretrained = whole.get_encoder() if whole.config.is_encoder_decoder and row.tower is None else whole
    weights = pretrained.state_dict()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, weights[name]), name

    items, processor = items_of(kind_of(model), whole.config)
    processor = fit_processor(processor, model)
    inputs = make_inputs(items, processor)
    logits = logits_of(model, inputs)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits_of(model, inputs), logits)
    alone = torch.cat([logits_of(model, make_inputs([item], processor)) for item in items])
    torch.testing.assert_close(alone, logits, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        vectors = torch.cat([expected_vectors(row, whole, make_inputs([item], processor)) for item in items])
        assert model.config.num_features == vectors.shape[1]
        torch.testing.assert_close(model.hash_head(vectors), logits, rtol=1e-3, atol=1e-5)

    model.train()(**inputs, labels=torch.tensor([0, 2])).loss.backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.backbone.parameters())
    logits = logits_of(model.eval(), inputs)  # a batch norm has seen the batch
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    loaded, loaded_processor = load_checkpoint(tmp_path / "saved")
    torch.testing.assert_close(logits_of(loaded, make_inputs(items, loaded_processor)), logits)  # as for `saved` below
    hashing = pipeline("crh-hashing", model=str(tmp_path / "saved"))
    codes = [hashing(item)["code"].tolist() for item in raw_items(kind_of(model), items)]
    assert codes == pack_codes(binarize(training_logits(loaded, loaded_processor, items))).tolist()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_makes_no_vector_is_refused_in_one_sentence(kind):
    with pytest.raises(ValueError, match=r"^`(backbone|tower)` must .*\.$") as refused:
        CRHModel(CRHConfig(backbone_config=tiny_config(kind, {}), num_labels=3))
    assert len(str(refused.value)) < 200


def test_a_tower_whose_codes_depend_on_the_batch_is_refused():
    with pytest.raises(ValueError, match="the text tower of aimv2 mixes the padding"):
        CRHModel(CRHConfig(backbone_config=tiny_config("aimv2", {}), tower="text", num_labels=3))


@pytest.mark.parametrize("kind", ["bert", "esm", "longformer", "dpt", "beit"])
def test_a_checkpoint_without_a_pooler_gives_the_same_codes_whenever_it_is_loaded(kind, tmp_path):
    whole = AutoModel.from_config(tiny_config(kind, {"mask_token_id": 3} if kind == "esm" else {}))
    weights = {name: value for name, value in whole.state_dict().items() if not name.startswith("pooler.")}
    whole.save_pretrained(tmp_path, state_dict=weights)
    first, second = (CRHModel.from_backbone(str(tmp_path), num_labels=3) for _ in range(2))
    items, processor = items_of(kind_of(first), whole.config)
    inputs = make_inputs(items, fit_processor(processor, first))
    second.hash_head.load_state_dict(first.hash_head.state_dict())
    assert torch.equal(logits_of(first, inputs), logits_of(second, inputs))


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_tower_is_pooled_without_its_projection_where_that_is_asked_for(tower, pooling, tmp_path):
    whole = build_whole(Architecture("clip", "embedding", tower=tower), tmp_path)
    model = CRHModel.from_backbone(str(tmp_path), tower=tower, pooling=pooling, num_labels=3)
    assert all(name.startswith(f"{tower}_model.") for name in model.backbone.state_dict())
    items, processor = items_of(kind_of(model), whole.config)
    inputs = make_inputs(items[:1], fit_processor(processor, model))
    with torch.no_grad():
        outputs = getattr(whole, f"{tower}_model")(**inputs)
    hidden = outputs.last_hidden_state
    expected = {"pooler": outputs.pooler_output, "cls": hidden[:, 0], "mean": hidden.mean(1)}[pooling]
    torch.testing.assert_close(logits_of(model, inputs), model.hash_head(expected).detach())
    model.save_pretrained(tmp_path / "saved")
    saved = CRHModel.from_pretrained(tmp_path / "saved")  # its weights lie at other addresses: last bits may differ
    torch.testing.assert_close(logits_of(saved, inputs), logits_of(model, inputs))


def test_the_last_token_is_the_last_real_one_on_either_side_of_the_padding():
    backbone = build_backbone(tiny_config("qwen3", {}), pooling="last").eval()
    tokens = torch.tensor([[5, 6, 7, 0, 0], [0, 0, 5, 6, 7]])
    mask = (tokens > 0).long()
    with torch.no_grad():
        vectors, outputs = embed(backbone, {"input_ids": tokens, "attention_mask": mask})
    assert torch.equal(vectors, outputs.last_hidden_state[[0, 1], [2, 4]])


@pytest.mark.parametrize(("mode", "pooling"), [("cls", "cls"), ("mean", "mean"), (None, None)])
def test_the_pooling_that_sentence_transformers_declare_is_taken_and_saved(mode, pooling, tmp_path):
    build_whole(Architecture("bert", "mean"), tmp_path)
    if mode is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    model = CRHModel.from_backbone(str(tmp_path), num_labels=3)
    assert model.config.pooling == pooling
    model.save_pretrained(tmp_path / "saved")
    saved = CRHModel.from_pretrained(tmp_path / "saved")
    inputs = {"input_ids": torch.tensor([[5, 6, 7]])}
    assert torch.equal(saved(**inputs).hash_logits, model(**inputs).hash_logits)
    hidden = model.backbone(**inputs).last_hidden_state
    expected = hidden[:, 0] if pooling == "cls" else hidden.mean(1)
    torch.testing.assert_close(model(**inputs).hash_logits, model.hash_head(expected))
    assert CRHModel.from_backbone(str(tmp_path), num_labels=3, pooling="last").config.pooling == "last"


def test_a_text_model_of_few_positions_is_built():
    config = tiny_config("bert", {"max_position_embeddings": 8})
    assert CRHModel(CRHConfig(backbone_config=config, num_labels=3)).config.num_features == 32
