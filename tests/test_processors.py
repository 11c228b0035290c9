import numpy as np
import PIL.Image
import pytest
import torch
from tiny_backbones import POSITIONS, TRANSFORMER, save_dual_encoder, word_tokenizer
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    GPT2Config,
    IBertConfig,
    MPNetConfig,
    Qwen2Config,
    RobertaConfig,
    T5Config,
    TimmWrapperImageProcessor,
    pipeline,
)

from modeling_crh import CRHModel, CRHTrainer, CRHTrainingArguments, load_splits
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.encoding import Encoder, ImageDataset
from modeling_crh.encoding.inputs import load_processor
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.pipeline_crh import tokenize
from modeling_crh.processors import fit_processor

TIMM = {"input_size": [3, 32, 32], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "crop_pct": 0.5}
POSITIONS_AND_HEADS = {"vocab_size": 20, "max_position_embeddings": POSITIONS, "pad_token_id": 1, **TRANSFORMER}
DECODERS = {
    "gpt2": GPT2Config(vocab_size=20, n_positions=POSITIONS, n_embd=16, n_layer=2, n_head=2),
    "qwen2": Qwen2Config(**POSITIONS_AND_HEADS, num_key_value_heads=1),
}
ENCODERS = {
    "roberta": RobertaConfig(**POSITIONS_AND_HEADS),
    "mpnet": MPNetConfig(**POSITIONS_AND_HEADS),
    "ibert": IBertConfig(**POSITIONS_AND_HEADS),
}
LONG = "cat sat on the mat and then a dog ran under the tree and slept and then the cat slept"


def smooth_image(height, width):
    small = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(small).resize((width, height), PIL.Image.Resampling.BICUBIC)


@pytest.mark.parametrize("shape", [(80, 80), (160, 90), (48, 200)])
@pytest.mark.parametrize("settings", [{}, {"crop_mode": "squash"}, {"interpolation": "bilinear", "crop_pct": 1.0}])
def test_the_processor_of_a_timm_model_makes_the_pixels_of_timms_own_transform(tiny_model, settings, shape, tmp_path):
    timms = TimmWrapperImageProcessor(TIMM | settings)
    fit_processor(timms, tiny_model()).save_pretrained(tmp_path)
    loaded, image = AutoImageProcessor.from_pretrained(tmp_path), smooth_image(*shape)
    theirs, ours = (processor(image, return_tensors="pt")["pixel_values"] for processor in (timms, loaded))
    std = torch.tensor(TIMM["std"]).view(3, 1, 1)
    assert ours.shape == theirs.shape == (1, 3, 32, 32)
    assert ((ours - theirs) * std * 255).abs().max() < 2.01  # of 255 steps, from the rounding of the resizing


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"crop_mode": "border"}, "bicubic resizing and the crop 'border' to 32 x 32 in 3 channels"),
        ({"input_size": [3, 32, 48]}, "the crop 'center' to 32 x 48 in 3 channels"),
        ({"input_size": [1, 32, 32], "mean": [0.5], "std": [0.5]}, "in 1 channels"),
        ({"interpolation": "nearest"}, "nearest resizing"),
    ],
)
def test_a_transform_that_transformers_has_no_equal_of_is_an_error(tiny_model, settings, found):
    with pytest.raises(ValueError, match=f"^`image_processor` must make RGB pixels by .* timm prepares .*{found}"):
        fit_processor(TimmWrapperImageProcessor(TIMM | settings), tiny_model())


@pytest.mark.parametrize("config", [*DECODERS.values(), *ENCODERS.values()], ids=[*DECODERS, *ENCODERS])
def test_a_text_has_one_code_alone_and_beside_longer_ones_and_is_cut_to_the_positions_of_its_model(tiny_model, config):
    model = tiny_model(config, num_bits=64, initializer_range=1.0)
    tokenizer = word_tokenizer(padding_side="left")
    assert (tokenizer.pad_token, tokenizer.model_max_length > 1e20) == (None, True)
    fitted = fit_processor(tokenizer, model)
    assert tokenizer.pad_token is None  # the caller's own stays as it is
    limit = POSITIONS - 2 if config in ENCODERS.values() else POSITIONS  # RoBERTa and its kin count from 2
    texts = ["a cat", LONG, "the dog ran"]
    inputs = tokenize(fitted, texts)
    assert inputs["attention_mask"].sum(1).tolist() == [4, limit, 5]
    assert inputs["attention_mask"][0, :4].tolist() == [1, 1, 1, 1]
    with torch.no_grad():
        alone = torch.cat([model(**tokenize(fitted, [text])).hash_logits for text in texts])
    assert torch.allclose(Encoder(model, fitted).hash_logits(texts), alone, atol=1e-4)
    pipe = pipeline("crh-hashing", model=model, tokenizer=tokenizer, code_format="bits")
    assert np.array_equal([item["code"] for item in pipe(texts, batch_size=3)], (binarize(alone) > 0).int().numpy())


def test_a_model_without_positions_leaves_the_length_to_its_tokenizer(tiny_model):
    model = tiny_model(T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    assert fit_processor(word_tokenizer(), model).model_max_length > 1e20
    assert fit_processor(word_tokenizer(model_max_length=9), model).model_max_length == 9


def test_a_tokenizer_without_a_token_for_padding_or_the_end_and_a_text_without_tokens_are_errors(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="`tokenizer` must have a token for padding or for the end of a text, but"):
        fit_processor(word_tokenizer(eos_token=None), tiny_model("bert"))
    tokenizer = word_tokenizer(pad_token="[PAD]")
    tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(ValueError, match="`text` must hold a token, but ' ' holds none"):
        tokenize(fit_processor(tokenizer, tiny_model(DECODERS["gpt2"])), [" "])


def test_siglip_reads_texts_padded_to_one_length_as_it_was_trained(tmp_path):
    save_dual_encoder(tmp_path, "siglip")
    model = CRHModel.from_backbone(str(tmp_path), tower="text", num_labels=3, num_bits=16)
    tokenizer = load_processor(tmp_path, model)
    shapes = {name: tuple(value.shape) for name, value in tokenize(tokenizer, ["a cat"]).items()}
    assert shapes == {"input_ids": (1, POSITIONS)}
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenize(again, ["a cat", LONG])["input_ids"].shape == (2, POSITIONS)


def test_timms_own_processor_is_trained_with_and_saved_as_the_plain_one(tiny_model, image_folder, tmp_path):
    timms = TimmWrapperImageProcessor(TIMM | {"input_size": [3, 16, 16]})
    model, rows = tiny_model("vit"), load_splits(image_folder).splits["train"]
    items = ImageDataset(rows, timms)
    args = CRHTrainingArguments(output_dir=str(tmp_path / "checkpoints"), max_steps=1, use_cpu=True)
    trainer = CRHTrainer(model, args, train_dataset=items, processing_class=timms)
    trainer.train()
    trainer.save_model(tmp_path / "model")
    loaded, processor = load_checkpoint(tmp_path / "model")
    assert torch.equal(ImageDataset(rows, processor)[0]["pixel_values"], items[0]["pixel_values"])
    code = pipeline("crh-hashing", model=str(tmp_path / "model"))(rows[0]["image"])["code"]
    assert torch.equal(torch.from_numpy(code), pack_codes(loaded.encode(items[0]["pixel_values"][None]))[0])
