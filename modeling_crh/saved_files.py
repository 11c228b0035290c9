"""Check the JSON files of a checkpoint before transformers reads them, which takes what they say for granted."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.utils.hub import cached_file

from .configuration_crh import MOST_LABELS, is_hub_id

FINDING_ARGUMENTS = "revision token cache_dir local_files_only force_download subfolder".split()
"""Arguments of `from_pretrained` that find the files of a model."""

WEIGHT_INDEX = "model.safetensors.index.json"

_TYPES: dict[str, type] = {
    **dict.fromkeys(("auto_map", "custom_pipelines", "id2label", "label2id", "quantization_config"), dict),
    **dict.fromkeys(("image_processor", "feature_extractor", "added_tokens_decoder"), dict),
    **dict.fromkeys(("image_processor_type", "feature_extractor_type", "processor_class", "tokenizer_class"), str),
    **dict.fromkeys(("model_type", "dtype", "prompt"), str),
    "num_labels": int,
}
"""What transformers takes values of a JSON file to be, without looking at them."""

_KERNELS = {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}

_DEEPEST = 50  # transformers copies values in as many steps

# Numbers that become shapes of tensors, the last two also -1, and loops over layers; torch fails on some beyond.
_SIZE = re.compile(r"(?<!chunk)_sizes?$|^num_(?!images$)")
_NEVER_ZERO = re.compile(r"^((image|patch|hidden)_size|num_channels|num_attention_heads)$")
_LAYERS = re.compile(r"layers?$|^depths?$|blocks$")
_LARGEST, _MOST_LAYERS = 2**24, 10_000


def check_checkpoint(place: Any, **settings: Any) -> None:
    """Check the config of a checkpoint, and the names of the files of its weights.

    The place is a folder or Hub id, or None for a model without one. Of the arguments of `from_pretrained`, `settings`,
    those that find the files are used.

    Raises:
        ValueError: If a file asks for a pickle, a file in another folder or code of a repository, or a value breaks a
            rule of `read_checked`.
        OSError: If there is no such checkpoint.
    """
    if place is None:
        return
    finding = {name: settings[name] for name in FINDING_ARGUMENTS if name in settings}
    config = read_checked(place, "config.json", **finding) or {}
    if (named := config.get("transformers_weights")) is None:
        named = WEIGHT_INDEX
    if not isinstance(named, str) or not named.endswith((".safetensors", ".safetensors.index.json")):
        raise ValueError(f"`transformers_weights` must name a safetensors file, but got {named!r:.80}")
    for name in dict.fromkeys((WEIGHT_INDEX, named)):  # without the Hub, each question takes half a minute
        index = read_checked(place, name, **finding) if name.endswith(".json") else None
        files = {} if index is None else index.get("weight_map")
        if not isinstance(files, dict) or not all(_is_beside(file) for file in files.values()):
            raise ValueError(f"`weight_map` in its {name} must name safetensors files beside it, but does not")


def read_checked(place: str | Path, name: str, **finding: Any) -> dict[str, Any] | None:
    """Read a JSON file of a checkpoint, and check its values; None without such a file.

    The place is a folder or Hub id, and `finding` are some of `FINDING_ARGUMENTS`.

    Raises:
        ValueError: If the file is no JSON object, a value is of another type than transformers takes it to have, a size
            or a number of layers is out of range, or a value leads to code or weights elsewhere.
        FileNotFoundError: If there is no such folder.
        OSError: If there is no such checkpoint on the Hub.
    """
    if not is_hub_id(str(place)) and not Path(place).exists():
        raise FileNotFoundError("there is no such folder")
    if (file := cached_file(place, name, _raise_exceptions_for_missing_entries=False, **finding)) is None:
        return None
    try:
        values = json.loads(Path(file).read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"its {name} holds no JSON object")
        for part in _mappings(values):
            for key, value in part.items():
                if (fault := _fault(key, value)) is not None:
                    raise ValueError(f"`{key}` in its {name} {fault}: {value!r:.80}")
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"its {name} holds no JSON object: {error}") from error
    except RecursionError as error:
        raise ValueError(f"its {name} is nested too deeply") from error
    return values


def _is_beside(file: Any) -> bool:
    return isinstance(file, str) and re.fullmatch(r"[^/\\]+\.safetensors", file) is not None


def _mappings(values: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield all objects in a JSON value, but for those whose keys are classes."""
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(values, dict):
        yield values
        values = [inner for name, inner in values.items() if name not in ("id2label", "label2id")]
    for inner in values if isinstance(values, list) else ():
        if isinstance(inner, dict | list):
            yield from _mappings(inner, depth + 1)


def _fault(key: str, value: Any) -> str | None:
    """Say what is wrong with a value, if anything is."""
    kind = _TYPES.get(key)
    numbers = [one for one in (value if isinstance(value, list) else [value]) if type(one) is int]
    if value is None:
        return None
    if kind is not None and not isinstance(value, kind):
        return f"is no {kind.__name__}"
    if key.startswith("__") or callable(getattr(PreTrainedConfig, key, None)):  # it would take the place of a method
        return "is no field"
    if key == "num_labels" and value > MOST_LABELS:
        return f"must be at most {MOST_LABELS}"
    if key == "dtype" and not isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype):
        return "is no type of torch"
    if _LAYERS.search(key) and max(numbers, default=0) > _MOST_LAYERS:
        return f"must be at most {_MOST_LAYERS}"
    smallest = int(_NEVER_ZERO.search(key) is not None)
    if _SIZE.search(key) and not all(smallest <= size <= _LARGEST for size in numbers):
        return f"must be between {smallest} and {_LARGEST}"
    if key in _KERNELS and (not isinstance(value, str | dict) or "/" in str(value)):  # compiled code
        return "names code of a repository"
    if key in ("architecture", "backbone") and isinstance(value, str) and ":" in value:  # timm's hf-hub:org/model
        return "names another model"
    if key == "model_args" and isinstance(value, dict) and "checkpoint_path" in value:  # timm would read a pickle
        return "names a file of weights"
    return None
