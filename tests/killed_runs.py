"""Training runs that kill themselves while they save; run by the tests of faults, in a process of its own."""

import os
import resource
import signal
import sys

from tiny_runs import tiny_trainer

SETTINGS = {
    "size": 50,  # 4 steps an epoch, 12 in all
    "model_fields": {"hash_head": "mlp", "hash_head_hidden_size": 32, "hash_head_dropout": 0.3},
    "eval_strategy": "steps",
    "eval_steps": 3,
    "save_strategy": "steps",
    "save_steps": 3,
    "load_best_model_at_end": True,
    "save_total_limit": 1,
}

MOMENTS = {
    "half of the weights are written": ("os.mkdir", "/checkpoint-9"),
    "the config is not written": ("open", "/checkpoint-9/config.json"),
    "the state is not written": ("open", "/checkpoint-9/trainer_state.json"),
    "the checkpoint is whole, but not in its place": ("os.rename", ".partial/checkpoint-9"),
    "an old checkpoint is half deleted": ("os.remove", "optimizer.pt"),
}


def end_there(moment):
    """Kill this process when it first comes to a moment; the kernel kills it in the middle of a file that grows."""
    event, ending = MOMENTS[moment]

    def hook(name, arguments):
        if name != event or not str(arguments[0]).endswith(ending):
            return
        if moment != "half of the weights are written":
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    sys.addaudithook(hook)


if __name__ == "__main__":  # python tests/killed_runs.py FOLDER: one run a moment, each in a folder of its name
    for moment in MOMENTS:
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)  # what the trainer prints
            end_there(moment)
            tiny_trainer(os.path.join(sys.argv[1], moment), **SETTINGS).train()
            os._exit(0)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
