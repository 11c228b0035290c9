import math

import pytest
import torch
from tiny_runs import NUM_LABELS, tiny_trainer

from modeling_crh.training.objectives.shc import class_similarity, mean_probabilities, with_class_outputs


def test_the_similarity_of_three_classes_is_worked_by_hand():
    probabilities = torch.tensor([[0.0, 0.9, 0.1], [0.7, 0.0, 0.3], [0.2, 0.8, 0.0]])
    expected = torch.tensor([[1, 1, -1], [1, 1, 2 * (0.55 - 0.15) / 0.65 - 1], [-1, 2 * (0.55 - 0.15) / 0.65 - 1, 1]])
    torch.testing.assert_close(class_similarity(probabilities).float(), expected)


def test_classes_that_are_all_alike_have_one_similarity():
    assert torch.equal(class_similarity((1 - torch.eye(3)) / 2), 2 * torch.eye(3, dtype=torch.float64) - 1)


def test_the_probabilities_are_those_of_the_definition(tmp_path):
    trainer = tiny_trainer(tmp_path, size=30)
    trainer.model = with_class_outputs(trainer.model, NUM_LABELS)
    trainer.train_dataset.labels[:5] = -100
    items = trainer.train_dataset
    items.labels[items.labels == 4] = 0
    found = mean_probabilities(trainer, NUM_LABELS)
    with torch.no_grad():
        logits = trainer.model(features=items.values).hash_logits.tolist()
    for c in range(4):
        rows = [logits[i] for i, label in enumerate(items.labels.tolist()) if label == c]
        for other in range(NUM_LABELS):
            shares = [math.exp(row[other]) / sum(math.exp(v) for k, v in enumerate(row) if k != c) for row in rows]
            assert found[c, other].item() == pytest.approx(0 if other == c else sum(shares) / len(shares), rel=1e-5)
    assert found[4].tolist() == [0.25, 0.25, 0.25, 0.25, 0]  # no sample
