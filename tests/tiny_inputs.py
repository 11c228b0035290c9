"""Inputs of tiny models, and comparisons of two models."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

IMAGE_BACKBONES = ["vit", "dinov2", "resnet", "convnext"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
_CODE = "backbones codebook codes configuration_crh file_bytes images losses modeling_crh pipeline_crh saved_files"
# What a saved model carries with it, to run without this library.
CODE_FILES = [f"{name}.py" for name in (*_CODE.split(), "sounds")]


def plain_tokenizer(names, **settings):
    """A tokenizer that splits texts at spaces and knows these words, of which the first is for padding."""
    words = Tokenizer(models.WordLevel({name: row for row, name in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    settings = {"pad_token": "[PAD]", "unk_token": "[UNK]"} | settings
    return PreTrainedTokenizerFast(tokenizer_object=words, **settings)


def checkpoint_activations(model):
    """Switch gradient checkpointing on, by the name that it has had since transformers 5.23 or the one before."""
    name = "activation_checkpointing_enable"
    getattr(model, name if hasattr(model, name) else "gradient_checkpointing_enable")()


def inputs_of(name, size=3):
    """A batch for a tiny model, drawn from a seed."""
    generator = torch.Generator().manual_seed(1)
    if name is None:
        return {"features": torch.randn(size, 4, generator=generator)}
    if name == "bert":
        return {"input_ids": torch.randint(1, 50, (size, 7), generator=generator)}
    return {"pixel_values": torch.randn(size, 3, 16, 16, generator=generator)}


def in_dtype(inputs, dtype):
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}


def assert_same_state(model, other):
    state, others = model.state_dict(), other.state_dict()
    assert state.keys() == others.keys()
    for name, value in state.items():
        assert value.dtype == others[name].dtype, name
        assert torch.equal(value, others[name]), name


def move_centers(model):
    """Put every class on another word than a fresh model gives it."""
    generator = torch.Generator().manual_seed(7)
    words = [torch.randperm(model.codebook.shape[1], generator=generator)[:3] for _ in model.assignment]
    moved = torch.stack(words)
    assert not torch.equal(moved, model.assignment)
    model.assignment.copy_(moved)
    return moved
