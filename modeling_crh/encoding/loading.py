"""Load trained models and backbones, complete or with an error that says what is missing."""

import copy
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from modeling_crh.backbones import Pooling, Tower, has_towers
from modeling_crh.checks import one_reason
from modeling_crh.codebook import choose_length
from modeling_crh.configuration_crh import CRHConfig, is_hub_id
from modeling_crh.data.rows import PLURALS, Kind
from modeling_crh.encoding.adapters import ADAPTER_FILE
from modeling_crh.encoding.inputs import Processor, kind_of, load_processor
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.pretrained import load_pretrained
from modeling_crh.saved_files import WEIGHT_INDEX, read_checked

MODEL_FOLDER = "model"
"""Folder of a run that holds its model."""

_DIGEST = "sha256:"  # of weights in a folder, where a model from the Hub has a commit
_TOWERS: dict[Kind, Tower] = {"image": "vision", "text": "text", "audio": "audio"}

_KINDS_OF_NUMBERS = {"F": "floating", "BF": "floating", "I": "whole", "U": "whole", "BOOL": "bool"}
_LOADING_ERRORS = (OSError, ValueError, LookupError, ImportError, SafetensorError, StrictDataclassError)


def find_model(name: str | Path) -> str | Path:
    """Where the model of a run lies: in the folder `model`; of any other folder or name, there itself."""
    inner = Path(name, MODEL_FOLDER)
    return inner if (inner / "config.json").is_file() and not Path(name, "config.json").is_file() else name


def load_model(name: str | Path, **kwargs: Any) -> CRHModel:
    """Load a `CRHModel` whose every weight is in the checkpoint; `from_pretrained` would make up what is missing.

    A LoRA adapter is merged into the base that it names, which is loaded too.

    Args:
        name: Folder of a run or a checkpoint, or Hub id.
        **kwargs: Arguments of `from_pretrained`; for an adapter `dtype` alone.

    Raises:
        ValueError: If there is no such checkpoint, it is of another model, its weights are damaged or missing, or it
            needs code or a package that is not here.
    """
    place, rule = find_model(name), "`checkpoint` must be a CRH model's folder or Hub id"
    with one_reason(f"{rule}, but {str(name)!r} is not", *_LOADING_ERRORS):
        if Path(name).is_file():
            raise ValueError("it is a file")
        _refuse_unfinished(name)
        if (values := read_checked(place, "config.json")) is None:
            away = "there is no such folder, and the Hub, if it can be reached, has no config.json of it"
            raise ValueError("it has no config.json" if Path(name).exists() else away)
        if values.get("model_type") != CRHConfig.model_type:
            raise ValueError(f"its model type is {values.get('model_type')!r}, and not {CRHConfig.model_type!r}")
        settings = {"ignore_mismatched_sizes": True, "output_loading_info": True} | kwargs  # refused below
        model, report = cast(Any, CRHModel.from_pretrained(place, **settings))
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if report[problem]:
                raise ValueError(f"its weights do not fit its config, {problem.replace('_', ' ')}: {report[problem]}")
        _check_tensors(place, model)
    return cast(CRHModel, model)


def load_checkpoint(name: str | Path, num_bits: int | None = None) -> tuple[CRHModel, Processor]:
    """Load a trained model in evaluation mode, with its image processor or tokenizer.

    Args:
        name: Folder of a run or a checkpoint, or Hub id.
        num_bits: Number of first bits of the codes, see `cut_model`; None keeps all.

    Raises:
        ValueError: If there is no such checkpoint, its weights or its processor are damaged or missing, or it is not
            trained for codes of `num_bits` bits.
    """
    model = cut_model(load_model(name), num_bits)
    rule = "`checkpoint` must hold what prepares its inputs, such as preprocessor_config.json"
    with one_reason(f"{rule}, but {str(name)!r} does not", *_LOADING_ERRORS):
        return model, load_processor(find_model(name), model)


def cut_model(model: CRHModel, num_bits: int | None) -> CRHModel:
    """Make a model of the first bits of the codes of another, in evaluation mode, with which it shares the backbone.

    Of all bits of the codes, which None stands for, it is the model itself.

    Raises:
        ValueError: If the model is not trained for codes of this length.
    """
    kept = choose_length(num_bits, model.config.lengths)
    if kept == model.config.num_bits:
        return model
    config = copy.deepcopy(model.config)
    config.num_bits = kept
    config.prefix_bits = [length for length in config.prefix_bits or () if length < kept] or None
    cut = CRHModel(config, model.backbone)
    nn.Module.to(cut, model.device, model.dtype)
    whole = model.state_dict()
    for name, value in cut.state_dict().items():  # of the head's last layers, the codebook and the assignment, a part
        value.copy_(whole[name][: len(value)] if value.ndim else whole[name])
    return cut.train(False)


def shares_centers(name: str | Path, other: str | Path) -> bool:
    """Whether codes of two models can be compared: one was trained to the centers of the other, or both to a third's.

    Every class of the model with fewer classes must have the same center in both. Each model is named by a folder of
    a run or a checkpoint, or by its Hub id.

    Raises:
        ValueError: If one of the models has fixed centers, and either cannot be loaded.
    """
    if not (_has_fixed_centers(name) or _has_fixed_centers(other)):
        return False
    models = load_model(name), load_model(other)
    centers = [dict(zip(class_names(model), model.centers.cpu(), strict=True)) for model in models]
    fewer, more = sorted(centers, key=len)
    return all(label in more and torch.equal(center, more[label]) for label, center in fewer.items())


def _has_fixed_centers(name: str | Path) -> bool:
    if not Path(name).is_dir() and not is_hub_id(name):
        return False
    _refuse_unfinished(name)
    try:
        return CRHConfig.get_config_dict(find_model(name))[0].get("fixed_centers") is True
    except OSError:
        return False


def class_names(model: CRHModel) -> list[str]:
    """Return the names of the C classes of a model, in the order of their ids."""
    return list(cast(dict[int, str], model.config.id2label).values())


def load_backbone(
    name: str | Path, tower: Tower | None = None, pooling: Pooling | None = None
) -> tuple[PreTrainedModel, Processor]:
    """Load a pretrained backbone in evaluation mode, with its processor; of a CRH model, the backbone inside.

    Args:
        name: Folder or Hub id.
        tower: Tower of a dual encoder, see `CRHConfig`; of a CRH model, None.
        pooling: How the backbone's output becomes one vector, see `CRHConfig`; of a CRH model, None.

    Raises:
        ValueError: If there is no such model, or it has no backbone.
    """
    place, rule = find_model(name), "`backbone` must be the folder or Hub id of a model of images, sounds or texts"
    with one_reason(f"{rule}, but {str(name)!r} is not", *_LOADING_ERRORS):
        _refuse_unfinished(name)
        is_crh = (read_checked(place, "config.json") or {}).get("model_type") == CRHConfig.model_type
        for option, value in (("tower", tower), ("pooling", pooling)):
            if is_crh and value is not None:
                raise ValueError(f"it is a CRH model, whose `{option}` is chosen already")
        backbone = load_model(place).backbone if is_crh else load_pretrained(str(place), tower=tower, pooling=pooling)
        if backbone is None:
            raise ValueError("it reads stored features")
        return backbone, load_processor(place, backbone)


def check_tower(backbone: PreTrainedModel | None, columns: Sequence[str]) -> None:
    """Check that the tower of a dual encoder reads what data hold, by their columns; any other backbone passes.

    Raises:
        ValueError: If another tower reads them.
    """
    if backbone is None or not has_towers(backbone):
        return
    reads = kind_of(backbone)
    held = next((kind for kind in _TOWERS if kind in columns), reads)
    if held != reads:
        raise ValueError(
            f"`tower` must be {_TOWERS[held]!r} for data that hold {PLURALS[held]}, but is {_TOWERS[reads]!r}; "
            f"`--tower {_TOWERS[held]}` chooses it."
        )


def is_digest(revision: str) -> bool:
    """Whether a revision of `find_revision` is the digest of weights in a folder, and no commit."""
    return revision.startswith(_DIGEST)


def find_revision(name: str) -> str:
    """Find the commit of a model that was loaded from the Hub, or the digest of the weights of one in a folder."""
    if is_hub_id(name):
        config = try_to_load_from_cache(name, "config.json")
        return Path(config).parent.name if isinstance(config, str) else ""  # snapshots/COMMIT/config.json
    digest, files = hashlib.sha256(), sorted(Path(find_model(name)).glob("*.safetensors")) if name else []
    for path in files:
        state = path.stat()
        digest.update(_file_digest(path, state.st_size, state.st_mtime_ns))
    return f"{_DIGEST}{digest.hexdigest()[:16]}" if files else ""


@lru_cache(maxsize=64)
def _file_digest(path: Path, size: int, changed: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _refuse_unfinished(name: str | Path) -> None:
    """Refuse the folder of a run that has no model yet, and those in it."""
    folder = Path(name)
    run = folder.parent if folder.name in (MODEL_FOLDER, "checkpoints") else folder
    is_begun = (run / "checkpoints").is_dir() or (run / "recipe.yaml").is_file()
    if is_begun and not any((place / "config.json").is_file() for place in (folder, run, run / MODEL_FOLDER)):
        raise ValueError(f"the training of {str(run)!r} has not ended; its command with `--resume` goes on")


def _check_tensors(place: str | Path, model: CRHModel) -> None:
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
                    wanted = str(own[name].dtype).removeprefix("torch.")
                    raise ValueError(f"its `{name}` must be {wanted}, but is {dtype}")
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
