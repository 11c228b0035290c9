"""Does bad input end in a result or in one of our own sentences, always?

Method: seeded damage, see `fuzz_mutations`, to what the library reads, see `fuzz_kinds`. A case passes with a result,
or is refused by a `ValueError` with the name of an argument in backticks (a config by huggingface_hub's error of a
strict field, too). Anything else fails: another error, ten seconds without an end, or memory that grows over the run.
Kinds of which native code reads what is damaged run in a process a case, which may use 4 GB; a `crash` is its end by a
signal. FAISS reads the files of `forged_faiss` as they are, see `HammingIndex.load`: its crashes are counted, and are
no failure.

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py [--cases 1000] [--seed 0] [--kinds images,recipes] [--first 0]
"""

import argparse
import json
import os
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import fuzz_kinds
import numpy as np
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging

KINDS: dict[str, tuple[Any, bool]] = {  # and whether each case has a process of its own
    "images": (fuzz_kinds.images, False),
    "index_files": (fuzz_kinds.index_files, False),
    "forged_flat": (fuzz_kinds.forged_index_files, True),
    "forged_faiss": (fuzz_kinds.forged_faiss_files, True),
    "configs": (fuzz_kinds.configs, False),
    "checkpoints": (fuzz_kinds.checkpoints, False),
    "recipes": (fuzz_kinds.recipes, False),
    "code_files": (fuzz_kinds.code_files, True),
    "labels": (fuzz_kinds.labels, False),
}
SECONDS, GROWTH_MB, PROCESS_GB = 10, 200, 4
ENDS = ("passed", "refused", "failed", "crash")


class Hang(BaseException):
    """A case that has not come to its end in time."""


def _hang(number: int, frame: Any) -> None:
    raise Hang


def run_case(case: fuzz_kinds.Case, generator: np.random.Generator, strict: bool) -> str:
    """How one case ends; `strict` does without huggingface_hub's error."""
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


def run_isolated(case: fuzz_kinds.Case, generator: np.random.Generator, strict: bool) -> str:
    """How one case ends in a process of its own."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (PROCESS_GB * 2**30,) * 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # native code does not come back for an exception
        end = run_case(case, generator, strict)
        sys.stderr.flush()
        os._exit(ENDS.index(end))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "crash" if code < 0 else ENDS[code]


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def fuzz(kind: str, seed: int, numbers: range, folder: Path) -> dict[str, Any]:
    """All cases of one kind."""
    prepare, isolated = KINDS[kind]
    case = prepare(folder)
    ends: Counter[str] = Counter()
    start, first = 0.0, ""
    for number in numbers:
        if number == numbers.start + len(numbers) // 5:
            start = resident_mb()
        generator = np.random.default_rng([seed, list(KINDS).index(kind), number])
        end = (run_isolated if isolated else run_case)(case, generator, strict=kind != "configs")
        ends[end] += 1
        if end in ("failed", "crash") and not first:
            first = f", first {end}: case {number}"
    growth = round(resident_mb() - start)
    counts = {end: ends[end] for end in ENDS}
    print(f"{kind}: tried {len(numbers)}, {counts}, memory grew by {growth} MB{first}", flush=True)
    return {"tried": len(numbers), **counts, "growth_mb": growth}


def main() -> None:
    """Try every kind; ends with 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas between")
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to see one again")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, _hang)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    numbers = range(args.first, args.first + args.cases)
    results = {}
    for kind in args.kinds.split(","):
        with tempfile.TemporaryDirectory() as name:
            results[kind] = fuzz(kind, args.seed, numbers, Path(name))
    print(json.dumps(results))
    bad = [
        kind
        for kind, found in results.items()
        if found["failed"] or found["growth_mb"] > GROWTH_MB or (found["crash"] and kind != "forged_faiss")
    ]
    sys.exit(f"Failed: {', '.join(bad)}" if bad else 0)


if __name__ == "__main__":
    main()
