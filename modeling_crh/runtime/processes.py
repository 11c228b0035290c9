"""Worker counts, and clean shutdown of distributed runs."""

import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch.distributed import DistError

MOST_WORKERS = 8
CORES_A_WORKER = 4  # on a CPU, where torch computes with all cores: benchmarks/bench_cores.py


_LONGEST_WAIT = timedelta(days=30)  # for a process that works alone


def own_state(timeout: float | None = None, *, use_cpu: bool = False) -> PartialState:
    """Return accelerate's state of this process; without a GPU, `cpu=True` makes it join the group of processes.

    Args:
        timeout: Seconds to wait for the answer of another process, if this is the first call; None waits for days.
        use_cpu: Whether to leave GPUs alone.
    """
    cpu = use_cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=_LONGEST_WAIT if timeout is None else timedelta(seconds=timeout))
    if state.num_processes > 1:
        _patient_group()  # while all of them are here
    return state


@cache
def _patient_group() -> Any:
    return torch.distributed.new_group(timeout=_LONGEST_WAIT)


def wait_for_main() -> None:
    """Wait until all processes are here, for days if the first one works alone, as on the figures of a run."""
    if PartialState().num_processes > 1:
        torch.distributed.barrier(_patient_group())


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the first process do something before the others, which wait for days if need be."""
    if not PartialState().is_main_process:
        wait_for_main()
    yield
    if PartialState().is_main_process:
        wait_for_main()


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
    wait_for_main()
    gc.collect()
    PartialState().destroy_process_group()


def describe_failure(error: RuntimeError) -> str | None:
    """Say what a failure of another process means, for which gloo and torch have no class; None for other errors."""
    if isinstance(error, DistError) or "/gloo/" in str(error):
        return "Another process of this run has ended, and so does this one; see what that one says."
    if re.search("killed by signal: Bus error|unable to allocate shared memory", f"{error} {error.__cause__}"):
        return (
            "The processes that prepare batches ran out of shared memory, /dev/shm: make it larger, as "
            "`docker run --shm-size=8g` does, or leave their work to this process, by `--num-workers 0` or, in a "
            "recipe, `dataloader_num_workers: 0` under `training`."
        )
    return None


@contextmanager
def limited_wait(timeout: float) -> Iterator[None]:
    """Turn gloo's error for a process that does not answer in time, for which it has no class, into a `TimeoutError`.

    Args:
        timeout: Seconds that the processes of this run wait for each other, see `own_state`.
    """
    try:
        yield
    except RuntimeError as error:
        if re.search("Timed out waiting|timeout caused pair closure", str(error)) is None:
            raise
        raise TimeoutError(
            f"Another process of this run has not answered within {timeout:,.10g} seconds, and so this one ends: it is "
            "stopped, or needs more time, which `ddp_timeout` under `training` in a recipe gives it."
        ) from error
