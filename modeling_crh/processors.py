"""Fit the processor of a backbone to a model: pixels as timm makes them, and as many tokens as it has positions."""

import copy
import math
from typing import Any

import PIL.Image
from transformers import CLIPImageProcessor, PreTrainedModel, PreTrainedTokenizerBase

_RESAMPLING = ("bilinear", "bicubic", "lanczos")
_WHOLE_LENGTH = ("siglip",)  # these were trained on texts padded to one length, and pool the last position


def fit_processor(processor: Any, model: PreTrainedModel) -> Any:
    """Make the processor of a backbone one for a model, and one that `save_pretrained` writes.

    The image processor of a timm model becomes a plain one with the settings of timm's evaluation transform. A
    tokenizer pads on the right; by its end-of-sequence token if it has none for padding, which changes no code, since
    padding is masked; and cuts texts to the number of positions of the model, a backbone or a `CRHModel` with one. Any
    other comes back as it is.

    Raises:
        ValueError: If timm's transform has no equal in transformers, or a tokenizer has no token for padding.
    """
    if isinstance(processor, PreTrainedTokenizerBase):
        return _fit_tokenizer(processor, model)
    return plain_image_processor(processor)


def whole_length(model: PreTrainedModel) -> int | None:
    """Number of tokens that a model needs every text padded to, without a mask; None for models that mask padding."""
    config = _backbone_config(model)
    return _count_positions(model, config) if config.model_type in _WHOLE_LENGTH else None


def _backbone_config(model: PreTrainedModel) -> Any:
    return getattr(model.config, "backbone_config", model.config)


def plain_image_processor(processor: Any) -> Any:
    """Make an image processor of transformers from one that wraps timm's transform; any other comes back as it is.

    Their pixels differ by the rounding of the resizing, and by a shift of one pixel where an odd number is cut off.

    Raises:
        ValueError: If timm's transform has no equal in transformers.
    """
    if (settings := getattr(processor, "data_config", None)) is None:
        return processor
    channels, *crop = settings["input_size"]
    scaled = [math.floor(side / settings["crop_pct"]) for side in crop]
    mode, interpolation = settings["crop_mode"], settings["interpolation"]
    sizes = {"squash": dict(zip(("height", "width"), scaled, strict=True))}
    if scaled[0] == scaled[1]:
        sizes["center"] = {"shortest_edge": scaled[0]}
    if channels != 3 or mode not in sizes or interpolation not in _RESAMPLING:
        found = f"{interpolation} resizing and the crop {mode!r} to {crop[0]} x {crop[1]} in {channels} channels"
        raise ValueError(
            "`image_processor` must make RGB pixels by the crop 'squash', or 'center' to a square, but timm prepares "
            f"this model's by {found}."
        )
    return CLIPImageProcessor(
        size=sizes[mode],
        crop_size={"height": crop[0], "width": crop[1]},
        resample=PIL.Image.Resampling[interpolation.upper()],
        image_mean=list(settings["mean"]),
        image_std=list(settings["std"]),
        do_convert_rgb=True,
    )


def _fit_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise ValueError("`tokenizer` must have a token for padding or for the end of a text, but has neither.")
    limit = _count_positions(model, _backbone_config(model))
    settings = {
        "pad_token": tokenizer.pad_token or tokenizer.eos_token,
        "padding_side": "right",  # on the left it would shift the positions of a text
        "model_max_length": min(tokenizer.model_max_length, limit or tokenizer.model_max_length),
    }
    padding = True if whole_length(model) is None else "max_length"
    changed = {name: value for name, value in settings.items() if getattr(tokenizer, name) != value}
    if not changed and tokenizer.init_kwargs.get("padding", True) == padding:
        return tokenizer
    fitted = copy.deepcopy(tokenizer)
    for name, value in changed.items():
        setattr(fitted, name, value)
    if padding is not True:
        fitted.init_kwargs["padding"] = padding
    return fitted


def _count_positions(model: PreTrainedModel, config: Any) -> int | None:
    """Count the tokens of the longest text that a model has positions for; None if there is no limit."""
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    if positions is None or positions < 1:
        return None
    embeddings = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    paddings = [getattr(module, "padding_idx", None) for module in embeddings]
    return int(positions) - max((row + 1 for row in paddings if row is not None), default=0)  # RoBERTa begins behind it
