"""Build the graph to export: images, texts or features in, packed codes out, in any precision and batch size."""

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Literal, cast

import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from transformers import BaseImageProcessor

from modeling_crh.encoding.inputs import Processor
from modeling_crh.images import ImageSource, needed_side, pixel_values, read_image
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.processors import whole_length

Batch = dict[str, NDArray[Any]]

_SHAPES = (32, 48), (48, 32)  # images of these sizes must come out in one size


class CodesGraph(nn.Module):
    """A copy of a model in float32 on the CPU, with normalization before it, and signs and packing after it.

    Args:
        model: Model to export, which is not changed.
        processor: Image processor of a model that reads images.
        pixel_values: Whether to read `pixel_values` from the processor instead of `images`.

    Attributes:
        input_names: `images`, `(N, H, W, 3)` uint8; or `pixel_values`, `(N, 3, H, W)` float32; or `input_ids` and,
            unless texts have one length, `attention_mask`, `(N, T)` int64; or `features`, `(N, num_features)` float32.
        image_size: Height and width that the processor resizes to; None for a model that reads no images.
        text_length: Number of tokens that every text is padded to; None for a model of texts of any length.

    Raises:
        ValueError: If the model reads sound; or the processor is missing, makes images of several sizes, or, without
            `pixel_values`, does more than normalize an image of the right size.
    """

    def __init__(self, model: CRHModel, processor: Processor = None, *, pixel_values: bool = False) -> None:
        super().__init__()
        if not isinstance(model, CRHModel):
            raise ValueError(f"`model` must be a CRHModel, but got {type(model).__name__}.")
        reads = model.main_input_name
        if reads in ("input_values", "input_features"):
            raise ValueError(f"`model` must read images, texts or features to be exported, but reads `{reads}`.")
        if pixel_values and reads != "pixel_values":
            raise ValueError(f"`pixel_values` must be False for a model that reads `{reads}`, but is True.")
        self.input_names = [reads]
        self.image_size: tuple[int, int] | None = None
        self.normalization: tuple[Tensor, Tensor] | None = None
        self.text_length = whole_length(model) if reads == "input_ids" else None
        if reads == "input_ids" and self.text_length is None:
            self.input_names.append("attention_mask")
        if reads == "pixel_values":
            if not isinstance(processor, BaseImageProcessor):
                found = type(processor).__name__
                raise ValueError(f"`processor` must be the model's image processor, but got {found}.")
            self.image_size = resized_size(processor)
            if not pixel_values:
                self.input_names = ["images"]
                self.normalization = _normalization(processor, self.image_size)
        self.register_buffer("places", 2 ** torch.arange(7, -1, -1, dtype=torch.int32), persistent=False)
        self.model = copy.deepcopy(model)
        nn.Module.to(self.model, "cpu", torch.float32)
        if model.backbone is not None:
            self.model.set_attn_implementation("eager")  # torch cannot trace Swin's fused attention with any batch size
        self.eval()

    def hash_logits(self, *inputs: Tensor) -> Tensor:
        """Compute the hash logits `(N, K)` of the inputs, in the order of `input_names`."""
        given = dict(zip(self.input_names, inputs, strict=True))
        if self.normalization is not None:
            mean, std = self.normalization
            pixels = given.pop("images").permute(0, 3, 1, 2).contiguous().to(torch.float32)
            given["pixel_values"] = (pixels - mean) / std
        return cast(Tensor, self.model(**given).hash_logits)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute packed codes, `(N, K / 8)` uint8, as `binarize` and `pack_codes` do."""
        bits = (self.hash_logits(*inputs) >= 0).to(torch.int32).unflatten(1, (-1, 8))  # (N, K / 8, 8)
        packed: Tensor = (bits * self.get_buffer("places")).sum(-1)
        return packed.to(torch.uint8)

    def random_inputs(self, size: int, seed: int) -> tuple[Tensor, ...]:
        """Draw inputs of `size` items; the last of several texts is shorter than the others."""
        generator = torch.Generator().manual_seed(seed)
        config: Any = self.model.config
        if self.image_size is None and config.backbone_config is None:
            return (torch.randn(size, config.num_features, generator=generator),)
        if self.image_size is None:
            text_config = getattr(config.backbone_config, "text_config", config.backbone_config)
            length = self.text_length or 4 + size
            ids = torch.randint(text_config.vocab_size, (size, length), generator=generator)
            mask = torch.ones_like(ids)
            mask[-1, length // 2 :] = 0
            return (ids, mask) if self.text_length is None else (ids,)
        height, width = self.image_size
        if self.normalization is None:
            return (torch.randn(size, 3, height, width, generator=generator),)
        return (torch.randint(256, (size, height, width, 3), generator=generator, dtype=torch.uint8),)

    def read_images(self, images: Sequence[ImageSource], processor: BaseImageProcessor) -> Batch:
        """Prepare images as an input of the graph, by name; the graph itself normalizes `images`.

        Raises:
            ValueError: If an image cannot be read.
        """
        side = needed_side(processor)
        decoded = [torch.from_numpy(read_image(image, side)).permute(2, 0, 1) for image in images]
        if self.normalization is None:
            return {self.input_names[0]: pixel_values(processor, decoded).contiguous().numpy()}
        pixels = pixel_values(processor, decoded, do_rescale=False, do_normalize=False).to(torch.uint8)
        return {self.input_names[0]: pixels.permute(0, 2, 3, 1).contiguous().numpy()}


def resized_size(processor: BaseImageProcessor) -> tuple[int, int]:
    """Find the height and width that a processor resizes every image to.

    Raises:
        ValueError: If images of different shapes get different sizes.
    """
    sizes = [pixel_values(processor, [torch.zeros(3, *shape, dtype=torch.uint8)]).shape[-2:] for shape in _SHAPES]
    if len(set(sizes)) > 1:
        raise ValueError(f"`processor` must make all images the same size, but makes {[*sizes[0]]} and {[*sizes[1]]}.")
    return sizes[0][0], sizes[0][1]


def _normalization(processor: BaseImageProcessor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation `(3, 1, 1)` on the scale from 0 to 255, checked against the processor bit for bit."""
    settings = json.loads(processor.to_json_string())
    scale = torch.tensor(1.0 / settings["rescale_factor"] if settings.get("do_rescale") else 1.0)
    mean, std = torch.zeros(3), torch.ones(3)
    if settings.get("do_normalize"):
        mean, std = torch.tensor(settings["image_mean"]), torch.tensor(settings["image_std"])
    mean, std = (mean * scale).view(3, 1, 1), (std * scale).view(3, 1, 1)
    pixels = (torch.arange(3 * size[0] * size[1]).view(3, *size) % 256).to(torch.uint8)
    found = pixel_values(processor, [pixels], do_resize=False, do_center_crop=False)[0]
    if not torch.equal(found, (pixels.float() - mean) / std):
        raise ValueError(
            "`processor` must do no more than resize, crop and normalize for a graph that reads images, but does; "
            "export one that reads `pixel_values`."
        )
    return mean, std


Precision = Literal["float32", "float16", "bfloat16", "int8"]

_HALVES = {"float16": (torch.float16, TensorProto.FLOAT16), "bfloat16": (torch.bfloat16, TensorProto.BFLOAT16)}
_LAYERS = ["Conv", "Gemm", "MatMul", "Relu"]  # not "Add": the sums of a transformer's residuals lose bits
_QUANTIZED = {"DynamicQuantizeLinear", "QuantizeLinear"}


def store_halves(graph: onnx.ModelProto, precision: str) -> None:
    """Store the weight matrices of a float32 graph, in place, in `float16` or `bfloat16`; it still computes in float32.

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
    """Quantize convolutions and matrix products to int8, except the last of the hash head, whose signs are the code.

    Args:
        graph: Graph in float32.
        batches: Inputs that give the ranges of activations. None takes the ranges from every batch: convolutions are
            then slower than in float32, and the code of an item depends on its batch.

    Raises:
        ValueError: If no layer can be quantized.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    last = [node.name for node in graph.graph.node if node.op_type in ("Gemm", "MatMul")][-1]
    excluded = [last, f"{last}_MatMul"]  # the name after onnxruntime splits the layer
    settings: dict[str, Any] = {"op_types_to_quantize": _LAYERS, "nodes_to_exclude": excluded}
    del graph.graph.value_info[:]  # of weights too with torch 2.11, which onnxruntime transposes
    with TemporaryDirectory() as folder, quiet_logs():
        target = Path(folder, "int8.onnx")
        if batches is None:
            quantize_dynamic(graph, target, weight_type=QuantType.QUInt8, **settings)
        else:
            quantize_static(
                graph,
                target,
                SimpleNamespace(get_next=partial(next, iter(batches), None)),  # all that a CalibrationDataReader does
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


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Silence the logs of torch's exporter and onnxruntime's quantization."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
