import re

import pytest

from modeling_crh.training.arguments import CRHTrainingArguments, whole_schedule


def test_defaults_are_the_papers(tmp_path):
    args = CRHTrainingArguments(output_dir=str(tmp_path))
    assert (args.learning_rate, args.adam_beta1, args.adam_beta2, args.weight_decay) == (1e-4, 0.5, 0.999, 1e-5)
    assert (args.max_grad_norm, args.num_train_epochs, args.per_device_train_batch_size) == (1.0, 300, 128)
    with whole_schedule(args):
        assert (args.lr_scheduler_type, args.lr_scheduler_kwargs) == ("cosine_with_min_lr", {"min_lr": 1e-7})
    assert not args.decoupled_weight_decay


@pytest.mark.parametrize(
    ("settings", "moving"),
    [
        ({}, [*range(1, 21), 25, 30, 35, 40]),
        ({"reassign_every_epoch_until": 2, "reassign_every": 13}, [1, 2, 13, 26, 39]),
        ({"reassignment": "none"}, []),
    ],
)
def test_centers_move_after_each_of_the_first_epochs_and_then_now_and_again(settings, moving, tmp_path):
    args = CRHTrainingArguments(output_dir=str(tmp_path), **settings)
    assert [epoch for epoch in range(1, 41) if args.reassigns_after(epoch)] == moving


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reassignment": "best"}, "`reassignment` must be 'hungarian', 'greedy' or 'none', but got 'best'."),
        ({"reassign_every": 0}, "`reassign_every` must be a whole number, 1 or larger, but got 0."),
        ({"reassign_every_epoch_until": None}, "_until` must be a whole number, 0 or larger, but got None."),
        ({"num_train_epochs": 0}, "`num_train_epochs` must be a number above 0, but got 0."),
        ({"num_train_epochs": float("nan")}, "`num_train_epochs` must be a number above 0, but got nan."),
        ({"learning_rate": 0.0}, "`learning_rate` must be a number above 0, but got 0.0."),
        ({"per_device_train_batch_size": 0}, "`per_device_train_batch_size` must be a number above 0, but got 0."),
        ({"per_device_train_batch_size": None}, "`per_device_train_batch_size` must be a number above 0, but got N"),
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` must be 0.0, since Eq. 2 has a margin"),
        ({"neftune_noise_alpha": 5}, "`neftune_noise_alpha` must be None, since"),
        ({"batch_eval_metrics": True}, "`batch_eval_metrics` must be False, since retrieval figures need the codes of"),
        ({"eval_do_concat_batches": False}, "`eval_do_concat_batches` must be True, since retrieval figures need"),
        ({"accelerator_config": {"dispatch_batches": True}}, "`dispatch_batches` of `accelerator_config` must be None"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "`lr_scheduler_kwargs` must hold `num_decay_steps`"),
        ({"layer_decay": 1.5}, "`layer_decay` must lie in (0, 1], but got 1.5."),
        ({"head_learning_rate": -1.0}, "`head_learning_rate` must be a number, 0 or larger, but got -1.0."),
    ],
)
def test_a_setting_out_of_range_is_an_error(settings, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        CRHTrainingArguments(output_dir=str(tmp_path), **settings)


def test_bfloat16_needs_no_word_of_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert CRHTrainingArguments(output_dir=str(tmp_path), bf16=True).device.type == "cpu"


@pytest.mark.filterwarnings("error")  # transformers warns of these names since it has others
def test_gradient_checkpointing_is_switched_on_by_the_name_that_every_transformers_has(tmp_path):
    settings = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    args = CRHTrainingArguments(output_dir=str(tmp_path), **settings)
    assert {name: getattr(args, name) for name in settings} == settings
