import resource
import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import CONVNEXT, DINOV2, RESNET, VIT, Clusters, StopAt, rival_trainer, same_state, tiny_trainer
from transformers import TrainerCallback

from modeling_crh.metrics import retrieval_figures
from modeling_crh.training.assignment import ClassStatistics, reassign
from modeling_crh.training.checkpointing import find_last_checkpoint

BACKBONES = [
    pytest.param(VIT, id="vit"),
    pytest.param(RESNET, id="resnet"),
    pytest.param(DINOV2, id="dinov2"),
    pytest.param(CONVNEXT, id="convnext"),
]


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


def test_an_evaluation_searches_the_database_that_it_is_given(tmp_path):
    trainer = tiny_trainer(tmp_path, multi_label=True)
    trainer.eval_database = Clusters(30, seed=2, multi_label=True)
    found = trainer.evaluate()
    codes = [trainer.model.encode(features=items.values) for items in (trainer.eval_dataset, trainer.eval_database)]
    expected = retrieval_figures(*codes, trainer.eval_dataset.labels, trainer.eval_database.labels)
    assert found["eval_map"] == expected["map"]
    assert found["eval_database"] == 30


def test_statistics_are_those_of_the_codes_that_training_emitted(tmp_path):
    seen = []

    class Spy(TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            seen.append(kwargs["model"].assignment.clone())

    trainer = tiny_trainer(tmp_path, num_train_epochs=1)
    observe, before = trainer.reassignment.observe, trainer.model.assignment.clone()
    statistics = ClassStatistics.zeros(5, 16)
    trainer.reassignment.observe = lambda *batch: (observe(*batch), statistics.update(*batch[:2]))
    trainer.add_callback(Spy())
    trainer.train()
    assert statistics.weights.sum() == 101
    assert torch.equal(seen[0], reassign(trainer.model.codebook, before, statistics))


def test_centers_that_never_move_stay(tmp_path):
    trainer = tiny_trainer(tmp_path, reassignment="none", eval_strategy="epoch")
    before = trainer.model.assignment.clone()
    trainer.train()
    assert torch.equal(trainer.model.assignment, before)
    assert not any("eval_centers_moved" in entry for entry in trainer.state.log_history)


SHARED = {"model_fields": {"codebook": "shared", "head_dim": 2}}


@pytest.mark.parametrize(
    "settings",
    [
        {"reassignment": "greedy"},
        {"soft_statistics": True},
        {"multi_label": True},
        SHARED,
        SHARED | {"multi_label": True},
    ],
)
def test_the_same_seed_gives_the_same_run(settings, tmp_path):
    runs = [tiny_trainer(tmp_path / str(number), size=50, num_train_epochs=2, **settings) for number in range(2)]
    for run in runs:
        run.train()
    assert same_state(runs[0].model, runs[1].model)


@pytest.mark.parametrize(
    ("backbone", "fields"),
    [pytest.param(None, {}, id="features"), pytest.param(None, SHARED, id="shared words")]
    + [pytest.param(*backbone.values, {}, id=backbone.id) for backbone in BACKBONES],
)
def test_a_run_that_was_interrupted_and_resumed_ends_the_same_bit_for_bit(backbone, fields, tmp_path):
    steps = 4 if backbone is None else 2  # at the end of an epoch, and within one
    settings = fields | {"backbone": backbone, "save_strategy": "steps", "save_steps": steps, "size": 50}
    whole = tiny_trainer(tmp_path / "whole", **settings)
    whole.train()
    with pytest.raises(InterruptedError):
        tiny_trainer(tmp_path / "resumed", callbacks=[StopAt(7)], **settings).train()
    resumed = tiny_trainer(tmp_path / "resumed", **settings)
    resumed.train(resume_from_checkpoint=True)
    assert same_state(whole.model, resumed.model)


def test_a_checkpoint_saved_on_the_last_step_of_an_epoch_does_not_lose_its_reassignment(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 4, "size": 50, "save_total_limit": 5}  # 4 steps an epoch
    whole = tiny_trainer(tmp_path / "whole", **settings)
    whole.train()
    trainer = tiny_trainer(tmp_path / "resumed", **settings)
    shutil.copytree(tmp_path / "whole" / "checkpoint-4", tmp_path / "resumed" / "checkpoint-4")
    trainer.train(resume_from_checkpoint=True)
    assert same_state(whole.model, trainer.model)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_best_model_is_loaded_at_the_end_with_its_weights(backbone, tmp_path):
    trainer = tiny_trainer(
        tmp_path, backbone, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, size=50
    )
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

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 4:
                torch.nn.init.constant_(kwargs["model"].hash_head.bias, float("nan"))

    trainer.add_callback(Poison())
    with pytest.raises(ValueError, match="Training must stay finite, but the loss is nan at step 4"):
        trainer.train()
    last = find_last_checkpoint(tmp_path)
    assert Path(last).name == "checkpoint-3"
    assert type(trainer.model).from_pretrained(last).hash_head.bias.isfinite().all()


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    class Poison(TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            torch.nn.init.constant_(kwargs["model"].hash_head.bias, float("inf"))

    trainer = tiny_trainer(tmp_path, save_strategy="epoch", callbacks=[Poison()])
    with pytest.raises(ValueError, match="Training must stay finite, but the weights are not at step 7"):
        trainer.train()
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_a_last_batch_of_one_sample_is_refused_for_an_mlp_head(tmp_path):
    fields = {"hash_head": "mlp", "hash_head_hidden_size": 8}
    with pytest.raises(
        ValueError, match=r"`per_device_train_batch_size` must not leave a batch of one sample .* got 16 for 33"
    ):
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
