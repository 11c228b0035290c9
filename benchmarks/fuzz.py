"""Does bad input end in a result or in one of our own sentences, always?

Method: seeded damage, see `fuzz_mutations`, to what the library reads, see `fuzz_kinds`. A case passes with a result,
or is refused by a `ValueError` with the name of an argument in backticks (a config by huggingface_hub's error of a
strict field, too). Anything else fails: another error, ten seconds without an end, or memory that grows over the run.
Kinds of which native code reads what is damaged run in a process apart, which may take 4 GB more; a `crash` is its end
by a signal, and fails; the next case has a new one.

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py [--cases 2000] [--seed 0] [--kinds images,recipes] [--first 0]
"""

import argparse
import json
import multiprocessing
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import fuzz_kinds
import numpy as np
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging

KINDS: dict[str, tuple[Any, bool]] = {  # and whether the cases run in a process apart
    "images": (fuzz_kinds.images, False),
    "index_files": (fuzz_kinds.index_files, False),
    "forged_flat": (partial(fuzz_kinds.forged_index_files, kind="flat"), True),
    "forged_ivf": (partial(fuzz_kinds.forged_index_files, kind="ivf"), True),
    "configs": (fuzz_kinds.configs, False),
    "checkpoints": (fuzz_kinds.checkpoints, False),
    "recipes": (fuzz_kinds.recipes, False),
    "code_files": (fuzz_kinds.code_files, True),
    "labels": (fuzz_kinds.labels, False),
}
SECONDS, GROWTH_MB, PROCESS_GB = 10, 200, 4
ENDS = ("passed", "refused", "failed", "crash")

_spawn = multiprocessing.get_context("spawn")


class Hang(BaseException):
    """A case that has not come to its end in time."""


def _hang(number: int, frame: Any) -> None:
    raise Hang


def run_case(case: fuzz_kinds.Case, generator: np.random.Generator, strict: bool) -> str:
    """Run one case and say how it ends; `strict` does not accept huggingface_hub's error."""
    signal.alarm(SECONDS)
    try:
        case(generator)
        return "passed"
    except ValueError as error:
        if re.search(r"`[^`]+`", str(error)):
            return "refused"
        traceback.print_exc()
    except (Exception, Hang) as error:
        if isinstance(error, StrictDataclassError) and not strict:
            return "refused"
        traceback.print_exc()
    finally:
        signal.alarm(0)
    return "failed"


def run_here(kind: str, seed: int, numbers: range, folder: Path) -> Generator[str, None, None]:
    """Run cases in this process, and say how each ends."""
    case = KINDS[kind][0](folder)
    for number in numbers:
        generator = np.random.default_rng([seed, list(KINDS).index(kind), number])
        yield run_case(case, generator, strict=kind != "configs")


def run_apart(kind: str, seed: int, numbers: range, folder: Path) -> Generator[str, None, None]:
    """The same in another process, and in a new one after each that has crashed."""
    while numbers:
        receiver, sender = _spawn.Pipe(duplex=False)
        child = _spawn.Process(target=_work, args=(kind, seed, numbers, folder, sender))
        child.start()
        sender.close()
        try:
            while numbers:
                end = receiver.recv()
                numbers = numbers[1:]
                yield end
        except EOFError:
            child.join()
            if not numbers or child.exitcode is None or child.exitcode >= 0:
                sys.exit(f"{kind}: the process of the cases ended with {child.exitcode}")
            print(f"{kind}: case {numbers[0]} ended its process by signal {-child.exitcode}", flush=True)
            numbers = numbers[1:]
            yield "crash"
        finally:
            child.kill()
            child.join()


def _work(kind: str, seed: int, numbers: range, folder: Path, sender: Any) -> None:
    prepare_process()
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (address_space + PROCESS_GB * 2**30,) * 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # native code does not come back for an exception
    for end in run_here(kind, seed, numbers, folder):
        sender.send(end)


def prepare_process() -> None:
    """Quiet libraries, and a way out of a case that does not end."""
    signal.signal(signal.SIGALRM, _hang)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def fuzz(kind: str, seed: int, numbers: range, seconds: float, folder: Path) -> dict[str, Any]:
    """All cases of one kind, or those that the time allows."""
    ends: Counter[str] = Counter()
    start, first, last = 0.0, "", 0.0
    run = (run_apart if KINDS[kind][1] else run_here)(kind, seed, numbers, folder)
    for number, end in zip(numbers, run, strict=False):
        if number == numbers.start + 100:
            start = resident_mb()
        ends[end] += 1
        if end in ("failed", "crash") and not first:
            first = f", first {end}: case {number}"
        last = last or time.monotonic() + seconds  # from the first case on, when all is prepared
        if time.monotonic() > last:
            break
    run.close()
    growth = round(resident_mb() - start) if start else 0
    counts = {end: ends[end] for end in ENDS}
    print(f"{kind}: tried {ends.total():,}, {counts}, memory grew by {growth} MB{first}", flush=True)
    return {"tried": ends.total(), **counts, "growth_mb": growth}


def main() -> None:
    """Try every kind; ends with 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000, help="of each kind")
    parser.add_argument("--seconds", type=float, default=600, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas between")
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to see one again")
    args = parser.parse_args()
    prepare_process()
    numbers = range(args.first, args.first + args.cases)
    results, kinds = {}, args.kinds.split(",")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as name:
            results[kind] = fuzz(kind, args.seed, numbers, args.seconds / len(kinds), Path(name))
    print(json.dumps(results))
    failures = sum(found["failed"] + found["crash"] + (found["growth_mb"] > GROWTH_MB) for found in results.values())
    print(f"{sum(found['tried'] for found in results.values()):,} tried, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
