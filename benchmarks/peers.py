"""Do our rivals compute what others' code of them computes, and do both train equally well?

Nobody's code is here: give the folders of clones that you have made.

    git clone https://github.com/kamwoh/orthohash           # the authors' own
    git clone https://github.com/swuxyj/DeepHash-pytorch    # re-implementations that papers compare with
    python benchmarks/peers.py --orthohash orthohash --deephash DeepHash-pytorch [--data runs/methods-data]

Method: the same hash logits, labels, centers and weights go through both losses, for three seeds at 64 bits.
Printed are the largest difference of the loss, and that of its gradient relative to the largest gradient. HashNet and
DTSH differ by more than rounding: theirs count the pair of a sample with itself as similar, and ours leave it out;
DTSH's mean is over anchors there and over triplets here. With `--data`, a head is then trained with either on the
sections of `method_data.py`, by the recipe of `bench_methods.py` at 32 bits with a learning rate of 0.01. The last line
is one JSON document.
"""

import functools
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from method_rows import DATA, ROWS, make_recipe
from torch import Tensor, nn

from modeling_crh.cli import run as run_command
from modeling_crh.training.objectives import OBJECTIVES, Objective

NUM_LABELS, NUM_BITS, BATCH = 20, 64, 256
NAMES = ("orthohash", "csq", "greedyhash", "hashnet", "dtsh")

Clones = tuple[Path | None, Path | None]
Loss = Callable[[Tensor, Tensor], Tensor]


def compare(
    orthohash: Annotated[Path | None, typer.Option(help="Clone of kamwoh/orthohash.")] = None,
    deephash: Annotated[Path | None, typer.Option(help="Clone of swuxyj/DeepHash-pytorch.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that method_data.py has filled, to train both.")] = None,
) -> None:
    """Compare the losses, and with `--data` the trained codes."""
    if orthohash is None and deephash is None:
        raise ValueError("`orthohash` or `deephash` must be the folder of a clone, but neither was given.")
    chosen = [name for name in NAMES if (orthohash if name == "orthohash" else deephash) is not None]
    found: dict[str, Any] = {}
    for name in chosen:
        pairs = [_differences(name, (orthohash, deephash), seed) for seed in range(3)]
        found[name] = {"loss": max(one for one, _ in pairs), "gradient": max(other for _, other in pairs)}
        if data is not None:
            found[name] |= {side: _train(name, (orthohash, deephash), side, data) for side in ("ours", "theirs")}
        print(name, found[name], flush=True)
    print(json.dumps(found))


def _differences(name: str, clones: Clones, seed: int) -> tuple[float, float]:
    """Largest differences of the loss, and of the gradient relative to the largest gradient."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(BATCH, NUM_BITS, generator=generator)
    labels = torch.randint(NUM_LABELS, (BATCH,), generator=generator)
    ours = OBJECTIVES[name](NUM_LABELS, NUM_BITS, seed)
    values, gradients = [], []
    for loss in (ours.loss, their_loss(ours, *clones)):
        given = logits.clone().requires_grad_()
        value = loss(given, labels)
        value.backward()
        assert given.grad is not None
        values.append(value.item())
        gradients.append(given.grad)
    one, other = gradients
    return abs(values[0] - values[1]), ((one - other).abs().max() / one.abs().max()).item()


def their_loss(ours: Objective, orthohash: Path | None, deephash: Path | None) -> Loss:
    """Make the loss of a clone with the settings, centers and weights of our objective."""
    settings: Any = ours
    if ours.name == "orthohash":
        loss = _module(orthohash, "functions.loss.orthohash").OrthoHashLoss(s=settings.scale, m=settings.margin)
        centers = ours.require_centers().float()
        return lambda logits, labels: loss(
            nn.functional.normalize(logits) @ nn.functional.normalize(centers).T, logits, labels, onehot=False
        )
    config = {"dataset": "imagenet", "n_class": ours.num_labels, "device": "cpu"}
    if ours.name == "hashnet":
        config["alpha"] = settings.alpha
    elif ours.name == "dtsh":
        config |= {"alpha": settings.margin, "lambda": 0.0}
    else:
        config |= {"alpha": settings.quantization_weight, "lambda": settings.quantization_weight}
    file = {"csq": "CSQ", "greedyhash": "GreedyHash", "hashnet": "HashNet", "dtsh": "DTSH"}[ours.name]
    loss = getattr(_module(deephash, file), f"{file}Loss")(config, ours.num_bits)
    if ours.name == "csq":
        loss.hash_targets = ours.require_centers().float()
    if ours.name == "greedyhash":
        loss.fc = settings.classifier

    def call(logits: Tensor, labels: Tensor) -> Any:
        if ours.name == "hashnet":
            loss.scale = settings.beta
        targets = nn.functional.one_hot(labels, ours.num_labels).float()
        if ours.name == "dtsh":  # theirs takes the products themselves, and ours their halves
            gap = (logits - logits.detach().sign()).square().mean()
            return loss(logits / 2**0.5, targets, None, config) + settings.quantization_weight * gap
        return loss(logits, targets, None, config)

    return call


def _module(clone: Path | None, name: str) -> Any:
    """Import a module of a clone, whose modules have names such as `utils` in every clone."""
    if clone is None or not clone.is_dir():
        raise ValueError(f"the clone must be a folder, but got {str(clone)!r}.")
    before = set(sys.modules)
    sys.path.insert(0, str(clone))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(clone))
        for loaded in set(sys.modules) - before:
            if str(getattr(sys.modules[loaded], "__file__", None) or "").startswith(str(clone.absolute())):
                del sys.modules[loaded]


def _train(name: str, clones: Clones, side: str, data: Path) -> float:
    """Train a head with one of the two losses, and compute mAP of the queries."""
    from modeling_crh.training.evaluation import evaluate_splits
    from modeling_crh.training.recipe import Recipe
    from modeling_crh.training.run import train

    fields = make_recipe(DATA["sections"], ROWS[name], 32, 0, {"training": {"learning_rate": 1.0e-2}})
    fields["dataset"] = str(data / "sections")
    kept = OBJECTIVES[name]
    if side == "theirs":
        OBJECTIVES[name] = _theirs(kept, clones)
    try:
        with TemporaryDirectory() as folder:
            run = train(Recipe.from_dict(fields), Path(folder, "run"))
    finally:
        OBJECTIVES[name] = kept
    return round(evaluate_splits(run.model, run.processor, run.splits)["map"], 4)


def _theirs(ours: type[Objective], clones: Clones) -> type[Objective]:
    """Make an objective with the loss of a clone, and all else ours."""

    class Theirs(ours):  # type: ignore[misc, valid-type]
        """Our centers and weights, their loss."""

        @functools.cached_property
        def _call(self) -> Loss:
            return their_loss(self, *clones)

        def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
            """See `Objective`."""
            return self._call(hash_logits, labels)

    return Theirs


if __name__ == "__main__":
    run_command(compare)
