"""The rivals in the trainer: learning, checkpoints and resuming."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import NUM_LABELS, VIT, call_at, check_resuming, rival_trainer, same_state, tiny_trainer

from modeling_crh.training.checkpointing import OBJECTIVE_NAME, find_last_checkpoint
from modeling_crh.training.objectives import OBJECTIVES
from modeling_crh.training.run import run_first_stage

ALL = sorted(OBJECTIVES)
WITH_CENTERS = ["csq", "mds", "orthohash", "shc"]


def ready_trainer(*arguments, **settings):
    """A trainer of a rival whose first stage, if it has one, is over or in the checkpoint that it resumes from."""
    trainer = rival_trainer(*arguments, **settings)
    if trainer.rival.has_first_stage and find_last_checkpoint(trainer.args.output_dir) is None:
        run_first_stage(trainer)
    return trainer


@pytest.mark.parametrize(
    ("name", "several"), [(name, several) for name in ALL for several in {False, OBJECTIVES[name].has_multi_label}]
)
def test_a_rival_learns_one_label_or_several_and_no_center_moves(name, several, tmp_path):
    trainer = ready_trainer(tmp_path, name, multi_label=several, num_train_epochs=10)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_map"] > max(0.93, before["eval_map"] + 0.05)
    assert after["eval_loss"] < before["eval_loss"]
    assert "eval_centers_moved" not in after
    assert ("eval_center_distance_least" in after) == (name in WITH_CENTERS)
    assert torch.equal(trainer.model.assignment, torch.arange(NUM_LABELS).unsqueeze(0)) == (name in WITH_CENTERS)


@pytest.mark.parametrize("name", ALL)
def test_a_run_resumed_in_the_middle_ends_the_same_bit_for_bit(name, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "size": 50, "eval_strategy": "epoch"}
    whole, resumed = check_resuming(partial(ready_trainer, name=name), tmp_path, **settings)
    assert same_state(whole.rival, resumed.rival)
    losses = [[entry.get("eval_loss") for entry in run.state.log_history] for run in (whole, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["csq", "greedyhash", "shc"])
def test_the_best_model_is_loaded_with_its_objective(name, tmp_path):
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainer = ready_trainer(tmp_path, name, size=50, **settings)
    trainer.train()
    saved = load_file(Path(trainer.state.best_model_checkpoint, OBJECTIVE_NAME))
    assert all(torch.equal(value, saved[key]) for key, value in trainer.rival.state_dict().items())
    loaded = type(trainer.model).from_pretrained(trainer.state.best_model_checkpoint)
    assert same_state(loaded, trainer.model)
    if name in WITH_CENTERS:
        assert torch.equal(loaded.centers, saved["centers"])


def test_a_checkpoint_with_a_damaged_objective_is_not_whole(tmp_path):
    trainer = ready_trainer(tmp_path, "greedyhash", save_strategy="steps", save_steps=5, num_train_epochs=1, size=160)
    trainer.train()
    last = Path(find_last_checkpoint(tmp_path))
    assert last.name == "checkpoint-10"
    (last / OBJECTIVE_NAME).write_bytes((last / OBJECTIVE_NAME).read_bytes()[:20])
    assert Path(find_last_checkpoint(tmp_path)).name == "checkpoint-5"


def test_weights_of_an_objective_learn_with_the_head(tmp_path):
    rates = {"learning_rate": 1e-3, "head_learning_rate": 1e-2, "weight_decay": 0.5}
    trainer = ready_trainer(tmp_path, "greedyhash", backbone=VIT, **rates)
    groups, classifier = trainer.create_optimizer().param_groups, trainer.rival.classifier.weight
    (own,) = [group for group in groups if classifier in set(group["params"])]
    assert trainer.model.hash_head.weight in set(own["params"])
    assert (own["lr"], own["weight_decay"]) == (1e-2, 0.5)


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_weights_of_an_objective_are_trained_clipped_and_their_gradients_cleared(optim, tmp_path):
    trainer = ready_trainer(tmp_path, "greedyhash", optim=optim, max_grad_norm=1e-3, num_train_epochs=1)
    before, norms, cleared = trainer.rival.classifier.weight.detach().clone(), [], []

    def note():
        every = [*trainer.model.parameters(), *trainer.rival.parameters()]
        norms.append(math.sqrt(sum(one.grad.square().sum().item() for one in every)))

    call_at(trainer, "pre_optimizer_step", note)
    call_at(trainer, "step_end", lambda: cleared.append(trainer.rival.classifier.weight.grad is None))
    trainer.train()
    assert all(cleared)
    assert norms == pytest.approx([1e-3] * len(cleared), rel=1e-2)
    assert not torch.equal(trainer.rival.classifier.weight, before)


def test_hashnet_is_sharpened_at_every_step(tmp_path):
    trainer, betas = ready_trainer(tmp_path, "hashnet", max_steps=4), []
    call_at(trainer, "step_end", lambda: betas.append(trainer.rival.beta))
    trainer.train()
    assert betas == pytest.approx([math.sqrt(1 + 99 * step / 4) for step in range(4)])


def test_an_objective_of_other_centers_or_classes_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"`objective` must have centers .* \(4, 10, 4\), .* of shape \(5, 16\)"):
        tiny_trainer(tmp_path, objective=OBJECTIVES["csq"](NUM_LABELS, 16))

    with pytest.raises(ValueError, match=r"`objective` must have the model's number of classes, 5, but has 6"):
        tiny_trainer(tmp_path, objective=OBJECTIVES["dtsh"](6, 16))


@pytest.mark.parametrize("name", ["greedyhash", "shc"])
def test_weights_or_a_first_stage_are_refused_where_models_would_drift_apart(name, tmp_path, monkeypatch):
    trainer = tiny_trainer(tmp_path, model_fields={"codebook_size": NUM_LABELS, "head_dim": 16})
    with pytest.raises(ValueError, match=f"neither weights nor a first stage .* got {name} and a model_init"):
        rival_trainer(tmp_path, name, model_init=lambda: trainer.model)
    monkeypatch.setattr(type(trainer.args), "world_size", 2)
    with pytest.raises(ValueError, match=f"neither weights nor a first stage .* got {name} and 2 processes"):
        rival_trainer(tmp_path, name)
