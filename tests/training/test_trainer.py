import math
import resource
from pathlib import Path

import pytest
import torch
from tiny_runs import (
    CONVNEXT,
    DINOV2,
    RESNET,
    VIT,
    Clusters,
    call_at,
    check_resuming,
    rival_trainer,
    same_state,
    tiny_trainer,
)

from modeling_crh.metrics import retrieval_figures
from modeling_crh.training.assignment import ClassStatistics, reassign
from modeling_crh.training.checkpointing import find_last_checkpoint

BACKBONES = {"vit": VIT, "resnet": RESNET, "dinov2": DINOV2, "convnext": CONVNEXT}
EVERY_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
SHARED = {"model_fields": {"codebook": "shared", "head_dim": 2}}


@pytest.mark.parametrize("multi_label", [False, True])
def test_training_learns_and_moves_centers_and_every_evaluation_logs_figures_and_bits(multi_label, tmp_path):
    trainer = tiny_trainer(tmp_path, num_train_epochs=6, multi_label=multi_label, eval_strategy="epoch")
    before = trainer.model.assignment.clone()
    first = trainer.evaluate()
    trainer.train()
    last = trainer.evaluate()
    assert last["eval_map"] > max(0.9, first["eval_map"])
    assert not torch.equal(trainer.model.assignment, before)
    assert all(len(set(words)) == len(words) for words in trainer.model.assignment.tolist())
    logged = [entry for entry in trainer.state.log_history if "eval_map" in entry]
    assert len(logged) == 7
    names = "map map_lower map_upper precision_at_10 bit_balance bit_correlation center_distance_least"
    for name in [*names.split(), "center_distance_mean", "centers_moved", "loss"]:
        assert all(f"eval_{name}" in entry for entry in logged), name
    assert all(entry["eval_map_lower"] <= entry["eval_map"] <= entry["eval_map_upper"] for entry in logged)


def test_evaluations_and_predictions_search_the_database_that_they_are_given(tmp_path):
    trainer = tiny_trainer(tmp_path, multi_label=True)
    trainer.eval_database = Clusters(30, seed=2, multi_label=True)
    found = trainer.evaluate()
    codes = [trainer.model.encode(features=items.values) for items in (trainer.eval_dataset, trainer.eval_database)]
    expected = retrieval_figures(*codes, trainer.eval_dataset.labels, trainer.eval_database.labels)
    assert found["eval_map"] == expected["map"]
    assert found["eval_database"] == 30
    predicted = trainer.predict(trainer.eval_dataset).metrics
    assert (predicted["test_map"], predicted["test_database"]) == (expected["map"], 30)


def test_every_epoch_ends_with_a_reassignment_by_the_codes_that_its_training_emitted(tmp_path):
    trainer, seen = tiny_trainer(tmp_path, num_train_epochs=2, eval_strategy="epoch"), []
    observe, before = trainer.reassignment.observe, trainer.model.assignment.clone()
    trainer.reassignment.observe = lambda *batch: (observe(*batch), seen.append(batch[:2]))
    trainer.train()
    for epoch in range(2):
        statistics = ClassStatistics.zeros(5, 16)
        for batch in seen[7 * epoch : 7 * epoch + 7]:
            statistics.update(*batch)
        assert statistics.weights.sum() == 101
        before, last = reassign(trainer.model.codebook, before, statistics), before
    assert torch.equal(trainer.model.assignment, before)
    assert trainer.evaluate()["eval_centers_moved"] == (before != last).any(0).double().mean()


@pytest.mark.parametrize(
    ("settings", "kept"), [({"reassignment": "none"}, 0), ({"reassign_every_epoch_until": 0}, 0), ({"max_steps": 5}, 5)]
)
def test_centers_that_never_move_stay_as_do_those_of_an_epoch_that_is_not_over(settings, kept, tmp_path):
    trainer = tiny_trainer(tmp_path, eval_strategy="epoch", **settings)
    before = trainer.model.assignment.clone()
    trainer.train()
    assert torch.equal(trainer.model.assignment, before)
    assert not any("eval_centers_moved" in entry for entry in trainer.state.log_history)
    assert trainer.reassignment.batches == kept


@pytest.mark.parametrize(
    ("settings", "steps"),  # within an epoch of 4, and at the end of one, whose reassignment is due
    [({}, 4), (SHARED, 4), (SHARED | {"multi_label": True}, 4), ({"multi_label": True}, 2)]
    + [({"reassignment": "greedy"}, 2), ({"soft_statistics": True}, 2)]
    + [({"backbone": backbone}, 2) for backbone in BACKBONES.values()],
)
def test_a_run_that_was_interrupted_and_resumed_ends_the_same_bit_for_bit(settings, steps, tmp_path):
    check_resuming(tiny_trainer, tmp_path, save_strategy="steps", save_steps=steps, size=50, **settings)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_best_model_is_loaded_at_the_end_with_its_weights(backbone, tmp_path):
    trainer = tiny_trainer(tmp_path, BACKBONES[backbone], size=50, **EVERY_EPOCH)
    trainer.train()
    saved = type(trainer.model).from_pretrained(trainer.state.best_model_checkpoint)
    assert same_state(trainer.model, saved)
    figures = [entry["eval_map"] for entry in trainer.state.log_history if "eval_map" in entry]
    assert trainer.evaluate()["eval_map"] == max(figures)


@pytest.mark.parametrize("rival", [None, "mds"])
def test_gradient_accumulation_does_not_scale_the_loss(rival, tmp_path):
    losses = []
    for batch_size, steps in ((16, 1), (8, 2)):
        settings = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": steps}
        settings |= {"size": 96, "learning_rate": 1e-9, "num_train_epochs": 1}
        trainer = rival_trainer(tmp_path, rival, **settings) if rival else tiny_trainer(tmp_path, **settings)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_checkpoint(tmp_path):
    trainer = tiny_trainer(tmp_path, save_strategy="epoch", size=48)
    bias = trainer.model.hash_head.bias
    call_at(trainer, "step_begin", lambda: trainer.state.global_step == 4 and torch.nn.init.constant_(bias, math.nan))
    with pytest.raises(ValueError, match="Training must stay finite, but the loss is nan at step 4"):
        trainer.train()
    last = find_last_checkpoint(tmp_path)
    assert Path(last).name == "checkpoint-3"
    assert type(trainer.model).from_pretrained(last).hash_head.bias.isfinite().all()


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    trainer = tiny_trainer(tmp_path, save_strategy="epoch")
    call_at(trainer, "epoch_end", lambda: torch.nn.init.constant_(trainer.model.hash_head.bias, math.inf))
    with pytest.raises(ValueError, match="Training must stay finite, but the weights are not at step 7"):
        trainer.train()
    assert list(tmp_path.glob("checkpoint-*")) == []


@pytest.mark.parametrize("fields", [{"hash_head": "mlp", "hash_head_hidden_size": 8}, {"hash_head_batch_norm": True}])
def test_a_last_batch_of_one_sample_is_refused_for_a_batch_norm(fields, tmp_path):
    with pytest.raises(ValueError, match=r"`per_device_train_batch_size` must not leave .* got 16 for 33"):
        tiny_trainer(tmp_path, size=33, model_fields=fields).train()
    with pytest.raises(ValueError, match=r"a batch of one sample to the head's batch norm, but got 1 for 8 samples\."):
        tiny_trainer(tmp_path, size=8, model_fields=fields, per_device_train_batch_size=1).train()
    tiny_trainer(tmp_path, size=33, model_fields=fields, dataloader_drop_last=True).train()


def test_a_checkpoint_that_cannot_be_written_is_removed(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    trainer = tiny_trainer(tmp_path, VIT, save_strategy="epoch")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # files end there, as on a full disk
    try:
        with pytest.raises(OSError, match=r"checkpoint-7 could not be saved and was removed: "):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_resuming_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="`resume_from_checkpoint` needs a whole checkpoint"):
        tiny_trainer(tmp_path).train(resume_from_checkpoint=True)
