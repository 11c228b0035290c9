"""Center-Reassigned Hashing: learn short binary codes from labels, and search by them.

Importing it registers the Auto classes and the task "crh-hashing" with transformers.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeling_crh.configuration_crh import CRHConfig
    from modeling_crh.data import load_benchmark, load_splits
    from modeling_crh.modeling_crh import CRHModel, CRHModelOutput
    from modeling_crh.pipeline_crh import CRHPipeline
    from modeling_crh.training.arguments import CRHTrainingArguments
    from modeling_crh.training.callbacks import ReassignCentersCallback
    from modeling_crh.training.recipe import MODEL_PRESETS
    from modeling_crh.training.trainer import CRHTrainer

__version__ = "0.1.0"

DEFAULT_CHECKPOINT = Path(__file__).parent / "checkpoints" / "fashion-mnist-64"
"""Model of 64 bits, trained on all of Fashion-MNIST, that `pipeline("crh-hashing")` loads if none is named."""

# Imported when first asked for: the trainer imports `datasets`, and with it pandas.
_MODULES = {
    "CRHConfig": "configuration_crh",
    "CRHModel": "modeling_crh",
    "CRHModelOutput": "modeling_crh",
    "CRHPipeline": "pipeline_crh",
    "CRHTrainer": "training.trainer",
    "CRHTrainingArguments": "training.arguments",
    "MODEL_PRESETS": "training.recipe",
    "ReassignCentersCallback": "training.callbacks",
    "load_benchmark": "data",
    "load_splits": "data",
}

__all__ = [
    "MODEL_PRESETS",
    "CRHConfig",
    "CRHModel",
    "CRHModelOutput",
    "CRHPipeline",
    "CRHTrainer",
    "CRHTrainingArguments",
    "ReassignCentersCallback",
    "load_benchmark",
    "load_splits",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "modeling_crh_command" not in sys.modules:  # `crh` registers when a command runs, so that its help needs no torch
    importlib.import_module(".registration", __name__)
