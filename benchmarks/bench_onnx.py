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

`--encode` measures all of `crh encode`, from the listing of a folder of JPEG files to the shards on disk, with that
ViT-S, by torch in bfloat16 and by `--engine onnx`, on one thread that also decodes, in seconds of the processor. Both
take turns after a round that does not count, and who begins changes; `ratio` is the median over rounds of the images a
second of onnx over those of torch, `graph_seconds` the time to make the graph, which they leave out. `map` is of the
checkpoint that ships, on the bundled sample: the codes of both engines, and queries of torch in a database of onnx, as
`crh search` has them.

    python benchmarks/bench_onnx.py [--checkpoint DIR] [--batch-size 32] [--rounds 15]
    python benchmarks/bench_onnx.py --vit [--batch-size 16] [--rounds 5]
    python benchmarks/bench_onnx.py --encode [--images 128] [--batch-size 64] [--rounds 5]
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
import pyarrow.parquet as pq
import torch
from bench_encode import make_images, small_vit
from datasets import DatasetDict
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn
from transformers import BaseImageProcessor, ViTImageProcessor

from modeling_crh import DEFAULT_CHECKPOINT
from modeling_crh.codes import binarize, pack_codes, unpack_codes
from modeling_crh.data import OpenedSource, label_tensor, load_benchmark, open_source
from modeling_crh.encoding import Encoder, encode_source, labelled_dataset
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.encoding.manifest import RECORD_NAME
from modeling_crh.export import export_onnx
from modeling_crh.export.graph import CodesGraph, Precision
from modeling_crh.export.onnx_encoder import OnnxEncoder
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


def encode_into(encoder: Encoder, source: OpenedSource, out: Path) -> tuple[NDArray[np.uint8], float]:
    """Packed codes of a source, and the seconds that they took; of what `out` held before, a graph stays."""
    for file in out.glob("*.parquet"):
        file.unlink()
    (out / RECORD_NAME).unlink(missing_ok=True)
    start = time.process_time()
    encode_source(encoder, source, out, model_name="model")
    seconds = time.process_time() - start
    cells = pq.read_table(sorted(out.glob("*.parquet")))["code"].to_pylist()
    return np.stack([np.frombuffer(code, np.uint8) for code in cells]), seconds


def encode_vit(folder: Path, settings: argparse.Namespace) -> dict[str, Any]:
    """Images a second of `encode_source` by both engines, and the share of bits that are equal."""
    make_images(folder / "images", settings.images, 320)
    source, processor = open_source(folder / "images"), ViTImageProcessor(do_convert_rgb=True)
    loading = {"batch_size": settings.batch_size, "num_workers": 0}
    encoders = {
        "torch": Encoder(small_vit(), processor, dtype="bfloat16", **loading),
        "onnx": OnnxEncoder(small_vit(), processor, **loading),
    }
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    packed = {}
    for number in range(settings.rounds + 1):
        for name in sorted(encoders, reverse=number % 2 == 0):
            packed[name], found = encode_into(encoders[name], source, folder / name)
            seconds[name].append(found)
    ratios = np.divide(seconds["torch"], seconds["onnx"])[1:]
    rates = {name: round(settings.images / float(np.median(found[1:])), 1) for name, found in seconds.items()}
    return {
        "images_per_second": rates,
        "ratio": round(float(np.median(ratios)), 3),
        "ratios": ratios.round(3).tolist(),
        "graph_seconds": round(seconds["onnx"][0] - float(np.median(seconds["onnx"][1:])), 1),
        "equal_bits": round(1 - float(np.unpackbits(packed["torch"] ^ packed["onnx"]).mean()), 5),
    }


def encode_shipped(folder: Path) -> dict[str, Any]:
    """Tie-aware mAP and equal bits of the checkpoint that ships, by both engines, on the bundled sample."""
    splits, packed = load_benchmark("fashion_mnist_sample"), {}
    encoders = {
        "torch": Encoder.load(DEFAULT_CHECKPOINT, dtype="bfloat16"),
        "onnx": OnnxEncoder.load(DEFAULT_CHECKPOINT),
    }
    for name, encoder in encoders.items():
        parts = []
        for split in ("query", "database"):
            source = open_source(splits[split])
            parts.append(encode_into(encoder, source, folder / f"{name} {split}")[0])
        packed[name] = parts
    sides = {
        "torch": packed["torch"],
        "onnx": packed["onnx"],
        "onnx, queries of torch": packed["torch"][:1] + packed["onnx"][1:],
    }
    found = {name: round(mean_average_precision(np.concatenate(parts), splits), 4) for name, parts in sides.items()}
    differs = np.unpackbits(np.concatenate(packed["torch"]) ^ np.concatenate(packed["onnx"])).mean()
    return {"map": found, "equal_bits": round(1 - float(differs), 5)}


def main() -> None:
    """Print one JSON document: a list with a row for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--vit", action="store_true", help="a ViT-S of random weights instead of a checkpoint")
    parser.add_argument("--encode", action="store_true", help="all of `crh encode`, by both of its engines")
    parser.add_argument("--images", type=int, default=128, help="images to encode")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.encode:
        with tempfile.TemporaryDirectory() as name:
            found = {"vit": encode_vit(Path(name), arguments), "shipped": encode_shipped(Path(name))}
        print(json.dumps({"batch_size": arguments.batch_size} | found))
        return
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
