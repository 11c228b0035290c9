"""Check the files of a checkpoint, where transformers would convert or follow what it finds."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils.hub import cached_file

from modeling_crh.encoding.adapters import ADAPTER_FILE
from modeling_crh.modeling_crh import CRHModel

_TYPES: dict[str, type] = {
    "custom_pipelines": dict,
    "id2label": dict,
    "label2id": dict,
    "image_processor_type": str,
    "dtype": str,
    "quantization_config": dict,
}
"""What transformers takes values of a JSON file to be, without looking at them."""

_KINDS_OF_NUMBERS = {"F": "floating", "BF": "floating", "I": "whole", "U": "whole", "BOOL": "bool"}

_KERNELS = ("attn_implementation", "_attn_implementation")

_SIZE = re.compile("_sizes?$|^num_")  # names of numbers that become shapes of tensors


def check_types(place: str | Path, name: str) -> None:
    """Refuse a JSON file of a checkpoint whose values transformers takes to be of a type without a look.

    Raises:
        ValueError: If the file is no JSON object, one of these values is of another type, a size is negative, or a
            name of an attention is that of a repository.
    """
    file = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
    if file is None:
        return
    values = json.loads(Path(file).read_bytes())
    if not isinstance(values, dict):
        raise ValueError(f"its {name} holds no JSON object")
    for part in _mappings(values):
        for key, value in part.items():
            sizes = value if isinstance(value, list) else [value]
            if _SIZE.search(key) and any(type(size) is int and size < 0 for size in sizes):
                raise ValueError(f"`{key}` in its {name} must not be negative: {value!r:.80}")
        for key, kind in _TYPES.items():
            if part.get(key) is not None and not isinstance(part[key], kind):
                raise ValueError(f"`{key}` in its {name} is no {kind.__name__}: {part[key]!r:.80}")
        for key in _KERNELS:  # transformers would load compiled code from such a repository
            if "/" in str(part.get(key)):
                raise ValueError(f"`{key}` in its {name} names code of a repository: {part[key]!r:.80}")
        dtype = part.get("dtype") or "float32"
        if not isinstance(getattr(torch, dtype.removeprefix("torch."), None), torch.dtype):
            raise ValueError(f"`dtype` in its {name} is no type of torch: {dtype!r:.80}")


def check_tensors(place: str | Path, model: CRHModel) -> None:
    """Refuse weights that a file stores as another kind of number, which transformers converts, and wrong centers.

    Raises:
        ValueError: If a tensor is of another kind, or codebook and assignment make no centers.
    """
    own = model.state_dict()
    for file in _weight_files(place):
        with safe_open(file, "pt") as weights:
            for name in own.keys() & set(weights.keys()):
                dtype = weights.get_slice(name).get_dtype()  # such as BF16
                if _KINDS_OF_NUMBERS.get(dtype.strip("0123456789"), "") != _kind_of_numbers(own[name]):
                    raise ValueError(
                        f"its `{name}` must be {str(own[name].dtype).removeprefix('torch.')}, but is {dtype}"
                    )
    codebook, assignment = own["codebook"], own["assignment"]
    if not (codebook.abs() == 1).all():
        raise ValueError("its `codebook` must hold -1 and +1 only")
    least, most, last = int(assignment.min()), int(assignment.max()), codebook.shape[1] - 1
    if least < 0 or most > last:
        raise ValueError(f"its `assignment` must hold words from 0 to {last}, but holds {least} to {most}")
    room, used = model.config.word_capacity, max(int(torch.bincount(words).max()) for words in assignment)
    if used > room:
        raise ValueError(
            f"its `assignment` must give a word to at most {room} {'class' if room == 1 else 'classes'} of a head, "
            f"but gives one to {used}"
        )


def _weight_files(place: str | Path) -> list[Path]:
    def find(name: str) -> Path | None:
        file = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
        return None if file is None else Path(file)

    index = find("model.safetensors.index.json")
    parts = set(json.loads(index.read_bytes())["weight_map"].values()) if index else {"model.safetensors", ADAPTER_FILE}
    return [file for file in map(find, sorted(parts)) if file is not None]


def _kind_of_numbers(tensor: Tensor) -> str:
    return "floating" if tensor.is_floating_point() else "bool" if tensor.dtype == torch.bool else "whole"


def _mappings(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a JSON object and all objects that stand in it under a name."""
    yield values
    for inner in values.values():
        if isinstance(inner, dict):
            yield from _mappings(inner)
