"""Center-Reassigned Hashing: learn short binary codes from labels, and search by them."""

import importlib
from typing import Any

from transformers import AutoConfig, AutoModel

from .configuration_crh import CRHConfig
from .modeling_crh import CRHModel, CRHModelOutput
from .pipeline_crh import CRHPipeline, register_pipeline

__version__ = "0.1.0"

AutoConfig.register(CRHConfig.model_type, CRHConfig)
AutoModel.register(CRHConfig, CRHModel)
register_pipeline()

# Imported when first asked for: they bring `datasets`, and with it pandas.
_LAZY = {
    "CRHTrainer": "trainer",
    "CRHTrainingArguments": "training_arguments",
    "ReassignCentersCallback": "callbacks",
    "load_benchmark": "data",
    "load_folder": "data",
}

__all__ = ["CRHConfig", "CRHModel", "CRHModelOutput", "CRHPipeline", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
