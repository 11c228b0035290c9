"""Load a trained model from a folder or the Hub, whole or not at all; and find what a run can be resumed from."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any, cast

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from modeling_crh.configuration_crh import CRHConfig, is_hub_id
from modeling_crh.encoding.inputs import Processor, load_processor
from modeling_crh.modeling_crh import CRHModel

STATISTICS_NAME = "class_statistics.safetensors"
OBJECTIVE_NAME = "objective.safetensors"

# What transformers has been seen to raise on damaged files and on files of another kind.
_LOADING_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    SafetensorError,
    StrictDataclassError,
)


def load_model(name: str | Path, **kwargs: Any) -> CRHModel:
    """A `CRHModel` whose every weight is in the checkpoint; `from_pretrained` alone would make up what is missing.

    Args:
        name: A folder or a Hub id.
        **kwargs: What `from_pretrained` takes.

    Raises:
        ValueError: If there is no such checkpoint, it is of another model, or it is damaged or not whole.
    """
    try:
        if Path(name).is_file():
            raise ValueError("it is a file")
        values, _ = CRHConfig.get_config_dict(name)
        if values.get("model_type") != CRHConfig.model_type:
            raise ValueError(f"its model type is {values.get('model_type')!r}, and not {CRHConfig.model_type!r}")
        model, report = cast(Any, CRHModel.from_pretrained(name, output_loading_info=True, **kwargs))
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if report[problem]:
                raise ValueError(f"its weights do not fit its config, {problem.replace('_', ' ')}: {report[problem]}")
    except _LOADING_ERRORS as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"`checkpoint` must be a CRH model's folder or Hub id, but {str(name)!r} is not: {reason}."
        ) from error
    return cast(CRHModel, model)


def load_checkpoint(name: str | Path) -> tuple[CRHModel, Processor]:
    """A trained model in evaluation mode, and its image processor or tokenizer.

    Args:
        name: A folder or a Hub id.

    Raises:
        ValueError: If there is no such checkpoint, or it is damaged or not whole.
    """
    model = load_model(name)
    try:
        return model, load_processor(name, model.main_input_name)
    except _LOADING_ERRORS as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"`checkpoint` must hold what prepares its inputs, such as preprocessor_config.json, but {str(name)!r} "
            f"does not: {reason}."
        ) from error


def find_last_checkpoint(folder: str | Path) -> str | None:
    """The newest checkpoint in a run's folder that was saved whole, or None if there is none.

    Args:
        folder: The `output_dir` of a run.
    """
    numbered = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    for path in sorted(numbered, key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        if _is_whole(path):
            return str(path)
    return None


def _is_whole(checkpoint: Path) -> bool:
    """Whether training can go on from there; only the heads of files are read."""
    try:
        for name in ("config.json", "trainer_state.json"):
            if not json.loads((checkpoint / name).read_text()):
                return False
        tensors = [STATISTICS_NAME, *(path.name for path in checkpoint.glob("model*.safetensors"))]
        for name in [*tensors, *(path.name for path in checkpoint.glob(OBJECTIVE_NAME))]:
            with safe_open(checkpoint / name, "pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    states = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("rng_state*.pth")]
    return len(tensors) > 1 and len(states) > 2 and all(zipfile.is_zipfile(path) for path in states)


def find_revision(name: str) -> str:
    """The commit of a model that was loaded from the Hub; empty for a folder."""
    config = try_to_load_from_cache(name, "config.json") if is_hub_id(name) else None
    return Path(config).parent.name if isinstance(config, str) else ""  # snapshots/COMMIT/config.json
