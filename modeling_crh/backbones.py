"""Build a backbone of any kind, and pool its output into one vector per sample."""

import inspect
import re
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel, ViTConfig
from transformers.models.auto import modeling_auto

Tower = Literal["vision", "text", "audio"]
"""One of the models in a dual encoder such as CLIP."""

Pooling = Literal["pooler", "cls", "mean", "last"]

KINDS: dict[str, Literal["image", "text", "audio"]] = {
    "pixel_values": "image",
    "input_ids": "text",
    "input_values": "audio",
    "input_features": "audio",
}
"""Kind of the items by the input of a backbone: a sound is read as samples or as a spectrogram."""

_TOWER_FUNCTIONS = {"vision": "get_image_features", "audio": "get_audio_features", "text": "get_text_features"}
_TOWER_MODULES = {"vision": ("vision", "visual", "image"), "text": ("text",), "audio": ("audio",)}
_TOWER_OF_INPUT = {"pixel_values": "vision", "input_ids": "text", "input_features": "audio"}

_POOLING = "crh_pooling"  # attribute of a backbone: how its output is pooled, see `CRHConfig.pooling`

_PAIRS = "reads images and texts together"
_PADDING = "mixes the padding of a batch into the codes"
_NO_VECTOR = "has no vector of the whole image, as models that detect objects; take the model that it is built on"
_REFUSED = {
    "crh": "is a CRH model itself; load it by `CRHModel.from_pretrained`",
    "imagegpt": "reads colors as tokens",
    "pixtral": "joins the images of a batch",
    "siglip2": "reads patches of images of any shape; take a SigLIP 2 of one resolution, whose type is siglip",
    "siglip2_vision_model": "reads patches of images of any shape; take a SigLIP 2 of one resolution",
}
_REFUSED |= dict.fromkeys("blip-2 bridgetower layoutlmv3 lxmert tvp vilt".split(), _PAIRS)
_REFUSED |= dict.fromkeys("oneformer rf_detr sam sam_hq sam2".split(), _NO_VECTOR)
_REFUSED |= dict.fromkeys("canine convbert fnet funnel nystromformer reformer".split(), _PADDING)

# Sounds take many forms; those of these models are known.
_SOUND_MODELS = {*modeling_auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES, "clap", "clap_audio_model"}

# Modules that pool the mean of the patches where the config says so, as the authors do, and add no dense layer.
_ADDED_POOLERS = ("beit", "data2vec-vision")

_CLS_TOKEN = re.compile(r"(embed\w*|stages\.\d+|patch_embeddings\.\d+)\.(cls_token|class_embedding)$")


def build_backbone(
    config: PreTrainedConfig, *, tower: Tower | None = None, pooling: Pooling | None = None
) -> PreTrainedModel:
    """Build a backbone with random weights, see `only_needed`, from the config of the whole model.

    Raises:
        ValueError: If the model has no such tower, or cannot make one vector of an image, a text or a sound.
    """
    refuse(config)
    settings = {"dtype": torch.get_default_dtype()}  # as the hash head, whatever the backbone was saved in
    return only_needed(AutoModel.from_config(unmasked(config), **settings, **pooler_settings(config)), tower, pooling)


def embed(backbone: PreTrainedModel, inputs: dict[str, Any]) -> tuple[Tensor, Any]:
    """Run a backbone, as `only_needed` leaves it, and pool its output by the `pooling` that it was built with.

    Returns:
        `(N, num_features)`, and the output of the backbone.

    Raises:
        ValueError: If the backbone has nothing that `pooling` asks for.
    """
    forward: Any = backbone
    pooling = pooling_of(backbone)
    if has_towers(backbone):
        tower = _TOWER_OF_INPUT[next(name for name in inputs if name in _TOWER_OF_INPUT)]
        forward = getattr(backbone, _TOWER_FUNCTIONS[tower] if pooling is None else _tower_model(backbone, tower))
    outputs = forward(**inputs, return_dict=True)
    return _pool(backbone, outputs, inputs.get("attention_mask"), pooling), outputs


def pooled_width(backbone: PreTrainedModel) -> int:
    """Find the width of the vectors that `embed` makes, by a forward pass of one sample."""
    was_training = backbone.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        vector, _ = embed(backbone.eval(), _sample(backbone))
    backbone.train(was_training)
    return vector.shape[-1]


def pooling_of(backbone: PreTrainedModel) -> Pooling | None:
    """Pooling that a backbone was built with, see `CRHConfig.pooling`."""
    return cast(Pooling | None, getattr(backbone, _POOLING, None))


def has_towers(backbone: PreTrainedModel) -> bool:
    """Whether a model embeds texts beside images or sounds, as CLIP does."""
    return hasattr(backbone, "get_text_features")


def refuse(config: PreTrainedConfig) -> None:
    """Refuse a model whose config tells that it cannot make one vector of an image, a text or a sound.

    Raises:
        ValueError: If it is refused.
    """
    kind = config.model_type
    if kind not in CONFIG_MAPPING:
        raise _no_backbone(kind, "is no model of transformers itself, but comes with code of its own")
    if kind in _REFUSED:
        raise _no_backbone(kind, _REFUSED[kind])
    if "text_config" in config.sub_configs and not hasattr(MODEL_MAPPING.get(type(config), None), "get_text_features"):
        raise _no_backbone(kind, _PAIRS)
    if kind.startswith("vjepa") or (getattr(config, "num_frames", None) is not None and kind != "xclip"):
        raise _no_backbone(kind, "reads videos")


def _no_backbone(kind: str, reason: str) -> ValueError:
    return ValueError(f"`backbone` must make one vector of an image, a text or a sound, but {kind} {reason}.")


def unmasked(config: PreTrainedConfig) -> PreTrainedConfig:
    """A masked autoencoder hides patches also in evaluation; a ViT has the same weights and hides none."""
    if config.model_type != "vit_mae":
        return config
    known = inspect.signature(ViTConfig).parameters
    return ViTConfig(**{key: value for key, value in config.to_dict().items() if key in known})


def pooler_settings(config: PreTrainedConfig) -> dict[str, bool]:
    """Arguments of a model that has a pooler as its authors use it only if it is asked for."""
    return {"add_pooling_layer": True} if config.model_type in _ADDED_POOLERS else {}


def only_needed(model: PreTrainedModel, tower: Tower | None, pooling: Pooling | None) -> PreTrainedModel:
    """Drop what makes no embedding from a model: other towers, decoders and dense poolers.

    Args:
        model: The whole model.
        tower: Tower to keep of a dual encoder; None means vision, or audio if it has no vision.
        pooling: How its output is going to be pooled, see `CRHConfig.pooling`.

    Raises:
        ValueError: If the model has no such tower, or cannot make one vector of an image, a text or a sound.
    """
    kind = model.config.model_type
    setattr(model, _POOLING, pooling)
    if has_towers(model):
        towers = [name for name, function in _TOWER_FUNCTIONS.items() if hasattr(model, function)]
        if tower not in towers and (tower is not None or towers == ["text"]):
            raise ValueError(f"`tower` must be {' or '.join(map(repr, towers))} for {kind}, but got {tower!r}.")
        tower = tower or cast(Tower, towers[0])
        if (kind, tower) == ("aimv2", "text"):  # causal in a padded batch, and not without padding
            raise _no_backbone("the text tower of aimv2", _PADDING)
        _drop_other_towers(model, tower, pooling)
        model.main_input_name = next(name for name, of in _TOWER_OF_INPUT.items() if of == tower)
        return model
    if tower is not None:
        raise ValueError(f"`tower` must be left out for {kind}, which has no towers, but got {tower!r}.")
    if model.config.is_encoder_decoder:
        if model.main_input_name == "pixel_values":
            raise _no_backbone(kind, _NO_VECTOR)
        model = cast(PreTrainedModel, model.get_encoder())
        if not isinstance(model, PreTrainedModel):
            raise _no_backbone(kind, "has an encoder that is no model by itself")
        setattr(model, _POOLING, pooling)
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Module) and any(isinstance(part, nn.Linear) for part in pooler.modules()):
        model.pooler = nn.Identity()
    arguments = inspect.signature(model.forward).parameters
    named = getattr(model, "main_input_name", "")
    reads = named if named in arguments else next((name for name in KINDS if name in arguments), "")
    required = [entry for entry in arguments.values() if entry.default is entry.empty]
    needed = [entry.name for entry in required if "VAR_" not in entry.kind.name]  # no *args, **kwargs
    is_sound = reads in ("input_values", "input_features")
    if reads not in KINDS or set(needed) - {reads} or (is_sound and kind not in _SOUND_MODELS):
        form = "sounds in a form of its own" if is_sound else " and ".join(dict.fromkeys([str(named), *needed]))
        raise _no_backbone(kind, f"reads {form}")
    model.main_input_name = reads
    return model


def _drop_other_towers(model: PreTrainedModel, tower: Tower, pooling: Pooling | None) -> None:
    kept = _tower_model(model, tower) if pooling is not None else ""
    for name, _ in [*model.named_children(), *model.named_parameters(recurse=False)]:
        if not name.startswith(_TOWER_MODULES[tower]) or "_to_mm_" in name or kept not in ("", name):
            setattr(model, name, None)
    model._is_hf_initialized = True  # or transformers would initialize the towers that are gone


def _tower_model(model: PreTrainedModel, tower: str) -> str:
    return next(f"{name}_model" for name in _TOWER_MODULES[tower] if hasattr(model, f"{name}_model"))


def _pool(backbone: PreTrainedModel, outputs: Any, mask: Tensor | None, pooling: Pooling | None) -> Tensor:
    """Pool an output by `pooling`; None takes the pooled output where there is one, and else `token_pooling`."""
    pooled: Tensor | None = outputs.get("pooler_output")
    if isinstance(getattr(backbone, "pooler", None), nn.Identity):  # was a dense layer
        pooled = None
    if pooling is None and pooled is None:
        pooling = token_pooling(backbone)
    kind = backbone.config.model_type
    if pooling in ("pooler", None):
        if pooled is None:
            raise ValueError(f"`pooling` must be 'cls', 'mean' or 'last' for {kind}, which pools nothing itself.")
        if pooled.ndim == 4:  # (N, D, h, w), of one place in most
            return pooled.mean((2, 3))
        return pooled[:, 0] if pooled.ndim == 3 else pooled  # FLAVA projects every token
    hidden: Tensor | None = outputs.get("last_hidden_state")
    if hidden is None:
        raise _no_backbone(kind, _NO_VECTOR)
    if pooling == "cls" and outputs.get("cls_token_value") is not None:
        return cast(Tensor, outputs["cls_token_value"])[:, 0]  # CvT keeps it beside the patches
    if hidden.ndim == 4:  # (N, D, h, w), without a token for the whole image
        return hidden.mean((2, 3))
    if pooling == "cls":
        return hidden[:, 0]
    if mask is not None and mask.shape[1] != hidden.shape[1]:  # of samples, where there are frames
        mask = cast(Any, backbone)._get_feature_vector_attention_mask(hidden.shape[1], mask)
    if mask is None:
        return hidden[:, -1] if pooling == "last" else hidden.mean(1)
    if pooling == "last":
        last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = mask.unsqueeze(-1).to(hidden.dtype)  # (N, T, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def token_pooling(backbone: PreTrainedModel) -> Pooling:
    """Choose the pooling of a backbone's tokens that its authors use.

    It is the first token of images with a token for the whole image, the last token of decoders, and the mean of the
    tokens, patches or frames of all others.
    """
    config = backbone.config
    if backbone.main_input_name != "input_ids":
        return "cls" if any(_CLS_TOKEN.search(name) for name, _ in backbone.named_parameters()) else "mean"
    is_encoder = config.is_encoder_decoder or config.model_type == "bert-generation"
    is_encoder = is_encoder or getattr(config, "use_bidirectional_attention", False) is True
    is_decoder = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    is_decoder = is_decoder and config.model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "last" if is_decoder and not is_encoder else "mean"


def _sample(backbone: PreTrainedModel) -> dict[str, Tensor]:
    """Make the smallest input of a backbone: one image, text or sound, all zeros or ones."""
    config, name = backbone.config, backbone.main_input_name
    if has_towers(backbone):
        config = getattr(config, f"{_TOWER_OF_INPUT[name]}_config", getattr(config, "image_config", config))
    if name == "input_ids":
        positions = getattr(config, "max_position_embeddings", None)
        length = min(16, positions) if isinstance(positions, int) and positions > 0 else 16
        return {name: torch.ones(1, length, dtype=torch.int64, device=backbone.device)}
    if name == "pixel_values":
        size = getattr(config, "image_size", None) or 64
        size = [size, size] if isinstance(size, int) else list(size)
        shape = [getattr(config, "num_channels", 3), *size]
        if config.model_type == "timm_wrapper":
            timm_model = cast(Any, backbone).timm_model
            shape = list(timm_model.pretrained_cfg["input_size"])
    elif name == "input_values":
        is_spectrogram = hasattr(config, "num_mel_bins")
        shape = [config.max_length, config.num_mel_bins] if is_spectrogram else [16_000]
    elif config.model_type == "whisper":
        shape = [config.num_mel_bins, 2 * config.max_source_positions]
    elif hasattr(config, "spec_size"):
        shape = [1, config.spec_size * config.spec_size // config.num_mel_bins, config.num_mel_bins]
    else:
        shape = [64, getattr(config, "feature_projection_input_dim", getattr(config, "num_mel_bins", 80))]
    return {name: torch.zeros(1, *shape, dtype=backbone.dtype, device=backbone.device)}
