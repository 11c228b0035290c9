"""Export models for other runtimes: ONNX needs the extra `onnx`, sentence-transformers the extra of its name."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeling_crh.export.onnx_export import check_new_file, export_onnx
    from modeling_crh.export.sentence_transformers_export import export_sentence_transformers

__all__ = ["check_new_file", "export_onnx", "export_sentence_transformers"]


def __getattr__(name: str) -> Any:  # so that one format does not need the packages of the other
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "sentence_transformers_export" if name == "export_sentence_transformers" else "onnx_export"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
