import pytest
import torch
from tiny_runs import NUM_LABELS, VIT, Clusters, random_batch, rival_trainer, tiny_trainer

from modeling_crh.training.objectives.center_objectives import CSQ
from modeling_crh.training.objectives.shc import SHC, with_class_outputs


@pytest.mark.parametrize(
    "fields", [{}, {"hash_head": "mlp", "hash_head_hidden_size": 6}, {"hash_head_batch_norm": True}]
)
def test_the_classifier_is_a_copy_with_another_last_layer(fields, tmp_path):
    model = tiny_trainer(tmp_path, VIT, model_fields=fields).model.train(False)
    classifier = with_class_outputs(model, NUM_LABELS)
    pixels = torch.rand(2, 3, 8, 8)
    assert classifier(pixel_values=pixels).hash_logits.shape == (2, NUM_LABELS)
    assert isinstance(classifier.hash_head[-1], torch.nn.Linear)
    assert model(pixel_values=pixels).hash_logits.shape == (2, 16)
    own, copied = model.backbone.state_dict(), classifier.backbone.state_dict()
    assert all(torch.equal(own[name], copied[name]) for name in own)
    assert {id(one) for one in model.parameters()}.isdisjoint(id(one) for one in classifier.parameters())


def test_the_loss_is_csqs_on_other_centers():
    objective, csq = SHC(4, 8), CSQ(4, 8)
    csq.centers = objective.centers = objective.centers.flip(0)
    batch = random_batch(0)
    assert torch.equal(objective(*batch), csq(*batch))


def test_the_first_stage_places_centers_and_leaves_the_model_as_it_was(tmp_path):
    trainer = rival_trainer(tmp_path, "shc")
    weights = {name: value.clone() for name, value in trainer.model.named_parameters()}
    before = trainer.objective.centers.clone()
    trainer.objective.prepare(trainer)
    assert not torch.equal(trainer.objective.centers, before)
    assert all(torch.equal(weights[name], value) for name, value in trainer.model.named_parameters())
    assert trainer.state.global_step == 0


@pytest.mark.parametrize(
    ("own", "settings", "epochs", "steps"),
    [
        ({}, {"num_train_epochs": 5}, 2.5, -1),
        ({"classifier_epochs": 4}, {"num_train_epochs": 5}, 4, -1),
        ({}, {"max_steps": 7}, 3, 3),
        ({"classifier_epochs": 2}, {"max_steps": 7}, 2, -1),
    ],
)
def test_the_first_stage_takes_half_of_the_time_unless_told_otherwise(own, settings, epochs, steps, tmp_path):
    trainer = rival_trainer(tmp_path, "shc", own, eval_strategy="epoch", save_strategy="epoch", **settings)
    stage = trainer.objective.stage_arguments(trainer.args)
    assert (stage.num_train_epochs, stage.max_steps) == (epochs, steps)
    assert (stage.eval_strategy, stage.save_strategy) == ("no", "no")
    assert (trainer.args.eval_strategy, trainer.args.save_strategy) == ("epoch", "epoch")


def test_similar_classes_get_similar_centers(tmp_path):
    trainer = rival_trainer(tmp_path, "shc", {"classifier_epochs": 10})
    means = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    items = Clusters(200)
    family = torch.tensor([0, 0, 1, 1, 1])
    generator = torch.Generator().manual_seed(1)
    own = 0.5 * torch.randn(NUM_LABELS, 8, generator=generator)
    items.values = 2 * means[family[items.labels]] + own[items.labels] + 0.3 * torch.randn(200, 8, generator=generator)
    trainer.train_dataset = items
    trainer.objective.prepare(trainer)
    products = trainer.objective.centers.int() @ trainer.objective.centers.int().T
    within = products[family.unsqueeze(0) == family.unsqueeze(1)].reshape(-1)
    assert products[:2, 2:].max() < min(products[0, 1], products[2, 3], products[3, 4])
    assert len(within) == 13


def test_a_first_stage_of_no_epochs_is_an_error():
    with pytest.raises(ValueError, match=r"`classifier_epochs` must be a number above 0, but got 0"):
        SHC(4, 8, classifier_epochs=0)
