import pytest
import torch

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.modeling_crh import build_hash_head


def config_of(**fields):
    return CRHConfig(backbone_config=None, num_features=4, num_labels=3, num_bits=16, **fields)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["weight", "bias"]),
        ({"hash_head_batch_norm": True}, ["0.weight", "1.weight", "1.bias"]),
        ({"hash_head": "mlp"}, ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"]),
        (
            {"hash_head": "mlp", "hash_head_batch_norm": True},
            ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "5.weight", "5.bias"],
        ),
    ],
)
def test_the_weights_of_a_head_keep_the_names_that_checkpoints_have(fields, names):
    assert [name for name, _ in build_hash_head(4, config_of(**fields)).named_parameters()] == names


@pytest.mark.parametrize("hash_head", ["linear", "mlp"])
def test_a_batch_norm_of_the_outputs_is_worked_by_hand(hash_head):
    model = CRHModel(config_of(hash_head=hash_head, hash_head_batch_norm=True)).train()
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    before = model.hash_head[:-1](features)
    expected = (before - before.mean(0)) / (before.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(model(features=features).hash_logits, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("hash_head", ["linear", "mlp"])
def test_a_saved_head_with_a_batch_norm_comes_back_with_its_statistics(hash_head, tmp_path):
    model = CRHModel(config_of(hash_head=hash_head, hash_head_batch_norm=True))
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    model.train()(features=features)
    model.eval().save_pretrained(tmp_path)
    loaded = CRHModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.hash_head[-1].running_mean, model.hash_head[-1].running_mean)
    assert torch.equal(loaded(features=features).hash_logits, model(features=features).hash_logits)


def test_a_config_saved_before_there_was_a_batch_norm_has_none(tmp_path):
    values = config_of().to_dict()
    del values["hash_head_batch_norm"]
    assert not CRHConfig.from_dict(values).hash_head_batch_norm
