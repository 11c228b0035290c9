"""What users of transformers.Trainer are used to works with CRHTrainer too, or is refused with a sentence."""

import inspect
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from tiny_runs import NUM_LABELS, VIT, Clusters, call_at, check_resuming, rival_trainer, same_state, tiny_trainer
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer_utils import SchedulerType

from modeling_crh import CRHConfig, CRHModel, CRHTrainer
from modeling_crh.encoding import FeatureDataset
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.checkpointing import PRIVATE_HOOKS
from modeling_crh.training.evaluation import describe_run

EVERY_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}


FIELDS = {"backbone_config": None, "num_features": 8, "num_labels": NUM_LABELS, "num_bits": 16}


def make_model():
    return CRHModel(CRHConfig(**FIELDS))


def make_rival_model():
    return CRHModel(CRHConfig(**FIELDS, codebook_size=NUM_LABELS, head_dim=16))


def signature(function):
    return f"{function.__name__}({', '.join(inspect.signature(function).parameters)})"


def test_every_private_hook_is_listed_and_is_what_transformers_has():
    methods = {name for name in PRIVATE_HOOKS if "(" in name}
    assert methods == {signature(getattr(Trainer, name.partition("(")[0])) for name in methods}
    own = {name for name in vars(CRHTrainer) if name.startswith("_") and hasattr(Trainer, name) and name[1] != "_"}
    assert own == {name.partition("(")[0] for name in methods}
    source = inspect.getsource(Trainer)
    used = set(re.findall(r"self\.(_\w+)", inspect.getsource(CRHTrainer))) - set(vars(CRHTrainer))
    assert used - own == PRIVATE_HOOKS.keys() - methods
    assert all(f"self.{name} = " in source for name in used - own)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"`args` must be CRHTrainingArguments, which take all .* but got nothing"),
        ({"args": TrainingArguments(output_dir="unused")}, r"`args` must be CRHTrainingArguments, .* but got Tr"),
        (
            {"args": CRHTrainingArguments(output_dir="unused"), "compute_loss_func": print},
            "`compute_loss_func` must be None, since another loss is an `objective`, but",
        ),
    ],
)
def test_other_arguments_are_refused_by_the_name_of_the_right_ones(settings, message):
    with pytest.raises(ValueError, match=message):
        CRHTrainer(make_model(), **settings)


def test_metrics_of_ones_own_stand_beside_ours(tmp_path):
    trainer = tiny_trainer(tmp_path, compute_metrics=lambda prediction: {"shape": prediction.predictions.shape})
    found = trainer.evaluate()
    assert found["eval_shape"] == (40, 16)
    assert "eval_map" in found


def test_several_data_sets_are_evaluated_by_their_names_and_one_chooses_the_best_model(tmp_path):
    settings = EVERY_EPOCH | {"eval_dataset": {"near": Clusters(40, seed=1), "far": Clusters(30, seed=2)}}
    with pytest.raises(ValueError, match=r"`metric_for_best_model` must .* such as 'near_map', but got 'map'"):
        tiny_trainer(tmp_path, **settings)
    trainer = tiny_trainer(tmp_path, metric_for_best_model="far_map", **settings)
    trainer.eval_database = Clusters(50, seed=3)
    trainer.train()
    found = trainer.evaluate()
    assert found["eval_far_map"] == trainer.state.best_metric
    assert (found["eval_near_queries"], found["eval_far_queries"], found["eval_far_database"]) == (40, 30, 50)


def test_every_training_of_a_model_that_is_made_anew_is_the_same(tmp_path):
    trainer, models = tiny_trainer(tmp_path, model_init=make_model, seed=42), []
    for _ in range(2):
        trainer.train()
        assert trainer.state.global_step == 21
        models.append(trainer.model)
    assert models[0] is not models[1]
    assert same_state(*models)


@pytest.mark.parametrize(
    "make",
    [partial(tiny_trainer, model_init=make_model), partial(rival_trainer, name="csq", model_init=make_rival_model)],
    ids=["crh", "csq"],
)
def test_settings_are_searched_for_the_best_map(make, tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trainer = make(tmp_path, num_train_epochs=1, **EVERY_EPOCH)
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", [1e-7, 1e-2])},
        n_trials=2,
        backend="optuna",
        sampler=optuna.samplers.BruteForceSampler(seed=0),
    )
    assert best.hyperparameters == {"learning_rate": 1e-2}
    assert 0.5 < best.objective <= 1
    assert {path.name for path in tmp_path.iterdir()} == {"run-0", "run-1"}
    assert all((path / "checkpoint-7" / "model.safetensors").exists() for path in tmp_path.iterdir())


@pytest.mark.parametrize("schedule", [kind.value for kind in SchedulerType])
def test_every_learning_rate_schedule_works(schedule, tmp_path):
    own = {"lr_scheduler_kwargs": {"num_decay_steps": 5}} if schedule == "warmup_stable_decay" else {}
    trainer = tiny_trainer(tmp_path, lr_scheduler_type=schedule, eval_strategy="epoch", size=48, **own)
    trainer.train()
    assert trainer.state.global_step == 9
    assert trainer.evaluate()["eval_map"] > 0.8


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "sgd", "adafactor", "rmsprop", "adagrad"])
def test_head_and_backbone_learn_at_their_own_rates_under_every_optimizer(optim, tmp_path):
    rates = {"learning_rate": 1e-3, "head_learning_rate": 1e-2, "weight_decay": 0.5}
    trainer = tiny_trainer(tmp_path, VIT, optim=optim, size=16, num_train_epochs=1, **rates)
    groups, head = trainer.create_optimizer().param_groups, set(trainer.model.hash_head.parameters())
    found = {(weight in head, group["lr"], group["weight_decay"]) for group in groups for weight in group["params"]}
    assert found == {(True, 1e-2, 0.5), (True, 1e-2, 0.0), (False, 1e-3, 0.5), (False, 1e-3, 0.0)}
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.model.parameters()))
    before = {weight: weight.clone() for weight in head}
    trainer.train()
    assert not any(torch.equal(weight, old) for weight, old in before.items())


def test_adam_adds_weight_decay_to_the_gradient_unless_it_is_decoupled(tmp_path):
    for decoupled in (False, True):
        optimizer = tiny_trainer(tmp_path, decoupled_weight_decay=decoupled).create_optimizer()
        assert optimizer.defaults["decoupled_weight_decay"] == decoupled


def test_a_transform_gets_the_columns_that_it_needs_and_the_model_what_it_reads(tmp_path):
    items = Clusters(32)
    rows = Dataset.from_dict({"point": items.values.tolist(), "name": ["x"] * 32, "label": items.labels.tolist()})

    def double(batch):
        points = (2 * np.array(batch["point"])).tolist()
        return {"features": points, "labels": batch["label"], "name": batch["name"]}

    trainer = tiny_trainer(tmp_path, num_train_epochs=1)
    trainer.train_dataset = trainer.eval_dataset = rows.with_transform(double)
    trainer.train()
    batch = next(iter(trainer.get_eval_dataloader()))
    assert batch.keys() == {"features", "labels"}
    torch.testing.assert_close(batch["features"].float(), 2 * items.values)
    assert trainer.evaluate()["eval_queries"] == 32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"per_device_train_batch_size": 8}, "16 samples over all processes and .*=1`, but got 8 samples"),
        ({"gradient_accumulation_steps": 2}, "`gradient_accumulation_steps=1`, but got 16 samples .*_steps=2`"),
    ],
)
def test_a_run_is_not_resumed_with_other_batches(changed, message, tmp_path):
    tiny_trainer(tmp_path, save_strategy="epoch", num_train_epochs=1).train()
    with pytest.raises(ValueError, match=f"A run must be resumed with batches of the size .*{message}"):
        tiny_trainer(tmp_path, **changed).train(resume_from_checkpoint=True)


@pytest.mark.parametrize("epochs", [2, 5])
def test_a_run_is_resumed_with_another_number_of_epochs(epochs, tmp_path):
    tiny_trainer(tmp_path, save_strategy="epoch", size=48).train()
    trainer = tiny_trainer(tmp_path, save_strategy="epoch", size=48, num_train_epochs=epochs)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == max(9, 3 * epochs)


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, size):
        self.items = Clusters(size)

    def __iter__(self):
        return (self.items[row] for row in range(len(self.items)))


def stream_trainer(folder, size, **settings):
    trainer = tiny_trainer(folder, **settings)
    trainer.train_dataset = Stream(size)
    return trainer


def test_a_stream_without_a_length_is_trained_on_and_centers_move_after_each_pass(tmp_path):
    trainer, held = stream_trainer(tmp_path, 64, max_steps=14), []  # 4 steps a pass
    call_at(trainer, "step_begin", lambda: held.append(trainer.model.assignment.clone()))
    trainer.train()
    assert trainer.state.global_step == 14
    moves = {step for step in range(1, 14) if not torch.equal(held[step], held[step - 1])}
    assert moves
    assert moves <= {4, 8, 12}
    assert trainer.evaluate()["eval_map"] > 0.9


def test_a_stream_is_resumed_in_its_first_pass_alone_also_for_more_steps(tmp_path):
    settings = {"size": 64, "save_strategy": "steps", "save_steps": 2, "max_steps": 6}  # 4 steps a pass
    _, resumed = check_resuming(stream_trainer, tmp_path, step=3, **settings)
    with pytest.raises(ValueError, match=r"can be resumed only during its first pass, .* this checkpoint is of pass 2"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    stream_trainer(tmp_path / "short", **settings | {"max_steps": 2}).train()
    longer = stream_trainer(tmp_path / "short", **settings)
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == 6


def test_a_stream_is_refused_where_there_are_several_processes(tmp_path, monkeypatch):
    trainer = stream_trainer(tmp_path, 8, max_steps=3)
    monkeypatch.setattr(type(trainer.args), "world_size", 2)
    with pytest.raises(ValueError, match=r"`train_dataset` must have a length where .* but .*Stream has none"):
        trainer.get_train_dataloader()


def test_a_checkpoint_of_the_model_alone_is_saved_without_an_optimizer(tmp_path):
    trainer = tiny_trainer(tmp_path, save_strategy="epoch", save_only_model=True, num_train_epochs=1)
    trainer.train()
    assert not list(Path(tmp_path, "checkpoint-7").glob("optimizer*"))
    assert same_state(CRHModel.from_pretrained(tmp_path / "checkpoint-7"), trainer.model)


def test_a_stream_that_knows_its_length_is_trained_on(tmp_path):
    class Sized(Stream):
        def __len__(self):
            return len(self.items)

    trainer = tiny_trainer(tmp_path, num_train_epochs=2)
    trainer.train_dataset = Sized(50)
    trainer.train()
    assert trainer.state.global_step == 8
    assert trainer.reassignment.moved_share is not None


def test_the_schedule_may_change_after_the_arguments_were_made(tmp_path):
    for change in (
        lambda args: args.set_lr_scheduler(name="linear"),
        lambda args: setattr(args, "lr_scheduler_type", "cosine"),
    ):
        trainer = tiny_trainer(tmp_path, num_train_epochs=1)
        change(trainer.args)
        trainer.train()
        assert trainer.state.log_history[0]["learning_rate"] < 1e-2


def test_a_run_whose_batch_size_was_found_is_resumed_with_that_one(tmp_path, monkeypatch):
    step = CRHTrainer.training_step

    def fits(self, model, inputs, *rest, **more):
        if len(inputs["labels"]) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, model, inputs, *rest, **more)

    monkeypatch.setattr(CRHTrainer, "training_step", fits)
    settings = {"size": 64, "save_strategy": "epoch"}
    tiny_trainer(tmp_path, num_train_epochs=1, auto_find_batch_size=True, **settings).train()
    with pytest.raises(ValueError, match=r"8 samples over all processes .* but got 16 samples"):
        tiny_trainer(tmp_path, num_train_epochs=2, **settings).train(resume_from_checkpoint=True)
    for more in ({"per_device_train_batch_size": 8}, {"auto_find_batch_size": True}):
        resumed = tiny_trainer(tmp_path, num_train_epochs=2, **settings, **more)
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
        assert resumed.state.global_step == 16


def test_the_best_model_is_that_of_the_run_that_is_resumed(tmp_path):
    settings = EVERY_EPOCH | {"metric_for_best_model": "bit_balance", "greater_is_better": True}
    tiny_trainer(tmp_path / "older", seed=5, **settings).train()
    one = tiny_trainer(tmp_path / "run", **settings)
    one.train()
    other = tiny_trainer(tmp_path / "older", **settings)
    other.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-21"))
    assert one.state.best_global_step < 21
    assert same_state(one.model, other.model)


def test_the_views_of_a_part_of_a_data_set_change_with_the_epoch(tmp_path):
    rows = Dataset.from_dict({"features": [[[1.0] * 8, [2.0] * 8]] * 32, "label": [0, 1, 2, 3, 4, 0, 1, 2] * 4})
    items = FeatureDataset(rows.cast_column("label", ClassLabel(NUM_LABELS)))
    settings = {"save_strategy": "steps", "save_steps": 3}
    for resume, expected in ((False, [0, 0, 1, 1, 2, 2]), (True, [1, 2, 2])):  # the second time within an epoch
        trainer, seen = tiny_trainer(tmp_path, **settings), []
        call_at(trainer, "step_begin", lambda seen=seen: seen.append(items.epoch))
        trainer.train_dataset = torch.utils.data.Subset(items, range(32))
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3") if resume else None)
        assert seen == expected


@pytest.mark.parametrize(("loads_best", "expected"), [(False, 0.3), (True, 0.2)])
def test_the_figures_of_a_card_are_those_of_the_model_that_is_kept(loads_best, expected, tmp_path):
    rows = [{"step": step, "epoch": step, "eval_map": map_} for step, map_ in ((1, 0.4), (2, 0.2), (3, 0.3))]
    best = {"best_global_step": 2, "best_metric": 0.4}  # by another metric
    trainer = tiny_trainer(tmp_path, **EVERY_EPOCH | {"load_best_model_at_end": loads_best})
    assert describe_run(trainer.args, TrainerState(log_history=rows, **best), False).figures == {"map": expected}
