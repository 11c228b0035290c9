"""Kinds of faults: each prepares its files once, and then tries one case after another."""

import hashlib
import itertools
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import httpx
import numpy as np
import pyarrow.parquet as pq
import yaml
from datasets import Dataset
from huggingface_hub import constants
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import ViTConfig, ViTImageProcessor

from modeling_crh import CRHConfig, CRHModel, cli
from modeling_crh.data import load_benchmark
from modeling_crh.encoding.loading import load_checkpoint, load_model
from modeling_crh.search import HammingIndex, index_codes
from modeling_crh.training.checkpointing import find_last_checkpoint

Case = Callable[[np.random.Generator, int], str | None]
"""Tries the case of a number; says what went wrong, if anything."""

_fork = multiprocessing.get_context("fork")
_LONGEST = 120  # seconds that a command may take


class NoMoreError(Exception):
    """The kind has no more cases."""


# Commands in processes of their own.


def start_command(arguments: list[Any], log: Path) -> Any:
    """Start a command of `crh` in a child process, with a cache of its own and its output in a log."""

    def run() -> None:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.dup2(2, 1)
        tqdm.set_lock(threading.RLock())  # the usual one is shared by all children, and one that is killed may hold it
        datasets.config.HF_DATASETS_CACHE = log.with_suffix(".cache")
        sys.argv = ["crh", *map(str, arguments)]
        cli.main()

    child = _fork.Process(target=run)
    child.start()
    return child


def run_command(arguments: list[Any], log: Path, kill_after: float | None = None) -> float:
    """Run a command to its end, or kill it; returns the seconds that it took."""
    started = time.monotonic()
    child = start_command(arguments, log)
    child.join(_LONGEST if kill_after is None else kill_after)
    if child.is_alive():
        child.kill()
        child.join()
        if kill_after is None:
            raise AssertionError(f"{arguments} has not ended after {_LONGEST} seconds:\n{log.read_text()[-3000:]}")
    elif child.exitcode != 0:
        raise AssertionError(f"{arguments} ended with {child.exitcode}:\n{log.read_text()[-3000:]}")
    return time.monotonic() - started


def killed(
    folder: Path,
    command: Callable[[Path], list[Any]],
    end: Callable[[Path], Any],
    check: Callable[[Path], str | None] = lambda out: None,
) -> Case:
    """Make a case that kills a command, and gives it again.

    Args:
        folder: Folder to work in.
        command: Arguments of the command that writes to a path.
        end: What the command has written, to compare.
        check: What is wrong with what a kill has left, if anything.
    """
    whole = folder / "whole"
    length = run_command(command(whole), folder / "whole.log")
    expected = end(whole)

    def case(generator: np.random.Generator, number: int) -> str | None:
        out, log = folder / f"out-{number}", folder / f"out-{number}.log"
        moment = generator.uniform(0, length)
        run_command(command(out), log, kill_after=moment)
        fault = check(out)
        run_command(command(out), log)
        rest = [path.name for path in folder.rglob("*.partial") if path.name != ".partial" or any(path.iterdir())]
        if rest:
            fault = f"the second run leaves {rest}"
        elif end(out) != expected:
            fault = "the end is another"
        return None if fault is None else f"killed after {moment:.2f} of {length:.2f} s, {fault}"

    return case


def save_images(folder: Path, rows: int) -> Path:
    """Write images of the bundled sample into folders by their labels."""
    images = load_benchmark("fashion_mnist_sample")["train"]
    for row in range(rows):
        path = folder / str(images[row]["label"]) / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images[row]["image"].save(path)
    return folder


def save_model(folder: Path) -> Path:
    """Save a tiny ViT with its image processor."""
    backbone = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    CRHModel(CRHConfig(backbone_config=backbone, num_bits=16, id2label=dict(enumerate("0123456789")))).save_pretrained(
        folder
    )
    ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True).save_pretrained(folder)
    return folder


def table_of(file: Path) -> list[dict[str, Any]]:
    """Rows of a parquet file."""
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


def codes_of(folder: Path) -> dict[str, bytes]:
    """Codes of a folder by path."""
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in table_of(file)]
    codes = {row["path"]: row["code"] for row in rows}
    if len(codes) != len(rows):
        raise AssertionError("an item is doubled")
    return codes


# Kills.


@contextmanager
def kill_train(folder: Path) -> Iterator[Case]:
    """Training on features, with a checkpoint an epoch, and on images, with one every 3 steps."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, 300)
    features = generator.normal(size=(8, 16))[labels] + generator.normal(size=(300, 16))
    Dataset.from_dict({"features": features.tolist(), "label": labels.tolist()}).to_parquet(folder / "features.parquet")
    training = {"learning_rate": 1.0e-2, "use_cpu": True, "report_to": "none", "load_best_model_at_end": True}
    every_3_steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    resnet = {"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}
    recipes: dict[str, dict[str, Any]] = {
        "features": {
            "dataset": str(folder / "features.parquet"),
            "features_column": "features",
            "model": {"num_bits": 16, "hash_head": "mlp", "hash_head_hidden_size": 64, "hash_head_dropout": 0.3},
            "training": training | {"num_train_epochs": 60, "per_device_train_batch_size": 32},
        },
        "images": {
            "dataset": str(save_images(folder / "images", 200)),
            "model": {"num_bits": 16, "backbone_config": resnet},
            "image_processor": {"size": {"height": 28, "width": 28}},
            "training": training | every_3_steps | {"num_train_epochs": 20, "per_device_train_batch_size": 32},
        },
    }
    cases = []
    for name, recipe in recipes.items():
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(recipe))
        (folder / f"of-{name}").mkdir()
        command = lambda out, file=file: ["train", file, "--out", out, "--resume"]  # noqa: E731 - of this recipe
        cases.append(killed(folder / f"of-{name}", command, _end_of_training, _damaged_checkpoint))
    yield lambda generator, number: cases[number % 2](generator, number)


def _end_of_training(out: Path) -> Any:
    """Hash of the weights, with codebook and assignment; the figures; and all logged evaluations, without times.

    Losses are left out: where a checkpoint falls on the end of an epoch, two of them may be logged as one, see
    docs/reproducibility.md.
    """
    history = json.loads((out / "history.json").read_text())
    logged = [
        {name: value for name, value in entry.items() if not name.endswith(("runtime", "per_second"))}
        for entry in history
        if "eval_map" in entry
    ]
    weights = hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()
    return weights, json.loads((out / "figures.json").read_text()), logged


def _damaged_checkpoint(out: Path) -> str | None:
    """Whether a checkpoint that the kill has left does not load, or training would not go on from the last one."""
    found = sorted(out.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for checkpoint in found:
        try:
            load_model(checkpoint)
        except ValueError as error:
            return str(error)
    if found and find_last_checkpoint(out / "checkpoints") != str(found[-1]):
        return f"{found[-1]} is passed over"
    if (out / "model").exists():
        load_checkpoint(out)
    return None


@contextmanager
def kill_encode(folder: Path) -> Iterator[Case]:
    """Encoding a folder of images into shards of 20."""
    model, images = save_model(folder / "model"), save_images(folder / "images", 100)
    (folder / "codes").mkdir()
    options = ["--shard-size", 20, "--batch-size", 10]
    yield killed(folder / "codes", lambda out: ["encode", model, images, "--out", out, *options], codes_of)


@contextmanager
def kill_features(folder: Path) -> Iterator[Case]:
    """Storing features of a folder of images."""
    model, images = save_model(folder / "model"), save_images(folder / "images", 100)
    (folder / "features").mkdir()

    def command(out: Path) -> list[Any]:
        is_done = (out / "features.parquet").exists()
        return ["--version"] if is_done else ["features", model, images, "--out", out]

    yield killed(folder / "features", command, lambda out: table_of(out / "features.parquet"))


@contextmanager
def kill_export(folder: Path) -> Iterator[Case]:
    """Export to ONNX; the file is whole or it is not there."""
    model = save_model(folder / "model")
    (folder / "graphs").mkdir()

    def command(out: Path) -> list[Any]:
        file = out.with_suffix(".onnx")
        return ["--version"] if file.exists() else ["export", model, "--out", file]

    def end(out: Path) -> Any:
        return out.with_suffix(".onnx").read_bytes()

    yield killed(folder / "graphs", command, end)


@contextmanager
def kill_push(folder: Path) -> Iterator[Case]:
    """Upload of a model to a Hub on this machine, in one commit: all files are there, or none is."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from hub.loopback_hub import LoopbackHub  # type: ignore[import-not-found] # of the tests

    hub, model = LoopbackHub(), save_model(folder / "model")
    (folder / "pushes").mkdir()
    os.environ["HF_TOKEN"], constants.HF_HUB_DISABLE_XET = "hf_ada", True
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
    constants.ENDPOINT, constants.HUGGINGFACE_CO_URL_TEMPLATE = hub.endpoint, template

    def files(out: Path) -> set[str]:
        found = httpx.get(f"{hub.endpoint}/api/models/ada/{out.name}/tree/main", params={"recursive": True})
        return {entry["path"] for entry in found.json()} - {".gitattributes"} if found.is_success else set()

    with hub:
        yield killed(
            folder / "pushes",
            lambda out: ["push", model, f"ada/{out.name}"],
            files,
            lambda out: f"the Hub has only {files(out)}" if 0 < len(files(out)) < 10 else None,
        )


# Sources and tables that change.


@contextmanager
def changing_source(folder: Path) -> Iterator[Case]:
    """A folder of images of which some are replaced, deleted or added while it is encoded."""
    model = save_model(folder / "model")
    options = ["--shard-size", 10, "--batch-size", 5]
    others = load_benchmark("fashion_mnist_sample")["query"]
    save_images(folder / "sample", 200)
    length = run_command(["encode", model, folder / "sample", "--out", folder / "whole", *options], folder / "log")

    def change(images: Path, generator: np.random.Generator) -> None:
        files = sorted(images.rglob("*.png"))
        chosen = files[int(generator.integers(len(files)))]
        way = generator.integers(3)
        if way == 0:
            chosen.unlink()
        else:
            target = chosen if way == 1 else chosen.with_name(f"new-{generator.integers(10**9)}.png")
            others[int(generator.integers(len(others)))]["image"].save(target.with_suffix(".tmp"), "PNG")
            os.replace(target.with_suffix(".tmp"), target)

    def case(generator: np.random.Generator, number: int) -> str | None:
        images, out = save_images(folder / f"images-{number}", 200), folder / f"codes-{number}"
        log = folder / f"codes-{number}.log"
        moments, changed = np.sort(generator.uniform(0.1, 0.6, 3)) * length, 0.0
        child, started = start_command(["encode", model, images, "--out", out, *options], log), time.monotonic()
        for moment in moments:
            child.join(max(0.0, moment - (time.monotonic() - started)))
            if child.is_alive():
                change(images, generator)
                changed = time.time()
        child.join(_LONGEST)
        run_command(["encode", model, images, "--out", folder / f"fresh-{number}", *options], log)
        fresh = codes_of(folder / f"fresh-{number}")
        if child.exitcode not in (0, 2):
            return f"it ended with {child.exitcode}: {log.read_text()[-2000:]}"
        if child.exitcode == 0 and changed > (out / ".encoding.json").stat().st_mtime - 0.02:
            return None  # the change came when all was encoded
        if child.exitcode == 0 and codes_of(out) != fresh:
            return "it ended well, but the codes are not those of the files"
        again = start_command(["encode", model, images, "--out", out, *options], log)
        again.join(_LONGEST)
        if again.exitcode == 2 and "changed" in log.read_text():
            return None
        same = again.exitcode == 0 and codes_of(out) == fresh
        return None if same else f"the second run ended with {again.exitcode}: {log.read_text()[-2000:]}"

    yield case


@contextmanager
def table(folder: Path) -> Iterator[Case]:
    """Five seconds more of four writers, two deleters and two readers of one table; then all of it is compared."""
    from modeling_crh.search.lance_index import LanceIndex

    part, seconds, uri, numbers, guard = 20, 5.0, folder / "codes.lance", itertools.count(1), threading.Lock()
    added, deleted = set(range(part)), set[int]()

    def codes(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([ids >> shift & 255 for shift in (24, 16, 8, 0)], 1).astype(np.uint8)

    def write(end: float) -> None:
        index = LanceIndex(uri)
        while time.monotonic() < end:
            with guard:
                ids = np.arange(part) + part * next(numbers)
            index.add(codes(ids), ids)
            with guard:
                added.update(ids.tolist())

    def delete(end: float) -> None:
        index = LanceIndex(uri)
        while time.monotonic() < end:
            with guard:
                chosen = sorted(added - deleted)[::7][:5]
                deleted.update(chosen)
            if chosen:
                index.delete({"id": chosen})

    def read(end: float) -> None:
        index = LanceIndex(uri)
        while time.monotonic() < end:
            index.refresh()
            for row in index.search(codes(np.arange(4)), 50)[0].tolist():
                if len(set(row)) != len(row):
                    raise AssertionError(f"a reader sees an id twice: {row}")

    def case(generator: np.random.Generator, number: int) -> str | None:
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(8) as threads:
            running = [threads.submit(work, end) for work in 4 * (write,) + 2 * (delete,) + 2 * (read,)]
            for one in running:
                one.result()
        whole = LanceIndex(uri).in_memory()
        ids, expected = whole.items.ids(np.arange(len(whole))), np.array(sorted(added - deleted))
        if sorted(ids.tolist()) != expected.tolist():
            return f"{len(expected)} rows are expected, but there are {len(ids)}, or some of them twice"
        return "a code is another's" if (whole.packed != codes(ids.astype(np.int64))).any() else None

    LanceIndex.create(uri, codes(np.arange(part)), np.arange(part))
    yield case


# Flipped bytes.


def _flips(file: Path, load: Callable[[], Any], facts: Callable[[Any], Any]) -> Case:
    """Make a case for every byte of a file: it is refused, or what it holds is the same."""
    content, expected = file.read_bytes(), facts(load())

    def case(generator: np.random.Generator, number: int) -> str | None:
        if number >= len(content):
            raise NoMoreError
        damaged = bytearray(content)
        damaged[number] ^= int(generator.integers(1, 256))
        file.write_bytes(damaged)
        try:
            loaded = load()
        except ValueError as error:
            return None if "` must" in str(error) else f"byte {number}: {error!r}"
        return None if facts(loaded) == expected else f"byte {number} changes what is read"

    return case


def _facts(index: HammingIndex) -> Any:
    return repr(index), index.revision, index.packed.tobytes(), index.records(np.arange(len(index)))


@contextmanager
def flipped_shard(folder: Path) -> Iterator[Case]:
    """A shard of ten codes that `crh encode` has written."""
    model, images = save_model(folder / "model"), save_images(folder / "images", 10)
    run_command(["encode", model, images, "--out", folder / "codes"], folder / "log")
    yield _flips(folder / "codes" / "codes-00000.parquet", lambda: index_codes(folder / "codes"), _facts)


@contextmanager
def flipped_index(folder: Path) -> Iterator[Case]:
    """The files of a flat and of an ivf index, of 100 codes each."""
    cases, sizes = [], []
    for kind in ("flat", "ivf"):
        file = folder / kind
        packed = np.random.default_rng(0).integers(0, 256, (100, 8), dtype=np.uint8)
        HammingIndex(packed, [f"{row}" for row in range(100)], labels=["a"] * 100, kind=kind).save(file)
        sizes.append(file.stat().st_size)
        cases.append(_flips(file, lambda file=file: HammingIndex.load(file), _facts))  # type: ignore[misc]

    def case(generator: np.random.Generator, number: int) -> str | None:
        return cases[0](generator, number) if number < sizes[0] else cases[1](generator, number - sizes[0])

    yield case


# Requests.

_HOSTS = "evil.example 127.0.0.1.evil.example localhost.evil.example 169.254.169.254 0x7f000001 [::2] LOCALHOST."
_HOSTS += " 127.0.0.1@evil.example evil.example:7860 xn--e1awd7f.com " + "a" * 5000
_ORIGINS = "https://evil.example null http://localhost.evil.example file:// http://127.0.0.1:1 " + "x" * 5000
_RANGES = "bytes=0- bytes=-1 bytes=0-0,0-0,0-0 bytes=99999999999999999999- bytes=a-b lines=1-2"
_PATHS = "/ /config /theme.css /gradio_api/queue/data?session_hash=x /gradio_api/file=/etc/passwd /static/../.."
_PATHS += " /gradio_api/upload /assets/%2e%2e/%2e%2e/etc/passwd /gradio_api/startup-events"


@contextmanager
def requests(folder: Path) -> Iterator[Case]:
    """Requests to the search page with hostile headers; none may be served to a stranger, or take memory for good."""
    from modeling_crh.app.search_page import build_page
    from modeling_crh.app.server import serving

    model, images = save_model(folder / "model"), save_images(folder / "images", 20)
    run_command(["encode", model, images, "--out", folder / "codes"], folder / "log")
    index_codes(folder / "codes").save(folder / "index.crh")
    page = build_page(folder / "index.crh", str(model), image_root=images)
    memory: dict[str, float] = {}

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    with serving(page, "127.0.0.1") as address, httpx.Client(timeout=10) as client:
        name = address.split("/")[2]

        def case(generator: np.random.Generator, number: int) -> str | None:
            def draw(values: str, share: float) -> str | None:
                return str(generator.choice(values.split())) if generator.random() < share else None

            host, origin, ranges = draw(_HOSTS, 0.6), draw(_ORIGINS, 0.5), draw(_RANGES, 0.5)
            path = str(draw(_PATHS, 1))
            if "queue" in path:  # Gradio prints a traceback for a session that it does not know
                host = host or "evil.example"
            given = {"Host": name if host is None else host, "Origin": origin, "Range": ranges}
            headers = {key: value for key, value in given.items() if value is not None}
            try:
                answer = client.get(f"http://{name}{path}", headers=headers)
            except httpx.HTTPError:
                answer = None  # the server has closed the connection
            if number == 200:
                memory["start"] = resident()
            if number > 200 and resident() - memory["start"] > 50:
                return f"memory has grown by {resident() - memory['start']:.0f} MB"
            if answer is None:
                return None
            if answer.status_code >= 500:
                return f"{headers} are answered by {answer.status_code}"
            if host is not None and answer.status_code < 400:
                return f"{headers} are answered by {answer.status_code}"
            allowed = answer.headers.get("access-control-allow-origin")
            if origin is not None and allowed is not None:
                return f"the origin {origin} is allowed: {allowed}"
            return "a file is served" if "root:x:0" in answer.text else None

        yield case
