"""Make ONNX files smaller: store weights in half the bytes, or compute layers in int8."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from modeling_crh.export.graph import Batch

Precision = Literal["float32", "float16", "bfloat16", "int8"]

_HALVES = {
    "float16": (torch.float16, TensorProto.FLOAT16),
    "bfloat16": (torch.bfloat16, TensorProto.BFLOAT16),
}
_LAYERS = ["Conv", "Gemm", "MatMul", "Relu"]  # not "Add": the sums of a transformer's residuals lose bits
_QUANTIZED = {"DynamicQuantizeLinear", "QuantizeLinear"}


def store_halves(graph: onnx.ModelProto, precision: str) -> None:
    """Store the weight matrices of a graph in `float16` or `bfloat16`; it casts them and computes in float32.

    Args:
        graph: Graph in float32, which is changed.
        precision: `float16` or `bfloat16`.

    Raises:
        ValueError: If a weight is too large for float16.
    """
    dtype, onnx_type = _HALVES[precision]
    casts = []
    for weight in graph.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or len(weight.dims) < 2:
            continue
        values = torch.from_numpy(numpy_helper.to_array(weight).copy()).to(dtype)
        if not torch.isfinite(values).all():
            raise ValueError(f"`precision` must be another than {precision!r}, which does not hold all weights.")
        name = weight.name
        raw = values.view(torch.int16).numpy().tobytes()
        weight.CopyFrom(helper.make_tensor(f"{name}_{precision}", onnx_type, weight.dims, raw, raw=True))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def quantize(graph: onnx.ModelProto, batches: Sequence[Batch] | None) -> onnx.ModelProto:
    """Compute convolutions and matrix products in int8, except the last of the hash head, whose signs are the code.

    Args:
        graph: Graph in float32.
        batches: Inputs that give the ranges of activations. None takes the ranges from every batch: convolutions are
            then slower than in float32, and the code of an item depends on its batch.

    Raises:
        ValueError: If there is no other such layer.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    last = [node.name for node in graph.graph.node if node.op_type in ("Gemm", "MatMul")][-1]
    excluded = [last, f"{last}_MatMul"]  # its name after onnxruntime has split it
    settings: dict[str, Any] = {"op_types_to_quantize": _LAYERS, "nodes_to_exclude": excluded}
    with TemporaryDirectory() as folder, quiet_logs():
        target = Path(folder, "int8.onnx")
        if batches is None:
            quantize_dynamic(graph, target, weight_type=QuantType.QUInt8, **settings)
        else:
            quantize_static(
                graph,
                target,
                _reader(batches),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
                **settings,
            )
        quantized = onnx.load(target)
    if not any(node.op_type in _QUANTIZED for node in quantized.graph.node):
        raise ValueError("`precision` must not be 'int8' for this model, which has no layer but its hash head's last.")
    return quantized


def _reader(batches: Sequence[Batch]) -> Any:
    """Wrap the batches for the calibration of onnxruntime."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(batches)

        def get_next(self) -> Batch | None:
            return next(self._left, None)

    return Reader()


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Silence the logs of torch's exporter and onnxruntime's quantization."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
