"""Proxies: the first share of a training, which `proxy_share` sets."""

import math

import pytest
import torch
from tiny_runs import Clusters, call_at, check_resuming, same_state, tiny_trainer, vectors_of
from torch.nn import functional

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.losses import pair_loss
from modeling_crh.training.assignment import ClassStatistics, reassign
from modeling_crh.training.proxies import Proxies

HALF = {"model_fields": {"proxy_share": 0.5}}


def train_and_note(trainer, **settings):
    """Train; gives whether proxies train each step, and the assignment after it."""
    led, assignments = [], []
    call_at(trainer, "step_begin", lambda: led.append(trainer.reassignment.proxies is not None))
    call_at(trainer, "step_end", lambda: assignments.append(trainer.model.assignment.clone()))
    trainer.train(**settings)
    return led, assignments


def make_proxies(**fields):
    config = CRHConfig(backbone_config=None, num_features=4, num_labels=3, num_bits=16, **fields)
    proxies = Proxies(config, seed=1)
    proxies.vectors.data *= torch.tensor([[1.0], [100.0], [1e4]])  # lengths must not count
    return config, proxies, torch.randn(4, 16, generator=torch.Generator().manual_seed(0))


def expected_loss(config, vectors, hash_logits, labels):
    cosine = functional.cosine_similarity(hash_logits[:, None], vectors[None], dim=2)
    own = functional.one_hot(labels, 3) * config.margin
    return -(config.scale * (cosine - own)).log_softmax(1)[range(len(labels)), labels].mean()


def test_the_loss_is_that_of_crh_with_vectors_in_the_place_of_centers():
    config, proxies, hash_logits = make_proxies(quantization_weight=3.0, bit_weight=3.0)
    labels = torch.tensor([0, 2, 1, 1])
    found = proxies(hash_logits, labels)
    torch.testing.assert_close(found, expected_loss(config, proxies.vectors, hash_logits, labels))
    unlabelled = torch.cat([hash_logits, torch.ones(1, 16)]), torch.tensor([0, 2, 1, 1, -100])
    torch.testing.assert_close(proxies(*unlabelled), found)


def test_prefixes_have_a_loss_of_their_own():
    config, proxies, hash_logits = make_proxies(prefix_bits=[8], head_dim=8, prefix_weight=0.25)
    labels = torch.tensor([0, 2, 1, 1])
    whole = expected_loss(config, proxies.vectors, hash_logits, labels)
    prefix = expected_loss(config, proxies.vectors[:, :8], hash_logits[:, :8], labels)
    torch.testing.assert_close(proxies(hash_logits, labels), whole + 0.25 * prefix)


def test_items_of_several_labels_have_the_loss_of_pairs_too():
    settings = {"problem_type": "multi_label_classification", "pair_weight": "multi_label"}
    _, proxies, hash_logits = make_proxies(**settings)
    single = torch.tensor([0, 2, 1, 1])
    labels = functional.one_hot(single, 3).float()
    expected = expected_loss(proxies.config, proxies.vectors, hash_logits, single) + 3 * pair_loss(hash_logits, labels)
    torch.testing.assert_close(proxies(hash_logits, labels), expected)


def test_vectors_have_a_gradient_also_where_no_sample_has_a_label():
    _, proxies, hash_logits = make_proxies()
    proxies(hash_logits, torch.full((4,), -100)).backward()
    assert torch.equal(proxies.vectors.grad, torch.zeros(3, 16))


@pytest.mark.parametrize(
    ("share", "settings", "led"),
    [
        (0.5, {"num_train_epochs": 4}, 14),  # 7 steps an epoch
        (0.3, {"num_train_epochs": 4}, 14),  # 8.4 steps, rounded up to whole epochs
        (0.3, {"num_train_epochs": 4, "gradient_accumulation_steps": 3}, 6),  # 3 steps an epoch
        (0.5, {"max_steps": 10}, 7),
        (0.9, {"max_steps": 10}, 9),  # two epochs would leave no step
        (0.9, {"max_steps": 5}, 4),
        (0.1, {"max_steps": 3}, 0),
        (0.95, {"max_steps": 10}, 9),  # a step is left for the centers
        (0.6, {"max_steps": 1}, 0),
        (0.5, {"num_train_epochs": 4, "reassignment": "none"}, 0),
        (0.0, {"num_train_epochs": 4}, 0),
    ],
)
def test_proxies_train_the_first_steps_and_no_other(share, settings, led, tmp_path):
    found, _ = train_and_note(tiny_trainer(tmp_path, model_fields={"proxy_share": share}, **settings))
    assert found == [step < led for step in range(len(found))]


@pytest.mark.parametrize("settings", [{"max_steps": 5}, {"num_train_epochs": 4, "reassign_every_epoch_until": 0}])
def test_centers_are_reassigned_after_the_last_step_of_the_proxies(settings, tmp_path):
    trainer = tiny_trainer(tmp_path, reassign_every=100, **HALF, **settings)
    first, statistics = trainer.model.assignment.clone(), ClassStatistics.zeros(5, 16)
    observe, seen = trainer.reassignment.observe, []
    trainer.reassignment.observe = lambda *batch: (observe(*batch), seen.append(batch[:2]))
    led, assignments = train_and_note(trainer)
    last = sum(led)
    for batch in seen[7 if last > 7 else 0 : last]:  # of the epoch
        statistics.update(*batch)
    expected = reassign(trainer.model.codebook, first, statistics)
    assert not torch.equal(expected, first)
    assert torch.equal(assignments[last if last > 7 else last - 1], expected)
    assert torch.equal(trainer.model.assignment, expected)


def test_a_stream_has_proxies_too(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(Clusters(101))

    trainer = tiny_trainer(tmp_path, max_steps=6, **HALF)
    trainer.train_dataset = Stream()
    first = trainer.model.assignment.clone()
    led, assignments = train_and_note(trainer)
    assert led == [True] * 3 + [False] * 3
    assert [torch.equal(after, first) for after in assignments] == [True] * 2 + [False] * 4


@pytest.mark.parametrize("steps", [2, 4])  # within the epoch of the proxies, and at its end
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_run_interrupted_and_resumed_ends_the_same_bit_for_bit(steps, multi_label, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": steps, "size": 50, "num_train_epochs": 2}
    kept = []

    def make(folder, **more):
        trainer = tiny_trainer(folder, multi_label=multi_label, **HALF, **more)
        kept.append(vectors_of(trainer))
        return trainer

    check_resuming(make, tmp_path, steps + 1, **settings)
    vectors, _, again = kept
    for one, other in zip(vectors[steps:], again, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_a_run_that_is_resumed_for_more_epochs_does_not_go_back_to_proxies(tmp_path):
    tiny_trainer(tmp_path, num_train_epochs=4, save_strategy="epoch", **HALF).train()
    longer = tiny_trainer(tmp_path, num_train_epochs=12, **HALF)
    assert train_and_note(longer, resume_from_checkpoint=True)[0] == [False] * 56


def test_a_model_that_proxies_train_is_not_the_best(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 5, "save_strategy": "steps", "save_steps": 5, "size": 400}
    trainer = tiny_trainer(
        tmp_path, load_best_model_at_end=True, num_train_epochs=2, learning_rate=0.02, **HALF, **settings
    )
    first = trainer.model.assignment.clone()
    trainer.train()
    evaluated = [row["step"] for row in trainer.state.log_history if "eval_map" in row]
    assert evaluated[:5] == [5, 10, 15, 20, 25]  # proxies train the first 25 steps
    assert trainer.state.best_global_step > 25
    assert not torch.equal(first, trainer.model.assignment)


def test_a_trainer_that_trains_twice_has_proxies_once_and_its_second_training_can_be_resumed(tmp_path, capsys):
    trainer = tiny_trainer(tmp_path, num_train_epochs=2, save_strategy="epoch", **HALF)
    trainer.train()
    assert not any(train_and_note(trainer)[0])
    assert "since the centers of the model have moved already." in capsys.readouterr().err
    resumed = tiny_trainer(tmp_path, num_train_epochs=3, **HALF)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 21


def test_vectors_are_trained_at_the_rate_of_the_head_and_do_not_travel(tmp_path):
    trainer = tiny_trainer(tmp_path, learning_rate=1e-9, head_learning_rate=1e-2, num_train_epochs=2, **HALF)
    optimizer = trainer.create_optimizer()
    vectors = trainer.reassignment.proxies.vectors
    rates = [group["lr"] for group in optimizer.param_groups if any(weight is vectors for weight in group["params"])]
    assert rates == [1e-2]
    before = vectors.detach().clone()
    trainer.train()
    assert not any(weight is vectors for group in optimizer.param_groups for weight in group["params"])
    assert (vectors - before).abs().mean() > 1e-2
    assert not any("vectors" in name for name in trainer.model.state_dict())


def test_an_optimizer_of_the_users_own_has_no_proxies_and_is_told_so(tmp_path, capsys):
    trainer = tiny_trainer(tmp_path, **HALF)
    optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    trainer.optimizer, trainer.lr_scheduler = optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)
    assert not any(train_and_note(trainer)[0])
    assert "(`proxy_share`), since an optimizer of your own, or of an earlier" in capsys.readouterr().err


def test_a_trained_model_keeps_its_centers_when_it_is_trained_again(tmp_path, capsys):
    first = tiny_trainer(tmp_path / "first", **HALF)
    first.train()
    again = tiny_trainer(tmp_path / "again", save_strategy="steps", save_steps=4, num_train_epochs=2, **HALF)
    again.model.load_state_dict(first.model.state_dict())
    assert not any(train_and_note(again)[0])
    capsys.readouterr()
    resumed = tiny_trainer(tmp_path / "again", num_train_epochs=2, **HALF)
    resumed.train(resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-4"))
    assert same_state(again.model, resumed.model)
    assert "proxies" not in capsys.readouterr().err


def test_every_model_of_a_search_has_proxies_of_its_own(tmp_path):
    sizes = iter((8, 16))  # of the model that the trainer begins with, and of the one it trains
    fields = {"backbone_config": None, "num_features": 8, "num_labels": 5, "proxy_share": 0.5}

    def model_init():
        return CRHModel(CRHConfig(num_bits=next(sizes), **fields))

    trainer = tiny_trainer(tmp_path, model_init=model_init)
    vectors = vectors_of(trainer)
    trainer.train()
    assert vectors[0].shape == (5, 16)


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_share_lies_from_zero_to_below_one(share):
    with pytest.raises(ValueError, match=r"`proxy_share` must lie in \[0, 1\)"):
        CRHConfig(backbone_config=None, num_features=4, num_labels=3, proxy_share=share)
