"""Center-Reassigned Hashing: learn short binary codes from labels, and search by them."""

import importlib
from typing import Any

from .configuration_crh import CRHConfig
from .modeling_crh import CRHModel, CRHModelOutput
from .pipeline_crh import CRHPipeline
from .registration import register

__version__ = "0.1.0"

register()

# Imported when first asked for: they bring `datasets`, and with it pandas.
_LAZY = {
    "CRHTrainer": "training.trainer",
    "CRHTrainingArguments": "training.arguments",
    "ReassignCentersCallback": "training.callbacks",
    "load_benchmark": "data",
    "load_folder": "data",
}

__all__ = ["CRHConfig", "CRHModel", "CRHModelOutput", "CRHPipeline", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
