"""Check the weights of a checkpoint, which transformers would convert to what the config says."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils.hub import cached_file

from modeling_crh.encoding.adapters import ADAPTER_FILE
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.saved_files import WEIGHT_INDEX, read_checked

_KINDS_OF_NUMBERS = {"F": "floating", "BF": "floating", "I": "whole", "U": "whole", "BOOL": "bool"}


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
    index = read_checked(place, WEIGHT_INDEX)
    parts = {"model.safetensors", ADAPTER_FILE} if index is None else set(index["weight_map"].values())
    found = [cached_file(place, name, _raise_exceptions_for_missing_entries=False) for name in sorted(parts)]
    return [Path(file) for file in found if file is not None]


def _kind_of_numbers(tensor: Tensor) -> str:
    return "floating" if tensor.is_floating_point() else "bool" if tensor.dtype == torch.bool else "whole"
