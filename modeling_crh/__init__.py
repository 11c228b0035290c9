"""Center-Reassigned Hashing: learn short binary codes from labels, and search by them.

Importing it registers the Auto classes and the task "crh-hashing" with transformers.
"""

import importlib
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_crh import CRHConfig
from .modeling_crh import CRHModel, CRHModelOutput
from .pipeline_crh import TASK, CRHPipeline

__version__ = "0.1.0"

DEFAULT_CHECKPOINT = Path(__file__).parent / "checkpoints" / "fashion-mnist-64"
"""Model of 64 bits, trained on all of Fashion-MNIST, that `pipeline("crh-hashing")` loads if none is named."""

AutoConfig.register(CRHConfig.model_type, CRHConfig)
AutoModel.register(CRHConfig, CRHModel)
CRHConfig.register_for_auto_class()  # type: ignore[no-untyped-call]  # so that a saved model has its code beside it
CRHModel.register_for_auto_class("AutoModel")  # type: ignore[no-untyped-call]
PIPELINE_REGISTRY.register_pipeline(
    TASK, CRHPipeline, pt_model=AutoModel, default={"model": (str(DEFAULT_CHECKPOINT), "main")}, type="multimodal"
)

# Imported when first asked for, because they import `datasets`, and with it pandas.
_LAZY = {
    "CRHTrainer": "training.trainer",
    "CRHTrainingArguments": "training.arguments",
    "ReassignCentersCallback": "training.callbacks",
    "load_benchmark": "data",
    "load_splits": "data",
}

__all__ = ["CRHConfig", "CRHModel", "CRHModelOutput", "CRHPipeline", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
