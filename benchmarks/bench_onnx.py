"""What do onnxruntime and each precision cost and give: equal bits, mAP, bytes and milliseconds, against torch?

Method: the checkpoint that ships, or another, is exported in every precision that `export_onnx` knows; `int8` takes its
ranges from 256 images of the training split, `int8, no images` from every batch anew. All of the bundled sample of
Fashion-MNIST is encoded by torch, from the pixels of the image processor, and by onnxruntime, from images that the
graph normalizes. `equal_bits` is the share of the bits of all 7,000 codes that are torch's, `map` the tie-aware mAP of
its 1,000 queries. `ms` is the median time that a processor works on an image in batches of `--batch-size`, and
`ms_single` that of one alone, of prepared inputs, on one thread each; time in which a busy machine does other things
does not count. All variants and torch answer in turns, after a warm-up, and `ratio` is the median over the rounds of
the time over that of torch, below 1 where it is faster. A convolution in bfloat16 is tried too, and its error given.
`--vit` takes a ViT-S at 224 pixels of random weights instead, and 32 images of each split.

    python benchmarks/bench_onnx.py [--checkpoint DIR] [--batch-size 32] [--rounds 15]
    python benchmarks/bench_onnx.py --vit [--batch-size 16] [--rounds 5]
"""

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
import torch
from bench_encode import small_vit
from datasets import DatasetDict
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn
from transformers import BaseImageProcessor, ViTImageProcessor

from modeling_crh import DEFAULT_CHECKPOINT
from modeling_crh.codes import binarize, pack_codes, unpack_codes
from modeling_crh.data import label_tensor, load_benchmark
from modeling_crh.encoding import labelled_dataset
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.export import export_onnx
from modeling_crh.export.graph import CodesGraph, Precision
from modeling_crh.metrics import average_precision, count_by_distance
from modeling_crh.modeling_crh import CRHModel

TORCH = "torch"
Inputs = NDArray[Any]
Encode = Callable[[Inputs], NDArray[np.uint8]]


def with_torch(model: CRHModel) -> Encode:
    """Return a function from pixels `(N, 3, H, W)` to packed codes."""

    def encode(pixels: Inputs) -> NDArray[np.uint8]:
        with torch.inference_mode():
            logits = model(torch.from_numpy(pixels)).hash_logits
            packed: NDArray[np.uint8] = pack_codes(binarize(logits.float())).numpy()
        return packed

    return encode


def with_onnxruntime(file: Path) -> Encode:
    """Return a function from images `(N, H, W, 3)` to packed codes, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["packed"], {"images": images})[0]


def export_all(model: CRHModel, processor: Any, splits: DatasetDict, folder: Path) -> dict[str, Path]:
    """Files by variant."""
    images = splits["train"].shuffle(seed=0).select(range(256))["image"]
    files = {}
    for precision in get_args(Precision):
        calibration = list(images) if precision == "int8" else None
        path = folder / f"{precision}.onnx"
        files[precision] = export_onnx(model, path, processor=processor, precision=precision, calibration=calibration)
    path = folder / "int8_no_images.onnx"
    files["int8, no images"] = export_onnx(model, path, processor=processor, precision="int8")
    return files


def encode_all(encode: Encode, inputs: Inputs, batch_size: int) -> NDArray[np.uint8]:
    """Packed codes of all inputs."""
    starts = range(0, len(inputs), batch_size)
    return np.concatenate([encode(inputs[start : start + batch_size]) for start in starts])


def time_in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each side, and median over the rounds of its time over torch's; after a warm-up."""
    times = {name: np.zeros(rounds) for name in sides}
    for number in range(-1, rounds):
        for name, run in sides.items():
            start = time.process_time()
            run()
            if number >= 0:
                times[name][number] = 1e3 * (time.process_time() - start)
    return {name: (float(np.median(found)), float(np.median(found / times[TORCH]))) for name, found in times.items()}


def mean_average_precision(packed: NDArray[np.uint8], splits: DatasetDict) -> float:
    """Tie-aware mAP of codes of the queries, followed by those of the database."""
    codes = unpack_codes(torch.from_numpy(packed))
    query, database = (label_tensor(splits[name]) for name in ("query", "database"))
    counts = count_by_distance(codes[: len(query)], codes[len(query) :], query, database)
    return average_precision(counts).mean().item()


def bfloat16_error() -> str | None:
    """Error of onnxruntime for one convolution in bfloat16; None if it runs it."""
    ends = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, None) for name in ("x", "w", "y")]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "bfloat16", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, which have no common class
        return str(error)
    return None


def measure(checkpoint: Path, batch_size: int, rounds: int, most: int | None = None) -> list[dict[str, Any]]:
    """A row a variant, torch first; of the images of a split the first `most`."""
    model, found = load_checkpoint(checkpoint)
    processor = cast(BaseImageProcessor, found)
    splits = load_benchmark("fashion_mnist_sample")
    for name in ("query", "database"):
        splits[name] = splits[name].select(range(most or len(splits[name])))
    graph = CodesGraph(model, processor)
    pixels, images = [], []
    for name in ("query", "database"):
        rows = range(len(splits[name]))
        pixels.append(labelled_dataset(splits[name], processor).inputs(rows)["pixel_values"].numpy())
        images.append(graph.read_images(list(splits[name]["image"]), processor)["images"])
    inputs = {TORCH: np.concatenate(pixels)}
    half = nn.Module.to(copy.deepcopy(model), torch.bfloat16)
    sides: dict[str, Encode] = {TORCH: with_torch(model), "torch, bfloat16": with_torch(half)}
    inputs["torch, bfloat16"] = inputs[TORCH]
    size = (checkpoint / "model.safetensors").stat().st_size
    sizes = {TORCH: size, "torch, bfloat16": size // 2}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in export_all(model, processor, splits, Path(folder)).items():
            sides[name], inputs[name], sizes[name] = with_onnxruntime(file), np.concatenate(images), file.stat().st_size
    packed = {name: encode_all(encode, inputs[name], batch_size) for name, encode in sides.items()}
    batch = time_in_turns({name: partial(sides[name], inputs[name][:batch_size]) for name in sides}, rounds)
    single = time_in_turns({name: partial(sides[name], inputs[name][:1]) for name in sides}, 10 * rounds)
    return [
        {
            "variant": name,
            "equal_bits": round(1 - float(np.unpackbits(packed[name] ^ packed[TORCH]).mean()), 6),
            "map": round(mean_average_precision(packed[name], splits), 4),
            "bytes": sizes[name],
            "ms": round(batch[name][0] / batch_size, 3),
            "ratio": round(batch[name][1], 3),
            "ms_single": round(single[name][0], 3),
            "ratio_single": round(single[name][1], 3),
        }
        for name in sides
    ]


def main() -> None:
    """Print one JSON document: a list with a row for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--vit", action="store_true", help="a ViT-S of random weights instead of a checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.vit:
        with tempfile.TemporaryDirectory() as name:
            small_vit().save_pretrained(name)
            ViTImageProcessor(do_convert_rgb=True).save_pretrained(name)
            rows = measure(Path(name), arguments.batch_size, arguments.rounds, most=32)
    else:
        rows = measure(arguments.checkpoint, arguments.batch_size, arguments.rounds)
    for row in rows:
        print(row)
    rows.append({"variant": "bfloat16 throughout", "error": bfloat16_error()})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
