"""Sources and tables that change, flipped bytes and hostile requests; `fault_kills` has the other kinds."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fault_kills import LONGEST, Case, codes_of, run_command, save_images, save_model, start_command
from numpy.typing import NDArray

from modeling_crh.data import load_benchmark
from modeling_crh.search import HammingIndex, index_codes


class NoMoreError(Exception):
    """The kind has no more cases."""


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
        child.join(LONGEST)
        run_command(["encode", model, images, "--out", folder / f"fresh-{number}", *options], log)
        fresh = codes_of(folder / f"fresh-{number}")
        if child.exitcode not in (0, 2):
            return f"it ended with {child.exitcode}: {log.read_text()[-2000:]}"
        if child.exitcode == 0 and changed > (out / ".encoding.json").stat().st_mtime - 0.02:
            return None  # the change came when all was encoded
        if child.exitcode == 0 and codes_of(out) != fresh:
            return "it ended well, but the codes are not those of the files"
        again = start_command(["encode", model, images, "--out", out, *options], log)
        again.join(LONGEST)
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
        ids, expected = whole.items["id"].to_numpy(), np.array(sorted(added - deleted))
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
