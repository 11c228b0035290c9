import math

import pytest
import torch
from tiny_runs import NUM_LABELS, VIT, Clusters, random_batch, rival_trainer, tiny_trainer

from modeling_crh.training.objectives.center_objectives import class_similarity, mean_probabilities, with_class_outputs
from modeling_crh.training.run import run_first_stage, stage_arguments


def test_the_similarity_of_three_classes_is_worked_by_hand():
    probabilities = torch.tensor([[0.0, 0.9, 0.1], [0.7, 0.0, 0.3], [0.2, 0.8, 0.0]])
    between = 2 * (0.55 - 0.15) / 0.65 - 1
    expected = torch.tensor([[1, 1, -1], [1, 1, between], [-1, between, 1]])
    torch.testing.assert_close(class_similarity(probabilities).float(), expected)
    alike = class_similarity((1 - torch.eye(3)) / 2)
    assert torch.equal(alike, 2 * torch.eye(3, dtype=torch.float64) - 1)


def test_the_probabilities_are_those_of_the_definition():
    logits, labels = random_batch(0, samples=30, num_labels=4, num_bits=NUM_LABELS)
    labels[:5] = -100
    found = mean_probabilities(logits, labels)
    for c in range(4):
        rows = [row for row, label in zip(logits.tolist(), labels.tolist(), strict=True) if label == c]
        for other in range(NUM_LABELS):
            shares = [math.exp(row[other]) / sum(math.exp(v) for k, v in enumerate(row) if k != c) for row in rows]
            assert found[c, other].item() == pytest.approx(0 if other == c else sum(shares) / len(shares), rel=1e-5)
    assert found[4].tolist() == [0.25, 0.25, 0.25, 0.25, 0]  # no sample


@pytest.mark.parametrize("fields", [{}, {"hash_head": "mlp"}, {"hash_head_batch_norm": True}])
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


def test_training_without_the_first_stage_is_an_error_that_says_how_to_run_it(tmp_path):
    with pytest.raises(ValueError, match=r"`crh train --method shc`, or call `.*run_first_stage\(trainer\)` first"):
        rival_trainer(tmp_path, "shc").train()
    with pytest.raises(ValueError, match="`trainer` must have an objective with a first stage"):
        run_first_stage(rival_trainer(tmp_path, "csq"))


def test_the_first_stage_places_centers_and_leaves_the_model_as_it_was(tmp_path):
    trainer = rival_trainer(tmp_path, "shc")
    weights = {name: value.clone() for name, value in trainer.model.named_parameters()}
    before = trainer.rival.centers.clone()
    run_first_stage(trainer)
    assert not torch.equal(trainer.rival.centers, before)
    assert torch.equal(trainer.model.centers, trainer.rival.centers)
    assert all(torch.equal(weights[name], value) for name, value in trainer.model.named_parameters())
    assert trainer.state.global_step == 0


@pytest.mark.parametrize(
    ("own", "settings", "length"),
    [
        (None, {"num_train_epochs": 5}, (2.5, -1)),
        (4, {"num_train_epochs": 5}, (4, -1)),
        (None, {"max_steps": 7}, (3, 3)),
        (2, {"max_steps": 7}, (2, -1)),
    ],
)
def test_the_first_stage_takes_half_of_the_time_unless_told_otherwise(own, settings, length, tmp_path):
    args = tiny_trainer(tmp_path, eval_strategy="epoch", save_strategy="epoch", **settings).args
    stage = stage_arguments(args, own)
    assert (stage.num_train_epochs, stage.max_steps) == length
    assert (stage.eval_strategy, stage.save_strategy) == ("no", "no")
    assert (args.eval_strategy, args.save_strategy) == ("epoch", "epoch")


def test_similar_classes_get_similar_centers(tmp_path):
    trainer = rival_trainer(tmp_path, "shc", {"classifier_epochs": 10})
    means = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    items = Clusters(200)
    family = torch.tensor([0, 0, 1, 1, 1])
    generator = torch.Generator().manual_seed(1)
    own = 0.5 * torch.randn(NUM_LABELS, 8, generator=generator)
    items.values = 2 * means[family[items.labels]] + own[items.labels] + 0.3 * torch.randn(200, 8, generator=generator)
    trainer.train_dataset = items
    run_first_stage(trainer)
    products = trainer.rival.centers.int() @ trainer.rival.centers.int().T
    assert products[:2, 2:].max() < min(products[0, 1], products[2, 3], products[3, 4])
