from itertools import permutations

import numpy as np
import pytest
import torch
from datasets import Dataset

from modeling_crh import CRHModel
from modeling_crh.data import prepare_dataset
from modeling_crh.encoding import FeatureDataset
from modeling_crh.losses import default_scale
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.assignment import add_labels
from modeling_crh.training.trainer import CRHTrainer

NAMES = {0: "ant", 1: "bee", 2: "cow"}


def items_of(names, seed=0, size=12, label_names=None):
    """Features of some classes, each around a point of its own."""
    generator = np.random.default_rng(seed)
    labels = [names[row % len(names)] for row in range(size)]
    means = {name: 2 * generator.normal(size=4) for name in names}
    rows = {"features": [means[label] + 0.1 * generator.normal(size=4) for label in labels], "label": labels}
    return FeatureDataset(prepare_dataset(Dataset.from_dict(rows), features_column="features", label_names=label_names))


def codes_of(model, items):
    return model.encode(features=torch.stack([items[row]["features"] for row in range(len(items))]))


@pytest.fixture
def model(tiny_model):
    return tiny_model(None, id2label=NAMES, codebook_size=6)


def test_new_classes_take_the_free_words_of_least_total_cost(model):
    items, before = items_of(["dog", "eel"]), model.assignment.clone()
    codes = codes_of(model, items)
    old_centers = model.centers.clone()
    assert add_labels(model, items) is model
    assert torch.equal(model.assignment[:, :3], before)
    assert torch.equal(model.centers[:3], old_centers)
    means = torch.stack([codes[items.labels == label].double().mean(0) for label in range(2)])
    for head, words in enumerate(model.codebook.double()):
        own = means.split(words.shape[1], dim=1)[head]
        free = [word for word in range(6) if word not in before[head].tolist()]
        gains = own @ words.T  # (2, M), the larger the cheaper
        best = max(gains[0, one] + gains[1, other] for one, other in permutations(free, 2))
        assert gains[[0, 1], model.assignment[head, 3:]].sum() == pytest.approx(best)


def test_no_code_changes_and_the_config_knows_the_new_classes(model):
    items = items_of(["ant", "bee", "cow"], seed=1)
    before = codes_of(model, items)
    add_labels(model, items_of(["dog"]))
    assert torch.equal(codes_of(model, items), before)
    assert model.config.id2label == {0: "ant", 1: "bee", 2: "cow", 3: "dog"}
    assert model.config.label2id["dog"] == 3
    assert (model.config.num_labels, model.config.codebook_size) == (4, 6)
    assert model.config.scale == default_scale(4)


def test_the_codebook_grows_when_its_words_run_out_and_nobody_moves(model):
    words, held = model.codebook.clone(), model.assignment.clone()
    add_labels(model, items_of(["dog", "eel", "fox", "gnu"], size=16))
    assert model.codebook.shape[1] == 14
    assert torch.equal(model.codebook[:, :6], words)
    assert torch.equal(model.assignment[:, :3], held)
    for head in range(len(words)):
        assert len(model.codebook[head].unique(dim=0)) == 14
        assert len(model.assignment[head].unique()) == 7


def test_new_classes_share_words_that_have_room_and_the_codebook_stays(tiny_model):
    model = tiny_model(None, id2label=NAMES, codebook="shared", head_dim=1)
    words, held = model.codebook.clone(), model.assignment.clone()
    add_labels(model, items_of(["dog", "eel", "fox", "gnu"], size=16))
    assert torch.equal(model.codebook, words)
    assert torch.equal(model.assignment[:, :3], held)
    assert model.config.word_capacity == 4
    assert all(held.bincount(minlength=2).max() <= 4 for held in model.assignment)


@pytest.mark.parametrize("fields", [{"codebook_size": 6}, {"codebook": "shared", "head_dim": 2}])
def test_a_grown_model_is_saved_and_trained_on(fields, tiny_model, tmp_path):
    model = tiny_model(None, id2label=NAMES, **fields)
    add_labels(model, items_of(["dog", "eel", "fox", "gnu"], size=16))
    model.save_pretrained(tmp_path)
    again = CRHModel.from_pretrained(tmp_path)
    assert torch.equal(again.centers, model.centers)
    names = list(model.config.id2label.values())
    items = items_of(names, size=28, label_names=names)
    args = CRHTrainingArguments(output_dir=str(tmp_path / "run"), num_train_epochs=1, use_cpu=True, disable_tqdm=True)
    assert CRHTrainer(again, args, train_dataset=items).train().training_loss > 0


def test_what_cannot_be_added_is_an_error_that_changes_nothing(model):
    before = model.config.to_dict()
    many = [f"class {number}" for number in range(2 ** model.codebook.shape[2] - 2)]
    for items, message in (
        (items_of(["bee", "dog"]), "must bring new classes alone, but the model knows 'bee' already"),
        (items_of(["dog"], label_names=["dog", "elk"]), "must hold a sample of every new .* but hold none of 'elk'"),
        (items_of(many, size=len(many)), r"must bring no more than \d+ classes to the 3 that there are"),
    ):
        with pytest.raises(ValueError, match=message):
            add_labels(model, items)
    assert model.config.to_dict() == before
