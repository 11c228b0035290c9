"""Worker counts, and clean shutdown of distributed runs."""

import gc
import os
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch.distributed import DistError

MOST_WORKERS = 8
CORES_A_WORKER = 4  # on a CPU, where torch computes with all cores: benchmarks/bench_cores.py


_LONGEST_WAIT = timedelta(days=30)  # of finished processes for the others


def own_state() -> PartialState:
    """Return accelerate's state of this process; without a GPU, `cpu=True` makes it join the group of processes."""
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=_LONGEST_WAIT)


def count_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_workers(main_input_name: str, num_workers: int | None = None) -> int:
    """Choose the number of worker processes that decode items: one per core with a GPU, one per four cores without.

    Args:
        main_input_name: Input of the model; only images and sounds take long enough to be worth a process.
        num_workers: Number given by the user, which is returned unchanged; None chooses.
    """
    if num_workers is not None:
        return num_workers
    if main_input_name in ("input_ids", "features"):
        return 0
    share = count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if own_state().device.type == "cpu":
        return min(MOST_WORKERS, share // CORES_A_WORKER)
    return min(MOST_WORKERS, max(1, share))


def leave_processes() -> None:
    """Wait for all processes, then leave their group; call it when no object of the training is referenced any more.

    gloo hangs if one process leaves before another waits. A group that is still referenced, such as by the wrapped
    model in a trainer's cycles, ends with the interpreter, and its threads then sometimes abort the process.
    """
    state = PartialState()
    state.wait_for_everyone()
    gc.collect()
    state.destroy_process_group()


def is_lost_process(error: RuntimeError) -> bool:
    """Whether an error means that another process of the group has ended; gloo has no error class for it."""
    return isinstance(error, DistError) or "/gloo/" in str(error)
