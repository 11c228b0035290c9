"""Training runs that take a second, shared by the tests of training."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainerCallback, set_seed

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.callbacks import TrainingProgress
from modeling_crh.training.objectives import OBJECTIVES
from modeling_crh.training.run import train
from modeling_crh.training.trainer import CRHTrainer

NUM_LABELS = 5
OF_THE_TRAINER = ("callbacks", "compute_metrics", "eval_dataset", "model_init", "objective")
VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 8,
    "patch_size": 4,
    "hidden_dropout_prob": 0.1,
}
DINOV2 = {name: value for name, value in VIT.items() if name != "intermediate_size"} | {"model_type": "dinov2"}
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
CONVNEXT = {"model_type": "convnext", "num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "patch_size": 2}

IMAGES = {
    "model": {"num_bits": 16, "backbone_config": RESNET},
    "image_processor": {"size": {"height": 16, "width": 16}},
    "training": {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 1.0e-2,
        "use_cpu": True,
        "report_to": "none",
    },
}
"""Fields of a recipe for a folder of tiny images."""


class Clusters(Dataset[dict[str, Tensor]]):
    """Points around one mean a class, as stored features or as small images."""

    def __init__(self, size: int, shape: tuple[int, ...] = (8,), seed: int = 0, multi_label: bool = False) -> None:
        means = torch.randn(NUM_LABELS, *shape, generator=torch.Generator().manual_seed(99))
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, NUM_LABELS, (size,), generator=generator)
        self.values = means[labels] + 0.5 * torch.randn(size, *shape, generator=generator)
        self.labels = torch.nn.functional.one_hot(labels, NUM_LABELS).float() if multi_label else labels
        self.input_name = "features" if len(shape) == 1 else "pixel_values"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {self.input_name: self.values[index], "labels": self.labels[index]}


def write_features(folder, labels):
    """Write features around a point of each class, and their labels, as arrays of NumPy; gives the path."""
    names, rows = np.unique(labels, return_inverse=True)
    means, noise = (np.random.default_rng(0).normal(size=(count, 8)) for count in (len(names), len(rows)))
    np.save(folder / "rows.npy", (2 * means[rows] + 0.5 * noise).astype(np.float32))
    np.save(folder / "rows.labels.npy", labels)
    return str(folder / "rows.npy")


def tiny_trainer(folder, backbone=None, size=101, multi_label=False, model_fields=None, **settings):
    """A trainer of a tiny model, from a fixed seed; `settings` are of the trainer or of its arguments."""
    set_seed(0)
    shape = (8,) if backbone is None else (3, 8, 8)
    config = CRHConfig(
        backbone_config=backbone,
        num_features=8 if backbone is None else None,
        num_labels=NUM_LABELS,
        num_bits=16,
        problem_type="multi_label_classification" if multi_label else "single_label_classification",
        **(model_fields or {}),
    )
    defaults = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-2,
        "logging_strategy": "epoch",
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
    }
    given = {name: settings.pop(name) for name in OF_THE_TRAINER if name in settings}
    given.setdefault("eval_dataset", Clusters(40, shape, seed=1, multi_label=multi_label))
    return CRHTrainer(
        None if "model_init" in given else CRHModel(config),
        CRHTrainingArguments(output_dir=str(folder), **(defaults | settings)),
        train_dataset=Clusters(size, shape, multi_label=multi_label),
        **given,
    )


def rival_trainer(folder, name, method_settings=None, model_fields=None, **settings):
    """A trainer of a rival method, of the model that a recipe would give it."""
    rival = OBJECTIVES[name]
    return tiny_trainer(
        folder,
        model_fields={"codebook_size": NUM_LABELS, "head_dim": 16} | rival.model_fields | (model_fields or {}),
        objective=rival(NUM_LABELS, 16, **(method_settings or {})),
        **settings,
    )


class StopAt(TrainerCallback):
    """Ends the run by an error at the beginning of a step, as a kill would."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise InterruptedError


def stop_run(recipe, folder, step):
    """Begin the run of a recipe, which ends by an error at the beginning of a step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingProgress, "on_step_begin", StopAt(step).on_step_begin)
        with pytest.raises(InterruptedError):
            train(recipe, folder)


def go_on(recipe, folder):
    """Go on with the run of a recipe, which may not begin anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingProgress, "on_step_begin", StopAt(0).on_step_begin)
        return train(recipe, folder, resume=True)


def check_resuming(make, folder, step=7, **settings):
    """Check that a run which ends at a step and is resumed has the weights of a whole one; gives both trainers."""
    whole = make(folder / "whole", **settings)
    whole.train()
    with pytest.raises(InterruptedError):
        make(folder / "resumed", callbacks=[StopAt(step)], **settings).train()
    resumed, steps = make(folder / "resumed", **settings), []
    call_at(resumed, "step_begin", lambda: steps.append(resumed.state.global_step))
    resumed.train(resume_from_checkpoint=True)
    assert 0 not in steps
    assert same_state(whole.model, resumed.model)
    return whole, resumed


def call_at(trainer, event, call):
    """Call a function without arguments at each event of a training, such as `step_end`."""

    def on_event(*args, **kwargs):
        call()

    callback = TrainerCallback()
    setattr(callback, f"on_{event}", on_event)
    trainer.add_callback(callback)


def vectors_of(trainer):
    """The list that the vectors of proxies, or None, will be in, step by step, once a trainer trains."""
    vectors, rule = [], trainer.reassignment

    def keep():
        vectors.append(None if rule.proxies is None else rule.proxies.vectors.detach().clone())

    call_at(trainer, "optimizer_step", keep)
    return vectors


def random_batch(seed, samples=6, num_labels=4, num_bits=8, multi=False):
    """Seeded hash logits and labels; with `multi`, at least one a row."""
    generator = torch.Generator().manual_seed(seed)
    hash_logits = torch.randn(samples, num_bits, generator=generator)
    labels = torch.randint(num_labels, (samples,), generator=generator)
    if multi:
        more = torch.randint(2, (samples, num_labels), generator=generator)
        labels = torch.nn.functional.one_hot(labels, num_labels) | more
    return hash_logits, labels


def multi_hot_rows(labels, num_labels=4):
    """Labels of either shape as lists of 0 and 1."""
    return (labels if labels.ndim == 2 else torch.nn.functional.one_hot(labels, num_labels)).tolist()


def same_state(one: CRHModel, other: CRHModel) -> bool:
    """Whether all weights and buffers are equal bit for bit."""
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )
