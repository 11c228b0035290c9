"""What do training, encoding, figures and reassignment cost on this GPU, and how many bits differ from a CPU's?

Method: a ViT-B/16 at 224 px of random weights, 64 bits, in the parts that `--parts` names:

- `step`: CRHTrainer and transformers' own Trainer, with a linear classifier, train in bfloat16 in batches of 128, on
  noise from memory, with as many workers. They take turns by the run; the first turn and the first steps of each do not
  count. CRHTrainer reassigns every 32 steps. `ratio` is its seconds over those of Trainer, the median over the turns.
- `encode`: `encode_source` with `--dtype auto`, and again with `--compile`, against the loop by hand of bench_encode in
  the same precision. Both read JPEG files. Then ours reads pixels of the model's size from memory, which workers still
  preprocess, while the loop gets batches that are ready and pinned: what the card can do at most. The first turn, which
  compiles, does not count; `ratio` is our images a second over the loop's.
- `figures`: all retrieval figures and the asymmetric mAP at COCO's size, of codes and labels that lie on the GPU or on
  the CPU, which counts them in both cases.
- `reassign`: the cases of bench_assignment, with statistics, codebook and assignment on the GPU.
- `bits`: share of the bits of 512 images that are equal to the CPU's in float32, for float32 and bfloat16 on the GPU.

It is made for one H100, where it should take less than 8 minutes. `--tiny` runs all of it in small, also without a GPU,
in less than a minute; its seconds say nothing. Each part is printed to standard error as it ends.

    python benchmarks/gpu.py [--parts step,encode,figures,reassign,bits] [--num-workers 8] [--tiny]
"""

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import accelerate
import numpy as np
import torch
import transformers
from bench_assignment import cases
from bench_assignment import measure as measure_reassignment
from bench_encode import bare_loop, decoded, finish, make_images, ours
from bench_metrics import draw, draw_labels, our_figures, seconds_of
from bench_training_step import VIT_TI, build_trainers
from numpy.typing import NDArray
from transformers import Trainer, TrainerCallback, ViTConfig, ViTImageProcessor

import modeling_crh
from modeling_crh import CRHConfig, CRHModel
from modeling_crh.codes import binarize
from modeling_crh.data import OpenedSource, Row, open_source
from modeling_crh.encoding import run_batches
from modeling_crh.encoding.encoder import DType, place_model
from modeling_crh.metrics import asymmetric_average_precision
from modeling_crh.runtime.processes import choose_workers, count_cores, own_state
from modeling_crh.runtime.terminal import silenced

ROUNDS, FIRST_STEPS = 3, 8


@dataclass(frozen=True)
class Sizes:
    """Sizes of the parts; `side` is that of the JPEG files, `steps` those of a run that count."""

    vit: dict[str, Any]
    batch_size: int
    step_labels: int
    steps: int
    images: int
    side: int
    queries: int
    database: int
    labels: tuple[int, ...]
    compared: int
    num_workers: int = 0


WHOLE = Sizes({}, 128, 100, 64, 4096, 320, 5_000, 117_000, (10_000, 100_000), 512)
TINY = Sizes(VIT_TI | {"num_hidden_layers": 2, "image_size": 32}, 8, 4, 8, 32, 48, 100, 2_000, (50, 100), 32)


@dataclass(frozen=True)
class Pixels(OpenedSource):
    """A source whose images are taken from memory, by the numbers of its rows."""

    pixels: NDArray[np.uint8] = dataclasses.field(kw_only=True)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Yield the rows with `(H, W, 3)` pixels in the place of their files."""
        for row in super().rows(start, stop):
            yield row._replace(value=self.pixels[cast(int, row.id)])


class Clock(TrainerCallback):
    """Measures the seconds of runs but for their first steps."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start where the first steps end."""
        if state.global_step == FIRST_STEPS:
            finish()
            self.started = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        finish()
        self.seconds = time.perf_counter() - self.started

    def time(self, trainer: Trainer) -> float:
        """Seconds of one run of a trainer that has this callback."""
        trainer.train()
        return self.seconds


def take_turns(sides: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run all sides in turn, once more than counts, and begin with another one in every round."""
    found: dict[str, list[float]] = {side: [] for side in sides}
    order = list(sides)
    for number in range(ROUNDS + 1):
        for side in order:
            value = sides[side]()
            if number:
                found[side].append(value)
        order.append(order.pop(0))
    return found


def ratio(one: list[float], other: list[float]) -> float:
    """Median over the rounds."""
    return round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 4)


def vit_model(sizes: Sizes) -> CRHModel:
    """A ViT of 64 bits, whose random weights are the same every time."""
    torch.manual_seed(0)
    return CRHModel(CRHConfig(backbone_config=ViTConfig(**sizes.vit), num_bits=64))


def processor_of(model: CRHModel) -> ViTImageProcessor:
    """The image processor of the size that a model reads."""
    side = cast(Any, model.backbone).config.image_size
    return ViTImageProcessor(size={"height": side, "width": side}, do_convert_rgb=True)


def measure_step(sizes: Sizes) -> dict[str, Any]:
    """Images a second of both trainers."""
    settings = {
        "per_device_train_batch_size": sizes.batch_size,
        "bf16": True,
        "use_cpu": own_state().device.type == "cpu",
        "dataloader_pin_memory": torch.cuda.is_available(),
        "dataloader_num_workers": sizes.num_workers,
        "dataloader_persistent_workers": sizes.num_workers > 0,
    }
    with TemporaryDirectory() as folder:
        trainers = build_trainers(sizes.step_labels, FIRST_STEPS + sizes.steps, folder, sizes.vit, **settings)
        sides: dict[str, Callable[[], float]] = {}
        for name, trainer in zip(("crh", "trainer"), trainers, strict=True):
            clock = Clock()
            trainer.add_callback(clock)
            sides[name] = partial(clock.time, trainer)
        seconds = take_turns(sides)
    images = sizes.steps * sizes.batch_size
    rates = {f"{name}_images_per_second": round(images / statistics.median(seconds[name]), 1) for name in sides}
    return rates | {"ratio": ratio(seconds["crh"], seconds["trainer"])}


def measure_encode(sizes: Sizes) -> dict[str, Any]:
    """Images a second of `encode_source`, as it is and compiled, and of the loop by hand."""
    workers = {"batch_size": sizes.batch_size, "num_workers": sizes.num_workers}
    plain, compiled = (argparse.Namespace(**workers, dtype="auto", compiled=value) for value in (False, True))
    own, own_compiled, bare = vit_model(sizes), vit_model(sizes), vit_model(sizes)
    place_model(bare, plain.dtype)
    processor = processor_of(bare)
    side = processor.size["height"]
    ready = torch.randn(sizes.images, 3, side, side)
    if torch.cuda.is_available():
        ready = ready.pin_memory()
    with TemporaryDirectory() as name:
        folder = Path(name, "images")
        files = make_images(folder, sizes.images, sizes.side)
        opened = open_source(folder)
        given = {entry.name: getattr(opened, entry.name) for entry in dataclasses.fields(opened)}
        shape = sizes.images, side, side, 3
        pixels = Pixels(**given, pixels=np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        from_files = take_turns(
            {
                "ours": lambda: ours(own, folder, processor, plain),
                "compiled": lambda: ours(own_compiled, folder, processor, compiled),
                "bare": lambda: bare_loop(bare, decoded(files, processor, plain)),
            }
        )
        from_memory = take_turns(
            {
                "ours": lambda: ours(own, pixels, processor, plain),
                "compiled": lambda: ours(own_compiled, pixels, processor, compiled),
                "bare": lambda: bare_loop(bare, ready.split(sizes.batch_size)),
            }
        )
    found: dict[str, Any] = {"dtype": str(bare.dtype).removeprefix("torch.")}
    for label, rates in (("files", from_files), ("memory", from_memory)):
        found[label] = {f"{side}_images_per_second": round(statistics.median(rates[side]), 1) for side in rates}
        found[label] |= {f"{side}_ratio": ratio(rates[side], rates["bare"]) for side in ("ours", "compiled")}
    return found


def measure_figures(sizes: Sizes) -> dict[str, Any]:
    """Seconds of all figures."""
    generator = torch.Generator().manual_seed(0)
    codes = draw(sizes.queries, sizes.database, generator)[:2]
    case = (*codes, *draw_labels(sizes.queries, sizes.database, generator))
    logits = codes[0] * torch.rand(codes[0].shape, generator=generator)
    found = {}
    for place, device in (("gpu", own_state().device), ("cpu", torch.device("cpu"))):
        there = [part.to(device) for part in case]
        runs: dict[str, Callable[[], object]] = {
            "seconds": partial(our_figures, *there),
            "asymmetric_seconds": partial(asymmetric_average_precision, logits.to(device), *there[1:]),
        }
        for name, run in runs.items():
            run()
            found[f"{place}_{name}"] = round(statistics.median(seconds_of(run) for _ in range(ROUNDS)), 3)
    return found


def measure_reassign(sizes: Sizes) -> dict[str, Any]:
    """Seconds of each number of classes with each method."""
    device = own_state().device
    found: dict[str, Any] = {}
    for count, method in cases(sizes.labels):
        case = measure_reassignment(count, method, compare=False, device=device)
        found.setdefault(str(count), {})[f"{method}_seconds"] = case["seconds"]
    return found


def measure_bits(sizes: Sizes) -> dict[str, Any]:
    """Share of bits that are equal to the CPU's, and how many of its codes are different ones."""
    model = vit_model(sizes).train(False)
    settings = argparse.Namespace(batch_size=sizes.batch_size, num_workers=sizes.num_workers)
    with TemporaryDirectory() as folder:
        files = make_images(Path(folder, "images"), sizes.compared, sizes.side)
        batches = [{"pixel_values": pixels} for pixels in decoded(files, processor_of(model), settings)]
    codes = binarize(torch.cat([*run_batches(model, batches)]))
    found: dict[str, Any] = {"images": len(codes), "different_codes": len(codes.unique(dim=0))}
    dtypes: tuple[DType, ...] = ("float32", "bfloat16")
    for dtype in dtypes:
        placed = vit_model(sizes).train(False)
        place_model(placed, dtype)
        there = binarize(torch.cat([*run_batches(placed, batches)]))
        found[f"equal_bits_{dtype}"] = round((there == codes).double().mean().item(), 5)
    return found


PARTS: dict[str, Callable[[Sizes], dict[str, Any]]] = {
    "step": measure_step,
    "encode": measure_encode,
    "figures": measure_figures,
    "reassign": measure_reassign,
    "bits": measure_bits,
}


def describe_machine() -> dict[str, Any]:
    """The card, the cores, and versions."""
    device = own_state().device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {module.__name__: module.__version__ for module in (torch, transformers, accelerate, modeling_crh)}
    versions |= {"python": platform.python_version(), "cuda": torch.version.cuda}
    return {"device": f"{device.type}: {name}", "cores": count_cores(), "versions": versions}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to run, with commas between")
    parser.add_argument("--num-workers", type=int, help="processes that prepare images, 0 where /dev/shm is small")
    parser.add_argument("--tiny", action="store_true", help="run everything in small, to see that it runs")
    settings = parser.parse_args()
    chosen = settings.parts.split(",")
    if unknown := set(chosen) - PARTS.keys():
        parser.error(f"`--parts` must be some of {', '.join(PARTS)}, but got {', '.join(sorted(unknown))}.")
    torch.set_num_threads(count_cores())  # bench_encode asks for one
    num_workers = choose_workers("pixel_values", settings.num_workers)
    sizes = dataclasses.replace(TINY if settings.tiny else WHOLE, num_workers=num_workers)
    found = describe_machine() | {"num_workers": num_workers, "tiny": settings.tiny}
    for part in chosen:
        started = time.perf_counter()
        with silenced():
            found[part] = PARTS[part](sizes)
        print(f"{part}, {time.perf_counter() - started:.0f} s: {json.dumps(found[part])}", file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
