"""Pool a backbone's output into one vector per sample."""

from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

# Model types whose pooler is a dense tanh layer, trained for another task or not at all.
_DENSE_POOLERS = {
    *("albert", "bert", "camembert", "data2vec-text", "deit", "ernie", "megatron-bert", "mobilebert", "mpnet"),
    *("rembert", "roberta", "roberta-prelayernorm", "vit", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}


def pooling_arguments(backbone_config: PreTrainedConfig) -> dict[str, bool]:
    """Keyword arguments that build a backbone without a dense pooler."""
    return {"add_pooling_layer": False} if backbone_config.model_type in _DENSE_POOLERS else {}


def pooled_width(backbone_config: PreTrainedConfig, backbone: PreTrainedModel) -> int:
    """Width of the vectors that `pool` makes of the outputs of a backbone.

    Raises:
        ValueError: If the config has no field for its width.
    """
    if backbone_config.model_type == "timm_wrapper":
        return int(cast(Any, backbone.timm_model).num_features)
    for name in ("hidden_sizes", "embed_dim"):  # one width a stage: ResNet, ConvNeXt, RegNet; CvT
        widths = getattr(backbone_config, name, None)
        if isinstance(widths, (list, tuple)):
            return int(widths[-1])
    for name in ("hidden_size", "hidden_dim"):
        width = getattr(backbone_config, name, None)
        if isinstance(width, int):
            return width
    found = f"{backbone_config.model_type!r} with neither"
    raise ValueError(f"`backbone_config` must have a `hidden_size` or `hidden_sizes`, but got {found}.")


def pool(outputs: Any, attention_mask: Tensor | None, pooling: str | None, is_text: bool) -> Tensor:
    """Pool the output of a backbone by the rule of `CRHConfig.pooling`.

    Args:
        outputs: Output of the backbone, with `last_hidden_state` and perhaps `pooler_output`.
        attention_mask: `(N, T)`, 0 for padding; None means no padding.
        pooling: `"pooler"`, `"cls"`, `"mean"` or None.
        is_text: Whether the backbone reads texts, for which None means the mean of the tokens.

    Returns:
        `(N, num_features)`.

    Raises:
        ValueError: If `pooling` is `"pooler"` and the backbone has none.
    """
    pooled: Tensor | None = outputs.get("pooler_output")
    if pooling == "pooler" and pooled is None:
        raise ValueError("`pooling` must be 'cls' or 'mean' for this backbone, which pools nothing, but got 'pooler'.")
    if pooling in ("pooler", None) and pooled is not None:
        return pooled.flatten(1)
    hidden: Tensor = outputs["last_hidden_state"]
    if hidden.ndim == 4:  # (N, D, h, w), without a token for the whole image
        return hidden.mean((2, 3))
    if pooling == "cls" or (pooling is None and not is_text):
        return hidden[:, 0]
    if attention_mask is None:
        return hidden.mean(1)
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (N, T, 1)
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
