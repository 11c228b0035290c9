"""Export a model to an ONNX file that computes packed codes, to be served by onnxruntime without torch."""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import torch

from modeling_crh.checks import first_line, needs_extra

with needs_extra("Export", "onnx"):
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401 - torch exports with it

from modeling_crh.checks import check_path
from modeling_crh.codes import check_same_codes
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.inputs import Processor
from modeling_crh.encoding.loading import find_revision
from modeling_crh.export.graph import Batch, CodesGraph, Precision, quantize, quiet_logs, store_halves
from modeling_crh.images import ImageSource
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import whole_file

OPSET = 20
_CALIBRATION_BATCH = 32
_MOST_WEIGHTS = 2**31 // 4  # a protobuf file holds 2 GB, in float32


def export_onnx(
    model: CRHModel,
    path: str | Path,
    *,
    processor: Processor = None,
    pixel_values: bool = False,
    precision: Precision = "float32",
    calibration: Sequence[ImageSource] | None = None,
    model_name: str | None = None,
) -> Path:
    """Write a model as one ONNX file, from its inputs to packed codes, for any batch size.

    The output is `packed`, `(N, K / 8)` uint8. The input is `images`, `(N, H, W, 3)` uint8, which the graph normalizes
    like the processor; or `input_ids` and `attention_mask`, `(N, T)` int64; or `features`, `(N, num_features)` float32.
    The bit of a NaN hash logit is 0. The metadata of the file name the model, its bits and the size and normalization
    of images. The file is written only after its codes were compared with those of the model.

    Args:
        model: Model to export, which is not changed; the graph computes in float32, regardless of the model's dtype.
        path: Path of a new file, in a folder that exists.
        processor: Image processor of a model that reads images.
        pixel_values: Whether to read `pixel_values`, `(N, 3, H, W)` float32, from the processor instead of `images`.
        precision: `float16` and `bfloat16` store weights in half the bytes and compute in float32; `int8` computes all
            layers but the last of the hash head in int8.
        calibration: Some hundred images of all kinds, which give the ranges of activations for `int8`. None takes the
            ranges from every batch, see `quantize`.
        model_name: Name of the model in the metadata; None takes the Hub id that it was loaded from.

    Returns:
        Path of the file.

    Raises:
        ValueError: If an argument has a value that its rule does not allow, or the model cannot be exported, exceeds
            the 2 GB of an ONNX file, or computes other codes under onnxruntime.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from modeling_crh import CRHConfig
        >>> model = CRHModel(CRHConfig(backbone_config=None, num_features=4, num_labels=3, num_bits=16))
        >>> with TemporaryDirectory() as folder:
        ...     session = onnxruntime.InferenceSession(export_onnx(model, f"{folder}/model.onnx"))
        >>> session.run(["packed"], {"features": torch.ones(5, 4).numpy()})[0].shape
        (5, 2)
    """
    target = check_new_file(path)
    if precision not in get_args(Precision):
        raise ValueError(f"`precision` must be one of {', '.join(get_args(Precision))}, but got {precision!r}.")
    graph = CodesGraph(model, processor, pixel_values=pixel_values)
    batches = None if calibration is None else _batches(graph, calibration, processor, precision)
    exported = exported_graph(graph, precision, batches)
    onnx.helper.set_model_props(exported, _metadata(model, graph, processor, precision, model_name))
    with whole_file(target) as partial:
        partial.write_bytes(exported.SerializeToString())
    return target


def exported_graph(graph: CodesGraph, precision: Precision, batches: Sequence[Batch] | None) -> onnx.ModelProto:
    """Export a graph in a precision, after its codes in float32 were compared with those of the model.

    The `batches` give the ranges of activations for `int8`, see `quantize`.

    Raises:
        ValueError: If the model cannot be exported, exceeds the 2 GB of an ONNX file, or computes other codes under
            onnxruntime.
    """
    size = graph.model.num_parameters()
    if size >= _MOST_WEIGHTS:
        raise ValueError(f"`model` must have fewer than {_MOST_WEIGHTS:,} weights, but has {size:,}.")
    exported = _trace(graph)
    _compare(graph, exported)
    if precision == "int8":
        return quantize(exported, batches)
    if precision != "float32":
        store_halves(exported, precision)
    return exported


def cpu_session(graph: bytes, num_threads: int = 0) -> Any:
    """Open a serialized graph to be run on the CPU; 0 threads are one per core."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, num_threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@contextmanager
def refused_by_onnxruntime(rule: str) -> Iterator[None]:
    """Turn an error of onnxruntime into a `ValueError` that begins with `rule`."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):  # its errors have no base class of their own
            raise
        raise ValueError(f"{rule}: {first_line(error)}.") from error


def check_new_file(path: str | Path) -> Path:
    """Check that a new file can be written to `path`, and return it as a `Path`.

    Raises:
        ValueError: If the file exists, or its folder does not exist or is read-only.
    """
    target = check_path("path", path)
    if target.exists() or target.is_symlink() or not target.parent.is_dir():
        raise ValueError(f"`path` must be a new file in a folder that exists, but got {str(path)!r}.")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"`path` must lie in a folder that may be written to, but got {str(path)!r}.")
    return target


def _batches(graph: CodesGraph, images: Sequence[Any], processor: Any, precision: str) -> list[Batch]:
    """Prepare images for calibration, in batches of inputs."""
    if precision != "int8" or graph.image_size is None or not images:
        raise ValueError(
            "`calibration` must be images, for a model that reads images and `precision` 'int8', but got "
            f"{len(images)} for {precision!r} and a model that reads `{graph.input_names[0]}`."
        )
    starts = range(0, len(images), _CALIBRATION_BATCH)
    return [graph.read_images(images[start : start + _CALIBRATION_BATCH], processor) for start in starts]


def _trace(graph: CodesGraph) -> onnx.ModelProto:
    """Export the graph in float32, without the local paths that torch writes into every node."""
    examples = graph.random_inputs(2, seed=0)
    shape = {0: "N", 1: "T"} if "attention_mask" in graph.input_names else {0: "N"}
    try:
        with warnings.catch_warnings(), quiet_logs():
            warnings.simplefilter("ignore")  # names of axes, and torch's own use of deprecated functions
            program = torch.onnx.export(
                graph,
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=graph.input_names,
                output_names=["packed"],
                dynamic_shapes=(tuple(shape for _ in examples),),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = first_line(error.__cause__ or error)
        raise ValueError(f"`model` must be one that torch can export, but is not: {reason}.") from error
    exported: onnx.ModelProto = cast(torch.onnx.ONNXProgram, program).model_proto
    for part in (*exported.graph.node, *exported.graph.value_info, *exported.graph.initializer, exported.graph):
        del part.metadata_props[:]
    return exported


def _compare(graph: CodesGraph, exported: onnx.ModelProto) -> None:
    """Check that onnxruntime computes the codes of the model, for another batch size than in the trace."""
    inputs = graph.random_inputs(3, seed=1)
    with torch.inference_mode():
        hash_logits = graph.hash_logits(*inputs)
    with refused_by_onnxruntime("`model` must be one that onnxruntime can run, but is not"):
        session = cpu_session(exported.SerializeToString())
        feed = {name: values.numpy() for name, values in zip(graph.input_names, inputs, strict=True)}
        packed = session.run(["packed"], feed)[0]
    check_same_codes(packed, hash_logits, "onnxruntime")


def _metadata(
    model: CRHModel, graph: CodesGraph, processor: Any, precision: str, model_name: str | None
) -> dict[str, str]:
    """Make the metadata of the file; values other than strings are written as JSON."""
    loaded_from = model.config._name_or_path
    metadata = {
        "model": model_name or (loaded_from if is_hub_id(loaded_from) else ""),
        "revision": find_revision(loaded_from),
        "num_bits": str(model.config.num_bits),
        "precision": precision,
    }
    if graph.image_size is not None:
        settings = json.loads(processor.to_json_string())
        metadata["image_size"] = json.dumps(graph.image_size)
        metadata |= {name: json.dumps(settings.get(name)) for name in ("image_mean", "image_std")}
        metadata["image_processor"] = json.dumps(settings)
    return metadata
