"""How much memory does LoRA need to train a ViT-S, against all of its weights and against a frozen backbone?

Method: CRHTrainer trains a ViT-S/16 at 224 pixels with 64 bits by Adam in float32, for two steps of `--batch-size`
random images, in a process of its own for each mode and round. `mib` is the highest resident memory of that process
above what it had before the model was built; every allocation over 64 KiB is returned to the system when it is freed,
so that the figure is what is alive at once. `weights`, `gradients` and `optimizer` are exact bytes of tensors; the rest
of `mib` is activations and what the operators need for themselves. `step` is the CPU time of the second step. Modes
with `+gc` recompute activations (gradient checkpointing). Modes take turns; figures are medians over the rounds.
`share` is `mib` over that of full fine-tuning without `+gc`: the bar for LoRA of rank 8 is a half. `share_alike` is
`mib` over that of full fine-tuning with `+gc` on both sides, or on neither.

    OMP_NUM_THREADS=1 python benchmarks/bench_lora.py [--batch-size 32] [--rounds 3]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainerCallback, ViTConfig
from transformers.trainer_callback import PrinterCallback

from modeling_crh import CRHConfig, CRHModel, CRHTrainer, CRHTrainingArguments
from modeling_crh.training.fine_tuning import LoraSettings, add_lora, unfreeze_last

VIT_S: dict[str, Any] = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
EVERY_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]
MODES: dict[str, Callable[[CRHModel], CRHModel]] = {
    "full": lambda model: model,
    "lora": lambda model: add_lora(model, LoraSettings(rank=8)),
    "lora_every_linear": lambda model: add_lora(model, LoraSettings(rank=8, target_modules=EVERY_LINEAR)),
    "last_two_blocks": lambda model: unfreeze_last(model, 2),
    "frozen": lambda model: model.freeze_backbone(),
}
CHECKPOINTED = ("full", "lora", "lora_every_linear")
MIB = 2**20


class RandomImages(Dataset[dict[str, Tensor]]):
    """Noise of ten classes, in memory."""

    def __init__(self, size: int) -> None:
        self.pixels = torch.randn(size, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixels[index], "labels": torch.tensor(index % 10)}


class StepTimes(TrainerCallback):
    """CPU time of every step, and the gradients that it leaves to the optimizer."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.gradients = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.started = time.process_time()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Weigh the gradients before they are cleared."""
        self.gradients = sum(weight.grad.nbytes for weight in kwargs["model"].parameters() if weight.grad is not None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.process_time() - self.started)


def measure(mode: str, batch_size: int) -> dict[str, float]:
    """Train two steps in this process."""
    images, times = RandomImages(2 * batch_size), StepTimes()
    before = _resident()
    settings: dict[str, Any] = {"backbone_config": ViTConfig(**VIT_S), "num_labels": 10}
    model = MODES[mode.removesuffix("+gc")](CRHModel(CRHConfig(**settings)))
    with TemporaryDirectory() as folder:
        arguments = CRHTrainingArguments(
            folder,
            max_steps=2,
            per_device_train_batch_size=batch_size,
            gradient_checkpointing=mode.endswith("+gc"),
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
            dataloader_pin_memory=False,
        )
        trainer = CRHTrainer(model, arguments, train_dataset=images, callbacks=[times])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    optimizer: Any = trainer.optimizer
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return {
        "mib": (peak - before) / MIB,
        "weights": sum(weight.nbytes for weight in model.parameters()) / MIB,
        "gradients": times.gradients / MIB,
        "optimizer": sum(value.nbytes for value in states) / MIB,
        "trained": model.num_parameters(only_trainable=True),
        "step": times.seconds[-1],
    }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measure_apart(mode: str, batch_size: int) -> dict[str, float]:
    """Measure a mode in a process of its own."""
    command = [sys.executable, __file__, "--mode", mode, "--batch-size", str(batch_size)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure every mode."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mode", help="measure this one in this process")
    args = parser.parse_args()
    if args.mode is not None:
        print(json.dumps(measure(args.mode, args.batch_size)))
        return
    modes = [*MODES, *(f"{mode}+gc" for mode in CHECKPOINTED)]
    rounds = [{mode: measure_apart(mode, args.batch_size) for mode in modes} for _ in range(args.rounds)]
    figures: dict[str, dict[str, float]] = {
        mode: {name: statistics.median(one[mode][name] for one in rounds) for name in rounds[0][mode]} for mode in modes
    }
    for mode, found in figures.items():
        alike = "full+gc" if mode.endswith("+gc") else "full"
        found["share"] = found["mib"] / figures["full"]["mib"]
        found["share_alike"] = found["mib"] / figures[alike]["mib"]
        print(f"{mode}: {found['mib']:,.0f} MiB, {found['share']:.3f} of full, {found['step']:.1f} s a step")
    rounded = {mode: {name: round(value, 3) for name, value in found.items()} for mode, found in figures.items()}
    print(json.dumps({"batch_size": args.batch_size, "rounds": args.rounds, "modes": rounded}))


if __name__ == "__main__":
    main()
