"""Tiny configs of the architectures that are tried as backbones."""

import dataclasses
from typing import Any, NamedTuple

from transformers import (
    CONFIG_MAPPING,
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    PreTrainedConfig,
    SeamlessM4TFeatureExtractor,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

# What makes a model tiny, under the names that configs have for it.
SMALL: dict[str, Any] = {
    **dict.fromkeys("hidden_size d_model dim n_embd emb_dim embedding_size".split(), 32),
    **dict.fromkeys("num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers".split(), 2),
    **dict.fromkeys("num_attention_heads num_heads n_head n_heads".split(), 4),
    **dict.fromkeys("encoder_attention_heads decoder_attention_heads".split(), 4),
    **dict.fromkeys("intermediate_size hidden_dim encoder_ffn_dim decoder_ffn_dim d_ff ffn_dim d_inner".split(), 64),
    **dict.fromkeys("num_key_value_heads layers_block_size".split(), 2),
    **dict.fromkeys("head_dim d_kv".split(), 8),
    **dict.fromkeys("max_position_embeddings n_positions max_seq_len max_source_positions".split(), 64),
    **{"vocab_size": 120, "image_size": 32, "patch_size": 8, "projection_dim": 24, "pad_token_id": 0, "max_length": 64},
    **{"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "cls_token_id": 1, "num_mel_bins": 16},
}


class Architecture(NamedTuple):
    """One row of the table.

    Attributes:
        kind: Model type.
        fields: Fields of its config, over those of `SMALL`; those of a sub-config as a dict.
        tower: Tower of a dual encoder.
        pooling: How it should be pooled when nothing is asked for: "embedding" for a dual encoder.
    """

    kind: str
    pooling: str
    fields: dict[str, Any] = {}  # noqa: RUF012 - never changed
    tower: str | None = None

    @property
    def name(self) -> str:
        """Name of the row in tests and in the table of the documentation."""
        told = "vision_use_head use_head use_bidirectional_attention feat_extract_norm do_stable_layer_norm".split()
        settings = ",".join(f"{key}={self.fields[key]}" for key in told if key in self.fields)
        detail = self.tower or self.fields.get("architecture") or settings
        return f"{self.kind}:{detail}" if detail else self.kind


def tiny_config(kind: str, fields: dict[str, Any]) -> PreTrainedConfig:
    """Make a tiny config."""
    return _tiny(CONFIG_MAPPING[kind], fields)


def feature_extractor(config: Any) -> SequenceFeatureExtractor:
    """Make the feature extractor of a model of sounds, as tiny as the model."""
    kind = config.model_type
    if kind == "audio-spectrogram-transformer":
        return ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    if kind == "whisper":
        return WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=1)
    if kind == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor(feature_size=16, num_mel_bins=16)
    if kind == "clap":
        bins = config.audio_config.num_mel_bins
        settings = {"hop_length": 480, "max_length_s": config.audio_config.spec_size**2 // bins // 100}
        return ClapFeatureExtractor(feature_size=bins, truncation="rand_trunc", **settings)
    return Wav2Vec2FeatureExtractor(return_attention_mask=True)


def _tiny(config_class: Any, fields: dict[str, Any]) -> Any:
    known = {entry.name: entry for entry in dataclasses.fields(config_class)}
    values = {}
    for name, value in SMALL.items():
        if name in known and not isinstance(getattr(config_class, name, None), (list, tuple)):
            values[name] = value
    for name, part in config_class.sub_configs.items():
        if part.__name__ != "AutoConfig":
            values[name] = _tiny(part, fields.get(name, {})).to_dict()
    return config_class(**values | {key: value for key, value in fields.items() if key not in config_class.sub_configs})


_SMALL_CONVOLUTIONS = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "num_stages": 2, "patch_size": 2}
_SMALL_WINDOWS = {"patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
_SMALL_PYRAMID = {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4, "num_attention_heads": [1, 2, 2, 2]}
_SMALL_SOUND = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
_SMALL_EFFICIENTNET = {"width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320, "image_size": 64}
_SMALL_CLAP = {
    **{"spec_size": 64, "window_size": 4, "patch_size": 4, "depths": [1, 1], "num_attention_heads": [2, 2]},
    **{"patch_embeds_hidden_size": 16, "enable_fusion": False},
}

_IMAGES = [
    *(Architecture(kind, "cls") for kind in "vit deit dinov3_vit vit_msn vit_mae dpt".split()),
    Architecture("yolos", "cls", {"image_size": [32, 32]}),
    Architecture("pvt", "cls", _SMALL_PYRAMID),
    Architecture("cvt", "cls", {"embed_dim": [16, 24, 32], "num_heads": [1, 2, 2], "depth": [1, 2, 3]}),
    *(Architecture(kind, "pooler") for kind in "beit data2vec-vision dinov2 dinov2_with_registers pixio".split()),
    *(Architecture(kind, "pooler") for kind in ["siglip_vision_model", "clip_vision_model", "aimv2_vision_model"]),
    *(
        Architecture(kind, "pooler")
        for kind in "mlcd_vision_model chinese_clip_vision_model tipsv2_vision_model".split()
    ),
    Architecture("dinov3_convnext", "pooler", {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4}),
    *(Architecture(kind, "pooler", _SMALL_WINDOWS) for kind in ["swin", "swinv2"]),
    Architecture("hiera", "pooler", {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 2, 2, 2]}),
    Architecture("focalnet", "pooler", {"embed_dim": 8, "depths": [1, 1], "patch_size": 2}),
    *(Architecture(kind, "pooler", _SMALL_CONVOLUTIONS) for kind in ["convnext", "convnextv2", "resnet"]),
    Architecture("regnet", "pooler", _SMALL_CONVOLUTIONS | {"groups_width": 8}),
    Architecture("bit", "pooler", {"hidden_sizes": [128, 256], "depths": [1, 1], "embedding_size": 32}),
    Architecture("efficientnet", "pooler", _SMALL_EFFICIENTNET),
    *(Architecture(kind, "pooler", {"depth_multiplier": 0.25}) for kind in ["mobilenet_v1", "mobilenet_v2"]),
    Architecture("mobilevit", "pooler", {"patch_size": 2}),
    Architecture("mobilevitv2", "pooler", {"patch_size": 2, "width_multiplier": 0.25, "image_size": 64}),
    Architecture(
        "levit",
        "pooler",
        {"image_size": 64, "patch_size": 16, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 2]}
        | {"depths": [1, 1, 1], "key_dim": [8, 8, 8]},
    ),
    Architecture("textnet", "pooler", {"image_size": [64, 64]}),
    Architecture("ijepa", "mean"),
    Architecture("siglip_vision_model", "mean", {"vision_use_head": False}),
    Architecture("aimv2_vision_model", "mean", {"use_head": False}),
    *(Architecture(kind, "mean") for kind in "vitdet sam_vision_model idefics3_vision".split()),
    *(Architecture(kind, "mean", _SMALL_PYRAMID) for kind in "pvt_v2 poolformer segformer glpn".split()),
    Architecture("swiftformer", "mean", {"embed_dims": [8, 16, 24, 32], "depths": [1] * 4}),
]

_NAMES = (
    "test_resnet test_vit test_efficientnet mobilenetv3_small_050 mobilenetv4_conv_small_035 efficientvit_b0 "
    "ghostnet_050 hgnetv2_b0 fbnetv3_b lcnet_035 fasternet_t0 mambaout_femto inception_next_atto"
)
_TIMM = [
    *(Architecture("timm_wrapper", "pooler", {"architecture": name}) for name in _NAMES.split()),
    Architecture("timm_wrapper", "pooler", {"architecture": "vgg11", "model_args": {"mlp_ratio": 0.01}}),
]

_TOWERS = [
    *(Architecture(kind, "embedding", tower="vision") for kind in "clip siglip metaclip_2 aimv2 blip altclip".split()),
    *(Architecture(kind, "embedding", tower="vision") for kind in "chinese_clip flava clipseg owlvit tipsv2".split()),
    Architecture("groupvit", "embedding", {"vision_config": {"image_size": 224, "patch_size": 16}}, tower="vision"),
    Architecture("align", "embedding", {"vision_config": _SMALL_EFFICIENTNET}, tower="vision"),
    *(Architecture(kind, "embedding", tower="text") for kind in "clip siglip metaclip_2 blip altclip".split()),
    *(Architecture(kind, "embedding", tower="text") for kind in "chinese_clip flava xclip".split()),
    Architecture("clap", "embedding", {"audio_config": _SMALL_CLAP}, tower="text"),
    Architecture("clap", "embedding", {"audio_config": _SMALL_CLAP}, tower="audio"),
]

_TEXTS = [
    *(Architecture(kind, "mean") for kind in "bert roberta distilbert albert electra deberta deberta-v2 mpnet".split()),
    *(Architecture(kind, "mean") for kind in "xlm-roberta camembert modernbert nomic_bert gte eurobert".split()),
    *(
        Architecture(kind, "mean")
        for kind in "jina_embeddings_v3 longformer big_bird squeezebert ibert layoutlm".split()
    ),
    *(Architecture(kind, "mean") for kind in "markuplm tapas visual_bert roc_bert roformer".split()),
    *(Architecture(kind, "mean") for kind in "rembert megatron-bert mobilebert ernie xlm flaubert mra".split()),
    *(Architecture(kind, "mean") for kind in "data2vec-text bert-generation t5 mt5 umt5 bart pegasus longt5".split()),
    Architecture("esm", "mean", {"mask_token_id": 3, "token_dropout": False}),
    Architecture("luke", "mean", {"entity_vocab_size": 8}),
    Architecture("lilt", "mean", {"hidden_size": 48}),
    Architecture("xmod", "mean", {"languages": ["en_XX"], "default_language": "en_XX"}),
    *(Architecture(kind, "last") for kind in "gpt2 gpt_neox opt bloom llama mistral qwen2 qwen3 gemma2 phi".split()),
    *(Architecture(kind, "last") for kind in "phi3 mamba xlnet falcon modernbert-decoder olmo smollm3".split()),
    Architecture("gpt_neo", "last", {"attention_types": [[["global", "local"], 1]]}),
    Architecture("gemma3_text", "last"),
    Architecture("gemma3_text", "mean", {"use_bidirectional_attention": True}),
]

_SOUNDS = [
    *(Architecture(kind, "mean", _SMALL_SOUND) for kind in ["wav2vec2", "hubert", "wavlm", "wav2vec2-conformer"]),
    *(Architecture(kind, "mean", _SMALL_SOUND) for kind in ["unispeech", "unispeech-sat", "data2vec-audio"]),
    *(
        Architecture(kind, "mean", _SMALL_SOUND | {"feat_extract_norm": "layer", "do_stable_layer_norm": stable})
        for kind in ["wav2vec2", "hubert", "wavlm", "unispeech-sat", "wav2vec2-conformer"]
        for stable in [True, False][kind == "wav2vec2-conformer" :]
    ),
    *(Architecture(kind, "mean") for kind in ["sew", "sew-d"]),
    Architecture("wav2vec2-bert", "mean", {"feature_projection_input_dim": 32}),
    Architecture("whisper", "mean", {"max_source_positions": 50}),
    Architecture("audio-spectrogram-transformer", "pooler"),
]

ARCHITECTURES = [*_IMAGES, *_TIMM, *_TOWERS, *_TEXTS, *_SOUNDS]
"""Architectures that work."""

REFUSED = [
    *"siglip2 siglip2_vision_model videomae vivit timesformer vjepa2 imagegpt vilt layoutlmv3 lxmert".split(),
    *"bridgetower blip-2 qwen2_vl llama4 detr conditional_detr mask2former oneformer sam sam2 encodec".split(),
    *"dac speecht5 fsmt pixtral canine fnet convbert funnel nystromformer reformer xclip".split(),
]
"""Model types that are refused when a model is built."""

QUICK = {
    *"vit vit_mae dinov2 beit cvt convnext ijepa timm_wrapper:test_resnet clip:vision clip:text".split(),
    *"siglip:vision flava:vision clap:audio bert esm roberta t5 gpt2 qwen3 xlnet modernbert wav2vec2 whisper".split(),
    *"timm_wrapper:mobilenetv3_small_050 audio-spectrogram-transformer".split(),
}
"""Names of the architectures that are tried in every run of the tests."""
