"""Train a part of a backbone: LoRA adapters, its last blocks, or all of it with learning rates by depth."""

from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from modeling_crh.checks import is_number, is_whole
from modeling_crh.encoding.adapters import adapted_layers, adapters_of, require_peft
from modeling_crh.modeling_crh import CRHModel

_QUERIES_AND_VALUES = {
    *("q_proj", "v_proj", "query", "value", "q_lin", "v_lin", "q", "v", "query_proj", "value_proj"),
    *("qkv", "qkv_proj", "Wqkv", "query_key_value"),
}
"""Names of the linear layers that compute queries and values of attention, alone or in one with the keys."""


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Settings of LoRA (arXiv 2106.09685): every adapted weight W becomes W + alpha / rank * B A.

    Args:
        rank: Number of rows of A, and of columns of B.
        alpha: Factor of the update; None means twice the rank.
        dropout: Dropout of the input of A.
        target_modules: Names, or last parts of names, of the layers of the backbone to adapt; None means the layers of
            attention that compute queries and values.

    Raises:
        ValueError: If a number is out of range, or `target_modules` is no list of names.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    target_modules: list[str] | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.rank) or self.rank < 1:
            raise ValueError(f"`rank` of `lora` must be a whole number, 1 or larger, but got {self.rank!r}.")
        if self.alpha is not None and (not is_number(self.alpha) or not self.alpha > 0):
            raise ValueError(f"`alpha` of `lora` must be a number above 0, but got {self.alpha!r}.")
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` of `lora` must lie in [0, 1), but got {self.dropout!r}.")
        names = self.target_modules
        if names is not None and (not isinstance(names, list) or not all(isinstance(name, str) for name in names)):
            raise ValueError(f"`target_modules` of `lora` must be a list of names, but got {names!r}.")


def add_lora(model: CRHModel, settings: LoraSettings) -> CRHModel:
    """Freeze the backbone and put LoRA weights into it; they are trained, and so is the whole hash head.

    Raises:
        ValueError: If the model has no backbone, or the backbone none of the layers.
        ModuleNotFoundError: If peft is not installed.
    """
    peft, backbone = require_peft(), _require_backbone(model, "lora")
    targets = settings.target_modules or sorted(_QUERIES_AND_VALUES)
    linear = {name for name, module in backbone.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in linear)]
    if missing == targets or (missing and settings.target_modules is not None):
        raise ValueError(
            "`target_modules` of `lora` must name linear layers or convolutions of the backbone, but "
            f"{type(backbone).__name__} has none that is named {' or '.join(missing)}; its own are named "
            f"{', '.join(sorted({name.rpartition('.')[2] for name in linear}))}. `unfreeze_last` needs no names."
        )
    alpha = 2 * settings.rank if settings.alpha is None else settings.alpha
    numbers = {"r": settings.rank, "lora_alpha": alpha, "lora_dropout": settings.dropout}
    peft.inject_adapter_in_model(peft.LoraConfig(**numbers, target_modules=list(targets)), backbone)
    return model


def unwrap_adapted(model: Any) -> CRHModel:
    """Return the `CRHModel` inside of what `get_peft_model` made of it or of its backbone, ready for training.

    The LoRA weights stay in their layers, so that the wrapper that peft has made keeps working.

    Raises:
        ValueError: If the adapter cannot be trained, saved and merged: it is not LoRA, is not the only one, lies in the
            hash head, or leaves the hash head frozen.
    """
    adapters: dict[str, Any] = {}
    if _is_wrapped(model):
        adapters, model = model.peft_config, model.get_base_model()
    if not isinstance(model, CRHModel):
        return cast(CRHModel, model)  # the trainer says what is wrong with it
    if _is_wrapped(model.backbone):
        wrapper = cast(Any, model.backbone)
        adapters, model.backbone = wrapper.peft_config, wrapper.get_base_model()
    adapters = adapters or adapters_of(model)
    if not adapters:
        return model
    config = adapters.get("default")
    if len(adapters) > 1 or config is None or config.peft_type != "LORA" or config.trainable_token_indices is not None:
        kinds = ", ".join(f"`{name}` of type {adapter.peft_type.value}" for name, adapter in adapters.items())
        raise ValueError(f"`model` must have one adapter, `default`, of type LORA, without tokens, but has {kinds}.")
    outside = [name for name in adapted_layers(model) if not name.startswith("backbone.")]
    head = (weight for name, weight in model.hash_head.named_parameters() if not name.startswith("original_module."))
    if outside or not all(weight.requires_grad for weight in head):  # of a head that peft has copied, the copy
        raise ValueError(
            "`model` must have LoRA in its backbone alone, and a hash head that is trained whole; give the LoraConfig "
            f"`modules_to_save=['hash_head']`{f' and `exclude_modules={outside}`' if outside else ''}."
        )
    return model


def find_blocks(backbone: nn.Module) -> list[nn.Module]:
    """Find the blocks that a backbone is a chain of, such as transformer layers or stages of convolutions.

    They are the members of its outermost lists of equal modules, of the class of which there are the most.

    Example:
        >>> from transformers import ResNetConfig, ResNetModel
        >>> len(find_blocks(ResNetModel(ResNetConfig(hidden_sizes=[8, 16], depths=[1, 1]))))
        2
    """
    found: dict[type, list[nn.Module]] = {}
    inside: list[str] = []
    for name, module in backbone.named_modules():
        members = list(module.children())
        kinds = {type(member) for member in members}
        if any(name.startswith(f"{outer}.") for outer in inside) or len(members) < 2 or len(kinds) > 1:
            continue
        if isinstance(module, nn.ModuleList | nn.Sequential) and all(list(member.parameters()) for member in members):
            inside.append(name)
            found.setdefault(kinds.pop(), []).extend(members)
    return max(reversed(found.values()), key=len, default=[])  # the last of equals, such as the decoder of two


def unfreeze_last(model: CRHModel, count: int) -> CRHModel:
    """Train the last blocks of the backbone, what follows them, such as its final norm, and the hash head.

    The rest of the backbone gets no gradient and stays in evaluation mode.

    Raises:
        ValueError: If the backbone has fewer blocks.
    """
    backbone = _require_backbone(model, "unfreeze_last")
    blocks = find_blocks(backbone)
    if not is_whole(count) or not 1 <= count <= len(blocks):
        raise ValueError(
            f"`unfreeze_last` must be from 1 to {len(blocks)}, the number of blocks of {type(backbone).__name__}, but "
            f"got {count!r}."
        )
    depths = _depths(backbone, blocks)
    after = [
        module
        for module in backbone.modules()
        if list(module.parameters()) and all(depths[weight] > len(blocks) for weight in module.parameters())
    ]
    return model.freeze_backbone(except_for=[*blocks[-count:], *after])


def layer_scales(model: CRHModel, decay: float) -> dict[nn.Parameter, float]:
    """Compute the factor of the learning rate of every weight of the backbone, as in BEiT and MAE.

    With L blocks, block i from 1 to L has decay^(L + 1 - i), what precedes the blocks decay^(L + 1), and what follows
    them 1, as the hash head has.

    Raises:
        ValueError: If the backbone is missing, frozen or adapted by LoRA, or has no blocks.
    """
    backbone = _require_backbone(model, "layer_decay")
    blocks = find_blocks(backbone)
    trained = any(weight.requires_grad for weight in backbone.parameters())
    if adapters_of(model) or not trained or not blocks:
        what = "LoRA" if adapters_of(model) else "no blocks" if not blocks else "no weight that is trained"
        raise ValueError(
            f"`layer_decay` must be left out with LoRA, a frozen backbone or one without blocks, but "
            f"{type(backbone).__name__} has {what}."
        )
    return {weight: decay ** (len(blocks) + 1 - depth) for weight, depth in _depths(backbone, blocks).items()}


def _depths(backbone: nn.Module, blocks: list[nn.Module]) -> dict[nn.Parameter, int]:
    """Number every weight by its block, from 1; 0 before the blocks and L + 1 behind the last."""
    block_of = {weight: number for number, block in enumerate(blocks, 1) for weight in block.parameters()}
    depths, reached = {}, 0
    for weight in backbone.parameters():
        reached = block_of.get(weight, len(blocks) + 1 if reached >= len(blocks) else reached)
        depths[weight] = reached
    return depths


def _is_wrapped(model: Any) -> bool:
    """Whether `get_peft_model` has put a wrapper around a model."""
    return type(model).__module__.startswith("peft.")


def _require_backbone(model: CRHModel, setting: str) -> PreTrainedModel:
    if model.backbone is None:
        raise ValueError(f"`{setting}` needs a backbone, but this model reads stored features.")
    return model.backbone
