"""Export models as files for other runtimes; needs the extra `onnx`."""

from modeling_crh.export.onnx_export import check_new_file, export_onnx

__all__ = ["check_new_file", "export_onnx"]
