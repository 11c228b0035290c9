"""How long do help, a mistyped command, completion and `import modeling_crh` take, beside the libraries below?

Method: each command runs in a process of its own, once to warm the files up and then `--rounds` times, in turn. A time
is the processor time of the process, user and system, which other work on the machine disturbs less than the clock.
`ratios` are medians divided by those of `import torch` and of `hf --help`; and that of `import modeling_crh` by that of
importing what it registers with: torch, and of transformers the Auto classes, the models' base and the pipelines.

    python benchmarks/bench_start.py [--rounds 5]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

BIN = Path(sys.executable).parent
COMPLETION = {"_CRH_COMPLETE": "complete_bash", "COMP_WORDS": "crh train --ba", "COMP_CWORD": "2"}
REGISTERED = "import torch; from transformers import AutoModel, PreTrainedModel, pipeline"
COMMANDS: dict[str, list[str]] = {
    "crh --help": [str(BIN / "crh"), "--help"],
    "crh --version": [str(BIN / "crh"), "--version"],
    "crh train --help": [str(BIN / "crh"), "train", "--help"],
    "crh trian": [str(BIN / "crh"), "trian"],
    "completion": [str(BIN / "crh")],
    "hf --help": [str(BIN / "hf"), "--help"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import torch, transformers": [sys.executable, "-c", "import torch, transformers"],
    "torch, models and pipelines": [sys.executable, "-c", REGISTERED],
    "import modeling_crh": [sys.executable, "-c", "import modeling_crh"],
}


def cpu_seconds(name: str) -> float:
    """Processor time of one run of a command."""
    environment = os.environ | (COMPLETION if name == "completion" else {})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(COMMANDS[name], env=environment, capture_output=True)
    if done.returncode not in (0, 2) or (done.returncode == 2) != (name == "crh trian"):
        sys.exit(f"{name} ended with exit code {done.returncode}: {done.stderr.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for name in COMMANDS:
        cpu_seconds(name)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, values in times.items():
            values.append(cpu_seconds(name))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    quartiles = {name: np.percentile(values, [25, 75]).tolist() for name, values in times.items()}
    ratios = {
        f"{name} / {base}": medians[name] / medians[base]
        for name in ("crh --help", "crh --version", "crh train --help", "crh trian", "completion")
        for base in ("import torch", "hf --help")
    }
    ratios["import modeling_crh / what it registers with"] = (
        medians["import modeling_crh"] / medians["torch, models and pipelines"]
    )
    print(json.dumps({"rounds": rounds, "cpu_seconds": medians, "quartiles": quartiles, "ratios": ratios}))


if __name__ == "__main__":
    main()
