"""Worker counts, and clean shutdown of distributed runs."""

import gc
import os
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch.distributed import DistError

MOST_WORKERS = 8
CORES_A_WORKER = 4  # where torch computes with all of them: benchmarks/bench_cores.py


_LONGEST_WAIT = timedelta(days=30)  # of processes that are done for those that are not


def own_state() -> PartialState:
    """This process among those that were launched: without a GPU they must be told that they are of one group."""
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=_LONGEST_WAIT)


def count_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_workers(main_input_name: str, num_workers: int | None = None) -> int:
    """Number of processes that decode images ahead: one for each core that is this process's, on a CPU for each four.

    Args:
        main_input_name: What the model reads. All but `pixel_values` is ready too soon for a process to be worth it.
        num_workers: Number that was chosen by hand, which is kept.
    """
    if num_workers is not None:
        return num_workers
    if main_input_name != "pixel_values":
        return 0
    share = count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if own_state().device.type == "cpu":
        return min(MOST_WORKERS, share // CORES_A_WORKER)
    return min(MOST_WORKERS, max(1, share))


def leave_processes() -> None:
    """Wait for all processes, then leave their group; call it where nothing of the training is referred to any more.

    gloo hangs where one process leaves before another waits. And a group that something still holds, such as the
    wrapped model in a trainer's cycles, ends with the interpreter: its threads then abort the process now and then.
    """
    state = PartialState()
    state.wait_for_everyone()
    gc.collect()
    state.destroy_process_group()


def is_lost_process(error: RuntimeError) -> bool:
    """Whether an error says that another process of the group is gone; gloo has no class of its own for that."""
    return isinstance(error, DistError) or "/gloo/" in str(error)
