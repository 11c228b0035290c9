"""LoRA adapters of a backbone: save them with hash head and centers, load them, and merge them into the weights."""

import copy
import dataclasses
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from huggingface_hub.dataclasses import type_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

from modeling_crh.checks import needs_extra
from modeling_crh.saved_files import FINDING_ARGUMENTS

Model = TypeVar("Model", bound=PreTrainedModel)
"""A `CRHModel`, which this file does not import: a model that is pushed imports this file."""

ADAPTER_FILE = "adapter.safetensors"
"""File of an adapter: every trained weight and every buffer, and in its metadata the LoRA settings and the base."""

ADAPTER_FOLDER = "adapter"
"""Folder of a run that holds its adapter."""


def require_peft() -> Any:
    """Import peft.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    with needs_extra("LoRA", "lora"):
        import peft
    return peft


def adapters_of(model: PreTrainedModel) -> dict[str, Any]:
    """Return the settings of the adapters that peft has put into a model or its backbone, by name; often none."""
    found = [vars(part).get("peft_config") for part in (model, cast(Any, model).backbone) if part is not None]
    return next(filter(None, found), {})


def trained_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return every trained weight and every buffer of a model with an adapter, by its name in a plain model.

    The tensors share their memory with the model. LoRA weights keep the names that peft gives them in the backbone.
    """
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    return {
        name.replace(".modules_to_save.default", ""): value
        for name, value in model.state_dict().items()
        if name not in frozen and ".original_module." not in name
    }


def save_adapter(model: PreTrainedModel, folder: str | Path) -> None:
    """Write an adapter that is not merged, with hash head, centers and config; a few percent of the model's size."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    model.config.to_json_file(Path(folder, "config.json"))  # without code, which could not load this
    state = {name: value.contiguous() for name, value in trained_state(model).items()}
    metadata = {"format": "pt", "lora": json.dumps(_exact_settings(model)), "base": json.dumps(_base(model))}
    save_file(state, Path(folder, ADAPTER_FILE), metadata)


def restore_adapter(file: Path, model: PreTrainedModel) -> None:
    """Read the trained weights and buffers of an adapter into a model with the same adapter and the same base.

    Raises:
        ValueError: If the adapter is of other layers or another rank, belongs to another base, or is damaged.
    """
    metadata, saved = read_adapter(file)
    if metadata["base"]["checksum"] != _checksum(model):
        raise ValueError(f"`model` must have the frozen weights that {str(file)!r} was trained with, but has others.")
    state = trained_state(model)
    shapes, found = ({name: value.shape for name, value in values.items()} for values in (state, saved))
    if shapes != found:
        different = sorted(dict(shapes.items() ^ found.items()))
        raise ValueError(f"`model` must have the trained weights of {str(file)!r}, but differs in {different[:3]}.")
    with torch.no_grad():
        for name, value in saved.items():
            state[name].copy_(value)


def load_adapter(model_class: Any, folder: str | Path, error: OSError, **kwargs: Any) -> Any:
    """Load the base that a LoRA adapter in a folder or on the Hub names, and merge the adapter into it.

    Of the arguments of `from_pretrained`, it takes `dtype`, `device_map` and those that find the files. Where there is
    no adapter, it raises `error`.

    Returns:
        A plain model in evaluation mode; with `output_loading_info` also a report of no problem.

    Raises:
        ValueError: If the base has no name, its weights are not those that the adapter was trained with, or an argument
            would change the config.
        ModuleNotFoundError: If peft is not installed.
        OSError: If the base cannot be found.
    """
    finding = {name: kwargs[name] for name in FINDING_ARGUMENTS if name in kwargs}
    if (found := cached_file(folder, ADAPTER_FILE, _raise_exceptions_for_missing_entries=False, **finding)) is None:
        raise error
    fixed = {entry.name for entry in dataclasses.fields(model_class.config_class)} - {"dtype"} | {"attn_implementation"}
    if changed := sorted(fixed & kwargs.keys()):
        raise ValueError(
            f"`{changed[0]}` must be left out for a LoRA adapter, whose base and config are given by its files."
        )
    peft, file = require_peft(), Path(found)
    metadata, saved = read_adapter(file)
    base = metadata["base"]
    model = _load_base(model_class, folder, base, finding, kwargs.get("device_map"))
    nn.Module.to(model, getattr(torch, base["dtype"]))
    peft.inject_adapter_in_model(peft.LoraConfig(**metadata["lora"]), model.backbone)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in saved)
    restore_adapter(file, model)
    dtype = kwargs.get("dtype")
    dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype  # "auto" is that of the base
    model = nn.Module.to(merge_adapter(model).train(False), dtype)
    problems = ("missing_keys", "unexpected_keys", "mismatched_keys")
    return (model, dict.fromkeys(problems, ())) if kwargs.get("output_loading_info") else model


def _load_base(model_class: Any, folder: str | Path, base: dict[str, Any], finding: dict[str, Any], device: Any) -> Any:
    """Load the model that an adapter was trained on, or put its pretrained backbone under a new head."""
    if not base["name"]:
        raise ValueError(f"The adapter {str(folder)!r} has a base without a name, and can only be resumed from.")
    settings: dict[str, Any] = {name: finding[name] for name in finding.keys() - {"revision", "subfolder"}}
    settings |= {"revision": base["revision"]} if base["revision"] else {}
    settings |= {"device_map": device} if device is not None else {}
    load = model_class.from_backbone if base["is_backbone"] else model_class.from_pretrained
    if base["is_backbone"]:
        config = model_class.config_class.from_pretrained(folder, **finding)
        own, inherited = ({entry.name for entry in dataclasses.fields(of)} for of in (config, PreTrainedConfig))
        names = own - inherited - {"backbone_config", "num_features"} | {"id2label", "label2id", "problem_type"}
        settings |= {name: getattr(config, name) for name in names}
    try:
        return load(base["name"], **settings)
    except RecursionError as error:
        raise ValueError(f"the base of the adapter, {base['name']!r}, is an adapter of itself") from error
    except OSError as missing:
        raise OSError(f"the base of the adapter, {base['name']!r}, cannot be loaded: {missing}") from missing


def merge_adapter(model: Model) -> Model:
    """Add LoRA weights to the weights that they adapt, in place; the model is then a plain one.

    The sum is rounded to the precision of the weights, so that a few codes may change: evaluate after merging.

    Returns:
        The model; one without an adapter is unchanged.

    Raises:
        ValueError: If a merged weight is not finite; the model is then in part merged.
    """
    if not adapters_of(model):
        return model
    for parent, name, layer in list(_adapted_layers(model)):
        if ".original_module" in name:
            continue
        if isinstance(layer, require_peft().tuners.tuners_utils.BaseTunerLayer):
            layer.merge(safe_merge=True)
            plain = layer.get_base_layer()
        else:
            plain = layer.modules_to_save["default"]
        setattr(parent, name.rpartition(".")[2], plain)
    for part in (model, cast(Any, model).backbone):
        for mark in ("peft_config", "_hf_peft_config_loaded"):
            vars(part).pop(mark, None)
    return model.requires_grad_(True)


def merged_copy(model: Model) -> Model:
    """Return a merged copy of a model with an adapter, or else the model itself."""
    return merge_adapter(copy.deepcopy(model)) if adapters_of(model) else model


def adapted_layers(model: PreTrainedModel) -> dict[str, Any]:
    """Return the layers with LoRA weights, by their names in the model."""
    layer_type = require_peft().tuners.tuners_utils.BaseTunerLayer
    return {name: layer for _, name, layer in _adapted_layers(model) if isinstance(layer, layer_type)}


def _adapted_layers(model: PreTrainedModel) -> Iterator[tuple[nn.Module, str, Any]]:
    """Yield parent, name and module of every layer that peft has put in the place of another."""
    tuners = require_peft().tuners.tuners_utils
    kinds = tuners.BaseTunerLayer, require_peft().utils.ModulesToSaveWrapper
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            yield model.get_submodule(name.rpartition(".")[0]), name, module


def _exact_settings(model: PreTrainedModel) -> dict[str, Any]:
    """Write LoRA settings that name every adapted layer of the backbone, with its own rank and alpha."""
    settings: dict[str, Any] = adapters_of(model)["default"].to_dict()
    layers = {name.removeprefix("backbone."): layer for name, layer in adapted_layers(model).items()}
    settings |= {
        "target_modules": sorted(layers),
        "rank_pattern": {name: layer.r["default"] for name, layer in layers.items()},
        "alpha_pattern": {name: layer.lora_alpha["default"] for name, layer in layers.items()},
        **dict.fromkeys(("modules_to_save", "exclude_modules", "layers_to_transform", "layers_pattern")),
    }
    return {name: settings[name] for name in _PARTS["lora"]}


def _base(model: PreTrainedModel) -> dict[str, Any]:
    """Describe what an adapter was trained on: a trained CRH model, or else a pretrained backbone."""
    config: Any = model.config
    own = getattr(config, "_name_or_path", "")
    source = config if own else config.backbone_config
    name = getattr(source, "_name_or_path", "") or ""
    return {
        "name": str(Path(name).absolute()) if name and Path(name).is_dir() else name,  # found from any folder
        "revision": getattr(source, "_commit_hash", None),
        "is_backbone": not own,
        "dtype": str(model.dtype).removeprefix("torch."),
        "checksum": _checksum(model),
    }


def _checksum(model: PreTrainedModel) -> int:
    """Compute a checksum of the frozen weights of the backbone, whatever layers peft has put around them."""
    weights = {
        name.replace(".base_layer", "").replace(".original_module", ""): weight
        for name, weight in model.named_parameters()
        if name.startswith("backbone.") and not weight.requires_grad
    }
    total = 0
    for _, weight in sorted(weights.items()):
        total = zlib.crc32(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes(), total)
    return total


def read_adapter(file: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """Read an adapter: its LoRA settings as `lora` and its base as `base`, and its tensors.

    Raises:
        ValueError: If the file is damaged or no adapter, or asks for what `save_adapter` does not write.
    """
    try:
        with safe_open(file, "pt") as saved:
            metadata: dict[str, str] = saved.metadata() or {}
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}
    except SafetensorError as error:
        raise ValueError(f"`adapter` must be a whole safetensors file, but {str(file)!r} is not: {error}.") from error
    try:
        found = {part: _checked(json.loads(metadata.get(part, "null")), kinds) for part, kinds in _PARTS.items()}
    except (ValueError, TypeError, RecursionError) as error:  # TypeError: another type
        raise ValueError(f"`adapter` must be a file of `save_adapter`, but {str(file)!r} is not: {error}.") from error
    ranks, sizes = found["lora"]["rank_pattern"], {size for tensor in tensors.values() for size in tensor.shape}
    if set(ranks) != set(found["lora"]["target_modules"]) or not set(ranks.values()) <= sizes:
        raise ValueError(f"`adapter` must have a rank for each of its layers, but {str(file)!r} has {ranks!r:.80}.")
    return found, tensors


_LORA: dict[str, Any] = dict.fromkeys(("use_dora", "use_rslora", "fan_in_fan_out"), bool)
_LORA |= {"r": int, "lora_alpha": int | float, "target_modules": list[str], "rank_pattern": dict[str, int]}
_LORA |= {"alpha_pattern": dict[str, int | float], "bias": Literal["none", "all", "lora_only"]}
_BASE = {"name": str, "revision": str | None, "is_backbone": bool, "dtype": str, "checksum": int}
_PARTS: dict[str, dict[str, Any]] = {"lora": _LORA, "base": _BASE}  # as `save_adapter` writes; peft would take more


def _checked(values: Any, kinds: dict[str, Any]) -> dict[str, Any]:
    """Check that a JSON object has these entries, of these types."""
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        raise ValueError(f"it must have the entries {', '.join(kinds)}, but has {values!r:.80}")
    for name, kind in kinds.items():
        type_validator(name, values[name], kind)
    dtype = getattr(torch, values.get("dtype", "float32"), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"`dtype` must be a floating point type of torch, but is {values['dtype']!r:.80}")
    return values
