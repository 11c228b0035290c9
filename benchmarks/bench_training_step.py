"""What does a step of CRHTrainer cost, beside one of transformers' own Trainer with a linear classifier?

Method: both train a ViT-Ti at 224 px, from the same weights, in batches of 8: CRHTrainer at 64 bits, with its check of
the loss and its class statistics, and Trainer a `ViTForImageClassification` of C outputs. Each runs `train()` in a
thread of its own, and they take turns by the step, so that loading, optimizer and log are in, and both sides see the
same machine. A step counts by its CPU time, which what else runs on the machine hardly changes. Reassignment, of
statistics as hard as those of bench_assignment, is measured apart and shared out over the steps of an epoch of 40
samples a class, about what Stanford Cars and NABirds have. `ratio` is the median over the turns, with reassignment's
share of a step in it; `reassign_share` is the part that reassignment has of an epoch.

    OMP_NUM_THREADS=1 python benchmarks/bench_training_step.py [--labels 200,2000] [--rounds 20]
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from bench_assignment import draw_statistics
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.trainer_callback import PrinterCallback

from modeling_crh import CRHConfig, CRHModel, CRHTrainer, CRHTrainingArguments

BATCH_SIZE, SAMPLES, WARM_UP = 8, 40, 3
VIT_TI: dict[str, Any] = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": BATCH_SIZE,
    "learning_rate": 1.0e-4,
    "logging_steps": 10,
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "dataloader_pin_memory": False,
}


class Noise(Dataset[dict[str, Tensor]]):
    """As many labelled images as an epoch has, of a few that lie in memory."""

    def __init__(self, num_labels: int, side: int) -> None:
        self.num_labels = num_labels
        self.images = torch.randn(32, 3, side, side, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return SAMPLES * self.num_labels

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.images[index % 32], "labels": torch.tensor(index % self.num_labels)}


class Turns(TrainerCallback):
    """Lets one of two trainers take a step, and measures it from its beginning to that of the next."""

    def __init__(self, own: threading.Semaphore, other: threading.Semaphore) -> None:
        self.own, self.other = own, other
        self.seconds: list[float] = []
        self.started: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock, let the other go on, and start it again."""
        if self.started is not None:
            self.seconds.append(time.thread_time() - self.started)
        self.other.release()
        self.own.acquire()
        self.started = time.thread_time()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the other end too."""
        self.other.release()


def build_trainers(
    num_labels: int, steps: int, folder: str, vit: dict[str, Any] = VIT_TI, **settings: Any
) -> tuple[CRHTrainer, Trainer]:
    """CRH's, and the plain one, of a ViT; `settings` replace some of `SETTINGS`."""
    labels: dict[str, Any] = {"num_labels": num_labels}
    backbone = ViTConfig(**vit)
    model = CRHModel(CRHConfig(backbone_config=backbone, num_bits=64, **labels))
    plain = ViTForImageClassification(ViTConfig(**vit, **labels))
    plain.vit.load_state_dict(cast(PreTrainedModel, model.backbone).state_dict())
    dataset = Noise(num_labels, cast(int, backbone.image_size))
    given: dict[str, Any] = {"output_dir": folder, "max_steps": steps} | SETTINGS | settings
    crh = CRHTrainer(model, CRHTrainingArguments(**given), train_dataset=dataset)
    other = Trainer(plain, TrainingArguments(**given), train_dataset=dataset)
    for trainer in (crh, other):
        trainer.remove_callback(PrinterCallback)
    return crh, other


def take_turns(trainers: tuple[CRHTrainer, Trainer]) -> list[list[float]]:
    """CPU seconds of the steps of both."""
    semaphores = threading.Semaphore(0), threading.Semaphore(0)
    turns = [Turns(semaphores[0], semaphores[1]), Turns(semaphores[1], semaphores[0])]
    work: list[Callable[[], Any]] = []
    for trainer, turn in zip(trainers, turns, strict=True):
        trainer.add_callback(turn)
        work.append(trainer.train)
    threads = [threading.Thread(target=train) for train in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [turn.seconds[WARM_UP:] for turn in turns]


def time_reassignment(trainer: CRHTrainer, num_labels: int) -> float:
    """CPU seconds of the end of an epoch."""
    loader = trainer.get_train_dataloader()
    trainer.reassignment.statistics = draw_statistics(num_labels, np.random.default_rng(0))
    trainer.reassignment.batches = len(loader)
    started = time.process_time()
    trainer.reassignment.on_epoch_end(
        trainer.args, trainer.state, trainer.control, model=trainer.model, train_dataloader=loader
    )
    return time.process_time() - started


def measure(num_labels: int, rounds: int) -> dict[str, Any]:
    """One number of classes."""
    with TemporaryDirectory() as folder:
        trainers = build_trainers(num_labels, rounds + WARM_UP + 1, folder)
        own, plain = take_turns(trainers)
        reassignment = time_reassignment(trainers[0], num_labels)
    steps = SAMPLES * num_labels / BATCH_SIZE
    ratios = [(one + reassignment / steps) / other for one, other in zip(own, plain, strict=True)]
    step = statistics.median(own)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"C={num_labels}: a step {step:.3f} s against {statistics.median(plain):.3f} s, ratio {middle:.4f} (quartiles "
        f"{low:.4f} to {high:.4f}); reassignment {reassignment:.3f} s after {steps:.0f} steps",
        flush=True,
    )
    share = reassignment / (reassignment + steps * step)
    return {"labels": num_labels, "ratio": round(middle, 4), "reassign_share": round(share, 6)}


def main() -> None:
    """Measure every number of classes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--labels", default="200,2000", help="numbers of classes, with commas between")
    parser.add_argument("--rounds", type=int, default=20, help="steps of each that count")
    args = parser.parse_args()
    print(json.dumps([measure(int(labels), args.rounds) for labels in args.labels.split(",")]))


if __name__ == "__main__":
    main()
