"""Folders of tiny backbones with random weights, as their authors publish them."""

import json

import timm
import torch
from safetensors.torch import save_model
from tiny_inputs import plain_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, SiglipConfig, SiglipModel

WORDS = "the a cat dog sat ran on under mat tree and then slept".split()
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
POSITIONS = 16


def save_timm(folder, architecture, model_args=None, **pretrained_cfg):
    """Write a timm model as timm's own `push_to_hf_hub` does, for images of 32 x 32 pixels unless told otherwise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(architecture, num_classes=3, **(model_args or {}))
    folder.mkdir()
    save_model(model, str(folder / "model.safetensors"))
    settings = {"input_size": [3, 32, 32], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
    settings |= {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "num_classes": 3} | pretrained_cfg
    config = {"architecture": architecture, "num_classes": 3, "num_features": model.num_features}
    config |= {"pretrained_cfg": settings} | ({"model_args": model_args} if model_args else {})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def word_tokenizer(**settings):
    """A tokenizer of thirteen words that begins and ends every text with a token; it has none for padding."""
    settings = {"pad_token": None, "bos_token": "[BOS]", "eos_token": "[EOS]"} | settings
    tokenizer = plain_tokenizer(["[PAD]", "[UNK]", "[BOS]", "[EOS]", *WORDS], **settings)
    ends = [("[BOS]", 2), ("[EOS]", 3)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    return tokenizer


def save_dual_encoder(folder, kind="clip"):
    """Write a CLIP or SigLIP for images of 16 x 16 pixels and texts of 16 tokens that tells its inputs apart."""
    text = {**TRANSFORMER, "vocab_size": 20, "max_position_embeddings": POSITIONS}
    text |= {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = {**TRANSFORMER, "image_size": 16, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "clip":
            config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8, initializer_factor=20.0)
            model = CLIPModel(config)
        else:
            model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder
