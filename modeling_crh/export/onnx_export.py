"""Write a model as an ONNX file that gives packed codes: what serves them needs onnxruntime, and no torch."""

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import PIL.Image
import torch

try:
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401 - what torch exports with
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"Export needs {error.name}; run `pip install 'modeling-crh[onnx]'`.", name=error.name
    ) from error

from modeling_crh.checks import check_path
from modeling_crh.codes import unpack_codes
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.inputs import Processor
from modeling_crh.encoding.loading import find_revision
from modeling_crh.export.graph import Batch, CodesGraph
from modeling_crh.export.precision import Precision, quantize, quiet_logs, store_halves
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import whole_file

OPSET = 20
_CALIBRATION_BATCH = 32
_MOST_WEIGHTS = 2**31 // 4  # in float32: one file of protobuf holds 2 GB
_NEAR_ZERO = 1e-3  # of the largest hash logit


def export_onnx(
    model: CRHModel,
    path: str | Path,
    *,
    processor: Processor = None,
    pixel_values: bool = False,
    precision: Precision = "float32",
    calibration: Sequence[str | Path | PIL.Image.Image] | None = None,
    model_name: str | None = None,
) -> Path:
    """Write a model as one ONNX file, from its inputs to packed codes, for any batch size.

    The output is `packed`, `(N, K / 8)` uint8. The input is `images`, `(N, H, W, 3)` uint8, which the graph normalizes
    as the processor does; or `input_ids` and `attention_mask`, `(N, T)` int64; or `features`, `(N, num_features)`
    float32. A hash logit that is NaN gives a 0. The file's metadata names the model, its bits and what the images have
    to be like. It appears when it is complete, and has been compared with the model under onnxruntime.

    Args:
        model: Stays as it is; whatever its precision, the graph computes in float32.
        path: A new file in a folder that exists.
        processor: Of the model, where it reads images.
        pixel_values: Read `pixel_values`, `(N, 3, H, W)` float32, which the processor has made, and not `images`.
        precision: `float16` and `bfloat16` store the weights in half the bytes, and compute in float32 nevertheless;
            `int8` computes all layers but the hash head's last in int8.
        calibration: For `int8`: images, some hundreds of all kinds, from which the ranges of activations are taken.
            None takes them from every batch anew, see `quantize`.
        model_name: What the metadata calls the model; None stands for the Hub id that it was loaded from.

    Returns:
        `path`.

    Raises:
        ValueError: If an argument breaks its rule, the model cannot be exported or would be larger than 2 GB, which is
            what one ONNX file holds, or gives other codes under onnxruntime.

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
    if model.num_parameters() >= _MOST_WEIGHTS:
        raise ValueError(f"`model` must have fewer than {_MOST_WEIGHTS:,} weights, but has {model.num_parameters():,}.")
    batches = None if calibration is None else _batches(graph, calibration, processor, precision)
    exported = _trace(graph)
    _compare(graph, exported)
    if precision == "int8":
        exported = quantize(exported, batches)
    elif precision != "float32":
        store_halves(exported, precision)
    metadata = _metadata(model, graph, processor, precision, model_name)
    onnx.helper.set_model_props(exported, metadata)
    with whole_file(target) as partial:
        partial.write_bytes(exported.SerializeToString())
    return target


def check_new_file(path: str | Path) -> Path:
    """Give `path` back if a file can be written there.

    Raises:
        ValueError: If there is something already, or its folder does not exist.
    """
    target = check_path("path", path)
    if target.exists() or target.is_symlink() or not target.parent.is_dir():
        raise ValueError(f"`path` must be a new file in a folder that exists, but got {str(path)!r}.")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"`path` must lie in a folder that may be written to, but got {str(path)!r}.")
    return target


def _batches(graph: CodesGraph, images: Sequence[Any], processor: Any, precision: str) -> list[Batch]:
    """Images as batches of inputs.

    Raises:
        ValueError: If there are none, or nothing that they are for.
    """
    if precision != "int8" or graph.image_size is None or not images:
        raise ValueError(
            "`calibration` must be images, for a model that reads images and `precision` 'int8', but got "
            f"{len(images)} for {precision!r} and a model that reads `{graph.input_names[0]}`."
        )
    starts = range(0, len(images), _CALIBRATION_BATCH)
    return [graph.read_images(images[start : start + _CALIBRATION_BATCH], processor) for start in starts]


def _trace(graph: CodesGraph) -> onnx.ModelProto:
    """The graph in float32, without the paths of this machine that torch writes beside every node."""
    examples = graph.random_inputs(2, seed=0)
    shape = {0: "N", 1: "T"} if "attention_mask" in graph.input_names else {0: "N"}
    try:
        with warnings.catch_warnings(), quiet_logs():
            warnings.simplefilter("ignore")  # about names of axes, and torch's own use of what it calls outdated
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
        reason = _first_line(error.__cause__ or error)
        raise ValueError(f"`model` must be one that torch can export, but is not: {reason}.") from error
    exported: onnx.ModelProto = cast(torch.onnx.ONNXProgram, program).model_proto
    for part in (*exported.graph.node, *exported.graph.value_info, *exported.graph.initializer, exported.graph):
        del part.metadata_props[:]
    return exported


def _compare(graph: CodesGraph, exported: onnx.ModelProto) -> None:
    """Check that onnxruntime gives the codes of the model for a batch of another size than it was traced with."""
    inputs = graph.random_inputs(3, seed=1)
    with torch.inference_mode():
        hash_logits = graph.hash_logits(*inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            exported.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feed = {name: values.numpy() for name, values in zip(graph.input_names, inputs, strict=True)}
        packed = torch.from_numpy(session.run(["packed"], feed)[0])
    except Exception as error:  # onnxruntime's own, which have no common class that it documents
        raise ValueError(f"`model` must be one that onnxruntime can run, but is not: {_first_line(error)}.") from error
    differs = (unpack_codes(packed) > 0) != (hash_logits >= 0)
    if (hash_logits[differs].abs() > _NEAR_ZERO * hash_logits.abs().max()).any():
        raise ValueError("`model` must give the same codes under onnxruntime as under torch, but does not.")


def _metadata(
    model: CRHModel, graph: CodesGraph, processor: Any, precision: str, model_name: str | None
) -> dict[str, str]:
    """What the file says about itself; values that are no words are JSON."""
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


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
