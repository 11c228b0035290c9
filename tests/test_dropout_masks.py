"""Several dropout masks an item, `dropout_masks`: in the model, its loss and its training."""

import pytest
import torch
from tiny_runs import rival_trainer, same_state, tiny_trainer

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.codes import MultiSampleDropout, by_mask
from modeling_crh.losses import crh_loss

MASKS = {"hash_head": "mlp", "hash_head_hidden_size": 32, "hash_head_dropout": 0.5, "dropout_masks": 3}


def make_model(**fields):
    torch.manual_seed(0)
    return CRHModel(CRHConfig(backbone_config=None, num_features=4, num_labels=3, num_bits=16, **(MASKS | fields)))


def test_each_item_is_repeated_beside_itself_and_dropped_by_masks_of_its_own():
    items = torch.arange(1.0, 3.0).unsqueeze(1).repeat(1, 1000)
    dropped = MultiSampleDropout(0.25, masks=3)(items)
    assert dropped.shape == (6, 1000)
    kept = dropped != 0
    assert torch.equal(dropped[kept], (items.repeat_interleave(3, 0) / 0.75)[kept])
    assert len({tuple(row) for row in kept.tolist()}) == 6
    torch.testing.assert_close(kept.float().mean(1), torch.full((6,), 0.75), atol=0.1, rtol=0)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_items_pass_unchanged_where_nothing_is_dropped(p, training):
    items = torch.randn(2, 5)
    assert torch.equal(MultiSampleDropout(p, masks=3).train(training)(items), items)


def test_the_loss_is_the_mean_over_the_masks_and_evaluation_has_none():
    model, features, labels = make_model(), torch.randn(5, 4), torch.tensor([0, 2, 1, -100, 2])
    output = model.train()(features=features, labels=labels)
    masked = by_mask(output.hash_logits, model.hash_head)
    assert [tuple(one.shape) for one in masked] == [(5, 16)] * 3
    assert torch.equal(masked[1], output.hash_logits[1::3])
    losses = [crh_loss(one, labels, model.centers, scale=model.config.scale) for one in masked]
    torch.testing.assert_close(output.loss, sum(losses) / 3)
    output = model.eval()(features=features, labels=labels)
    assert output.hash_logits.shape == (5, 16)
    assert len(by_mask(output.hash_logits, model.hash_head)) == 1


@pytest.mark.parametrize("fields", [{"hash_head": "linear"}, {"hash_head_dropout": 0.0}])
def test_a_head_without_dropout_has_one_mask(fields):
    model = make_model(**fields).train()
    assert len(by_mask(model(features=torch.randn(5, 4)).hash_logits, model.hash_head)) == 1


def test_labels_of_another_length_are_refused_by_the_number_of_items():
    with pytest.raises(ValueError, match="one row a sample, but got 15 for 5 samples"):
        make_model().train()(features=torch.randn(5, 4), labels=torch.zeros(15, dtype=torch.int64))


@pytest.mark.parametrize("masks", [0, -1])
def test_there_is_at_least_one_mask(masks):
    with pytest.raises(ValueError, match=f"`dropout_masks` must be at least 1, but got {masks}"):
        make_model(dropout_masks=masks)


@pytest.mark.parametrize(("share", "multi_label"), [(0.0, False), (0.5, False), (0.0, True)])
def test_a_training_counts_each_item_once_in_the_class_statistics(tmp_path, share, multi_label):
    fields = MASKS | {"proxy_share": share}
    trainer = tiny_trainer(tmp_path, size=40, multi_label=multi_label, model_fields=fields, eval_strategy="epoch")
    counted, observe = [], trainer.reassignment.observe
    trainer.reassignment.observe = lambda logits, labels, *more: (
        counted.append((len(logits), len(labels))),
        observe(logits, labels, *more),
    )
    trainer.train()
    assert counted == [(16, 16), (16, 16), (8, 8)] * 3
    assert trainer.state.log_history[-1]["epoch"] == 3


@pytest.mark.parametrize("name", ["hashnet", "greedyhash", "orthohash"])
def test_a_rival_method_trains_with_several_masks_too(tmp_path, name):
    trainer = rival_trainer(tmp_path, name, model_fields=MASKS)
    seen = []
    trainer.rival.register_forward_hook(lambda _, inputs, loss: seen.append((*inputs[0].shape, loss.item())))
    trainer.train()
    assert {shape[:2] for shape in seen} == {(16, 16), (5, 16)}  # 101 items in batches of 16
    assert len(seen) == 3 * 7 * 3
    assert len(set(seen[:3])) == 3  # another mask, another loss


def test_a_model_in_training_encodes_each_item_once():
    model, features = make_model().train(), torch.randn(5, 4)
    assert model.encode(features).shape == (5, 16)


def test_a_run_goes_on_with_the_masks_that_it_began_with(tmp_path, capsys):
    begun = {"save_strategy": "epoch", "model_fields": MASKS | {"dropout_masks": 1}}
    whole = tiny_trainer(tmp_path / "whole", **begun)
    whole.train()
    tiny_trainer(tmp_path / "cut", **begun, num_train_epochs=3).train()
    resumed = tiny_trainer(tmp_path / "cut", **(begun | {"model_fields": MASKS}))
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-7"))
    assert "goes on with `dropout_masks: 1`, as it began, and not 3" in capsys.readouterr().err
    assert resumed.model.config.dropout_masks == 1
    assert same_state(resumed.model, whole.model)
