from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.encoding import ImageDataset
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.assignment import ClassStatistics, reassign
from modeling_crh.training.callbacks import FollowTrainingCallback, ReassignCentersCallback

NUM_LABELS, NUM_BITS = 3, 8


@pytest.fixture
def model():
    return CRHModel(CRHConfig(backbone_config=None, num_features=4, num_labels=NUM_LABELS, num_bits=NUM_BITS))


@pytest.fixture
def callback(tmp_path):
    return ReassignCentersCallback(CRHTrainingArguments(output_dir=str(tmp_path)), NUM_LABELS, NUM_BITS)


def batch(seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, NUM_BITS, generator=generator)
    return logits, torch.randint(0, NUM_LABELS, (size,), generator=generator)


def end_epoch(callback, model, epoch=1.0, batches=2):
    state = TrainerState(epoch=epoch, global_step=batches)
    callback.on_epoch_end(callback.args, state, TrainerControl(), model=model, train_dataloader=range(batches))


def test_the_end_of_an_epoch_reassigns_by_what_was_observed_and_starts_anew(callback, model):
    statistics, before = ClassStatistics.zeros(NUM_LABELS, NUM_BITS), model.assignment.clone()
    for seed in range(2):
        callback.observe(*batch(seed))
        statistics.update(*batch(seed))
    end_epoch(callback, model)
    expected = reassign(model.codebook, before, statistics)
    assert torch.equal(model.assignment, expected)
    assert callback.moved_share == (expected != before).any(0).float().mean().item()
    assert callback.batches == 0
    assert callback.statistics.weights.sum() == 0


@pytest.mark.parametrize(
    ("rest", "rank", "own"), [(0, 0, 4), (0, 1, 4), (6, 0, 4), (6, 1, 2), (3, 0, 3), (3, 1, 0), (4, 1, 0)]
)
def test_repetitions_that_fill_up_the_last_batch_do_not_count(rest, rank, own, callback, monkeypatch):
    class Loader:
        batch_size, total_batch_size = None, 8
        total_dataset_length = 8 + rest

        def __len__(self):
            return 1 + (rest > 0)

    monkeypatch.setattr(type(callback.args), "process_index", rank)
    monkeypatch.setattr(type(callback.args), "world_size", 2)
    counts = []
    for number in range(len(Loader())):
        callback.observe(*batch(number, size=4), Loader())
        counts.append(int(callback.statistics.weights.sum()))
    assert counts == [4, 4 + own][: len(Loader())]


@pytest.mark.parametrize(("epoch", "seen", "kept"), [(21.0, 2, 0), (0.5, 1, 1)], ids=["not in the cadence", "half-way"])
def test_an_epoch_without_a_reassignment_moves_nothing(epoch, seen, kept, callback, model):
    before = model.assignment.clone()
    for seed in range(seen):
        callback.observe(*batch(seed))
    end_epoch(callback, model, epoch)
    assert torch.equal(model.assignment, before)
    assert callback.batches == kept


def test_images_learn_their_epoch_from_the_state():
    epochs = []
    images = ImageDataset.__new__(ImageDataset)
    images.set_epoch = epochs.append
    follow = FollowTrainingCallback(lambda: None, None)
    for epoch in (0, 1.0, 2.5):
        loader = SimpleNamespace(dataset=images)
        follow.on_epoch_begin(None, TrainerState(epoch=epoch), TrainerControl(), train_dataloader=loader)
    assert epochs == [0, 1, 2]
