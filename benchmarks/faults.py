"""Is anything lost, doubled or wrong when runs are killed, sources change, many write at once, or requests are hostile?

Method: `fault_kills` and `fault_kinds` prepare each kind once, and then try one case after another; a case returns
nothing, or says what went wrong. `kill_...` runs a command to its end once; each case starts it in a new folder, kills
it by SIGKILL after a time drawn evenly from the length of a whole run, and gives it again: the end must be that of the
whole run. Nothing that the kill leaves may look whole and be damaged, and the second run must clean up after the first.
`--seconds` ends every kind after its share of the time, or after one case.

    OMP_NUM_THREADS=1 python benchmarks/faults.py [--seconds 600] [--seed 0] [--kinds kill_train,table]
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import fault_kills
import fault_kinds
import numpy as np

KINDS: dict[str, tuple[Any, int]] = {  # and the number of cases of a full pass
    "kill_train": (fault_kills.kill_train, 20),
    "kill_encode": (fault_kills.kill_encode, 20),
    "kill_features": (fault_kills.kill_features, 20),
    "kill_export": (fault_kills.kill_export, 20),
    "kill_push": (fault_kills.kill_push, 20),
    "changing_source": (fault_kinds.changing_source, 20),
    "table": (fault_kinds.table, 12),
    "flipped_shard": (fault_kinds.flipped_shard, 100_000),
    "flipped_index": (fault_kinds.flipped_index, 100_000),
    "requests": (fault_kinds.requests, 2_000),
}


def run(kind: str, seed: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Try cases of one kind until there are enough, the kind has no more, or its time is over."""
    prepare, most = KINDS[kind]
    started, tried, failures = time.monotonic(), 0, 0
    with prepare(folder) as case:
        while tried < most and (not tried or time.monotonic() - started < seconds):
            generator = np.random.default_rng([seed, list(KINDS).index(kind), tried])
            try:
                fault = case(generator, tried)
            except fault_kinds.NoMoreError:
                break
            except Exception:
                fault = traceback.format_exc()
            tried += 1
            if fault:
                failures += 1
                print(f"{kind}, case {tried - 1}: {fault}", flush=True)
    print(f"{kind}: tried {tried:,}, {failures} failures, {time.monotonic() - started:.0f} s", flush=True)
    return {"tried": tried, "failures": failures}


def main() -> None:
    """Try every kind; ends with 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1200, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas between")
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    results = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as name:
            results[kind] = run(kind, args.seed, args.seconds / len(kinds), Path(name))
    print(json.dumps(results))
    tried, failures = (sum(found[name] for found in results.values()) for name in ("tried", "failures"))
    print(f"{tried:,} tried, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
