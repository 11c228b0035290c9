"""Train in groups of processes, for the tests: `process_groups.py FOLDER GROUP...`, or one GROUP under a launcher."""

import os
import signal
import socket
import sys
from pathlib import Path

import torch
from tiny_runs import tiny_trainer, vectors_of
from transformers import TrainerCallback

from modeling_crh import cli
from modeling_crh.cli.train_command import train as train_command
from modeling_crh.runtime.processes import leave_processes
from modeling_crh.training.trainer import CRHTrainer

BATCH_SIZE = 8  # of all processes together
FIELDS = {
    "2 shared": {"codebook": "shared", "head_dim": 2},
    "2 proxies": {"proxy_share": 0.5},
    "2 norm": {"hash_head_batch_norm": True},
}
SIZES = {"2 proxies": 24, "2 norm": 24}  # or else the last batch is filled up with repetitions


class DieAt(TrainerCallback):
    """Ends the last process at the beginning of a step, as the kernel does where memory runs out."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 4 and args.process_index == args.world_size - 1:
            os._exit(3)


def train(folder, processes):
    """Train; the first process saves the assignment and the weights of every epoch, and every process its proxies."""
    settings = {"per_device_train_batch_size": BATCH_SIZE // processes, "save_strategy": "epoch"}
    settings |= {"size": SIZES.get(folder.name, 22), "model_fields": FIELDS.get(folder.name)}
    settings |= {"eval_strategy": "epoch"} if folder.name == "2 norm" else {}
    run = tiny_trainer(folder, learning_rate=1e-3, **settings)
    totals, vectors = [], vectors_of(run)
    end_epoch = run.reassignment._end_epoch

    def remember(*args):
        totals.append(run.reassignment._total())
        end_epoch(*args)

    run.reassignment._end_epoch = remember
    run.train()
    if vectors[0] is not None:
        torch.save([one for one in vectors if one is not None][-1], folder / f"proxies-{run.args.process_index}.pt")
    if run.is_world_process_zero():
        weights = torch.stack([weights for _, weights in totals])
        figures = [row["eval_map"] for row in run.state.log_history if "eval_map" in row]
        result = {"assignment": run.model.assignment, "weights": weights, "figures": figures}
        torch.save(result, folder / "result.pt")


def train_until_one_dies(folder, processes):
    """Train as a command does; the last process dies in the second epoch."""
    settings = {"per_device_train_batch_size": BATCH_SIZE // processes, "save_strategy": "epoch", "size": 22}
    sys.argv = sys.argv[:1]
    cli.run(lambda: tiny_trainer(folder, callbacks=[DieAt], **settings).train() and None)


SIGNALS = {  # by group, the process that sends a signal in the middle of its training, and how
    "stopped": (1, lambda: os.kill(os.getpid(), signal.SIGSTOP)),
    "interrupted launcher": (0, lambda: os.kill(os.getppid(), signal.SIGINT)),
    "interrupted group": (0, lambda: os.killpg(os.getpgid(os.getppid()), signal.SIGINT)),
}


def train_until_a_signal(folder, group):
    """Train by the command and the recipe of the folder; one process sends a signal at its fourth step."""
    rank, send = SIGNALS[group]
    step = CRHTrainer.training_step

    def training_step(self, *arguments, **settings):
        if self.state.global_step == 4 and self.args.process_index == rank:
            send()
        return step(self, *arguments, **settings)

    CRHTrainer.training_step = training_step
    sys.argv = [sys.argv[0], str(folder / "recipe.yaml"), "--out", str(folder / "run")]
    cli.run(train_command)


def take_part(folder, group):
    """What one process does."""
    processes = int(os.environ["WORLD_SIZE"])
    if group in SIGNALS:
        train_until_a_signal(folder / group, group)
    if group == "dying":
        train_until_one_dies(folder / group, processes)
    train(folder / group, processes)
    leave_processes()


def start_group(folder, group, processes):
    """Fork processes that find each other, as a launcher would start them; prints how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    sizes = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            os.environ |= address | sizes | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.dup2(2, 1)  # what trainers print
            take_part(folder, group)
            sys.exit(0)
        children.append(child)
    codes = []
    for child in children:
        if group == "stopped" and codes:
            os.kill(child, signal.SIGKILL)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(group, *codes, flush=True)


if __name__ == "__main__":
    parent, groups = Path(sys.argv[1]), sys.argv[2:]
    for name in groups:
        (parent / name).mkdir(exist_ok=True)
        if "RANK" in os.environ:
            take_part(parent, name)
        else:
            start_group(parent, name, int(name[0]) if name[0].isdigit() else 2)
