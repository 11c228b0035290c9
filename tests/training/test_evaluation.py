import dataclasses

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from modeling_crh.encoding import EncodedItems
from modeling_crh.training.evaluation import correlate_centers, figures_of


def test_a_level_counts_everything_below_it_as_relevant():
    codes = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1], [1, -1, -1, -1]])
    names = ["oak", "elm", "cat", "dog"]
    query = EncodedItems(codes[:1], torch.tensor([0]), names)
    database = EncodedItems(codes, torch.tensor([2, 0, 1, 3]), names)  # at 0, 1, 2 and 3 bits
    figures = figures_of({"query": query, "database": database}, {"group": ["tree", "tree", "pet", "pet"]})
    assert figures["map"] == pytest.approx(1 / 2)
    assert figures["map_group"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_hash_logits_of_the_queries_give_the_asymmetric_figure_beside_the_hamming_one():
    codes, names = torch.tensor([[1, 1], [1, -1], [-1, 1]]), ["oak", "elm"]
    logits = torch.tensor([[0.5, 2.0]])  # the second item differs in the bit of which it is surer
    query, database = (
        EncodedItems(codes[:1], torch.tensor([0]), names),
        EncodedItems(codes, torch.arange(3) % 2, names),
    )
    plain = figures_of({"query": query, "database": database})
    assert "map_asymmetric" not in plain
    figures = figures_of({"query": dataclasses.replace(query, hash_logits=logits), "database": database})
    assert figures.pop("map_asymmetric") == 1
    assert figures == plain
    assert figures["map"] == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)


def split_of(names):
    features = Features({"label": ClassLabel(names=names), "subgroup": Value("string"), "group": Value("string")})
    above = {"ash": "tree", "cat": "pet", "dog": "pet", "elm": "tree"}
    rows = {"label": names, "subgroup": [above[name] for name in names], "group": ["thing"] * len(names)}
    return Dataset.from_dict(rows, features=features)


def test_classes_are_compared_by_name_in_whatever_order_they_come(tiny_model):
    names = ["ash", "cat", "dog", "elm"]
    model = tiny_model(None, num_labels=4, id2label=dict(enumerate(names)))
    found = correlate_centers(model, split_of(names), "taxonomy")
    assert found.reference == "taxonomy"
    assert found.before == found.after  # it was never trained
    assert correlate_centers(model, split_of(["dog", "ash", "elm", "cat"]), "taxonomy") == found


def test_other_classes_than_those_of_the_model_are_an_error(tiny_model):
    model = tiny_model(None, id2label={0: "ash", 1: "cat", 2: "pig"})
    with pytest.raises(ValueError, match="the 3 classes of the model to compare its centers, but has 2 of them and 1"):
        correlate_centers(model, split_of(["ash", "cat", "dog"]), "taxonomy")
