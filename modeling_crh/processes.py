"""How a process leaves the others at the end of a training, and how it finds that one of them is gone."""

import gc

from accelerate import PartialState
from torch.distributed import DistError


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
