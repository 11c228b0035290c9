import dataclasses

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from modeling_crh.encoding import EncodedItems
from modeling_crh.training.evaluation import correlate_centers, evaluate_splits, figures_of, unseen_figures


def encoded(names, query_labels, labels):
    """Queries of one code, and items at 0, 1, 2... bits from it."""
    codes = 1 - 2 * torch.ones(len(labels), len(labels)).tril(-1)
    query = EncodedItems(codes[:1].repeat(len(query_labels), 1), torch.tensor(query_labels), names)
    return {"query": query, "database": EncodedItems(codes, torch.tensor(labels), names)}


def test_a_level_counts_everything_below_it_as_relevant():
    splits = encoded(["oak", "elm", "cat", "dog"], [0], [2, 0, 1, 3])
    figures = figures_of(splits, {"group": ["tree", "tree", "pet", "pet"]})
    assert figures["map"] == pytest.approx(1 / 2)
    assert figures["map_group"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_hash_logits_of_the_queries_give_the_asymmetric_figure_beside_the_hamming_one():
    codes, names = torch.tensor([[1, 1], [1, -1], [-1, 1]]), ["oak", "elm"]
    logits = torch.tensor([[0.5, 2.0]])  # the second item differs in the bit of which it is surer
    query = EncodedItems(codes[:1], torch.tensor([0]), names)
    database = EncodedItems(codes, torch.arange(3) % 2, names)
    plain = figures_of({"query": query, "database": database})
    assert "map_asymmetric" not in plain
    figures = figures_of({"query": dataclasses.replace(query, hash_logits=logits), "database": database})
    assert figures.pop("map_asymmetric") == 1
    assert figures == plain
    assert figures["map"] == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)


def test_queries_of_unseen_classes_are_judged_apart():
    figures = unseen_figures(encoded(["oak", "cat", "dog"], [0, 2], [0, 1, 2, 0]), [1, 2])
    assert figures == pytest.approx({"map_seen": (1 + 2 / 4) / 2, "map_unseen": 1 / 3, "map_unseen_alone": 1 / 2})


def test_queries_without_a_label_are_of_no_class_and_a_group_without_queries_or_items_has_no_figure():
    def found(labels, unseen):
        return unseen_figures(encoded(["oak", "cat"], labels, [0, 0, 0]), unseen)

    assert found([0, -100], [1]) == {"map_seen": 1}
    assert found([0, 1], [1]) == {"map_seen": 1, "map_unseen": 0}
    assert found([0], [0]) == {"map_unseen": 1, "map_unseen_alone": 1}


def test_classes_that_the_model_does_not_know_by_name_are_unseen(tiny_model):
    names = ["ash", "cat", "dog", "elm"]
    rows = {"features": torch.eye(4).repeat(2, 1).tolist(), "label": [0, 1, 2, 3] * 2}
    split = Dataset.from_dict(rows, Features(features=List(Value("float32")), label=ClassLabel(names=names)))
    splits = DatasetDict(query=split, database=split)

    def found(known):
        model = tiny_model(None, num_labels=len(known), id2label=dict(enumerate(known)))
        return {name for name in evaluate_splits(model, None, splits) if name.endswith(("_seen", "unseen", "_alone"))}

    kinds = {f"{figure}_{name}" for figure in ("map", "map_asymmetric") for name in ("seen", "unseen", "unseen_alone")}
    assert found(["elm", "ash", "fir"]) == kinds
    assert found(names) == found(["oak", "fir"]) == set()


def split_of(names):
    features = Features({"label": ClassLabel(names=names), "subgroup": Value("string"), "group": Value("string")})
    above = {"ash": "tree", "cat": "pet", "dog": "pet", "elm": "tree"}
    rows = {"label": names, "subgroup": [above[name] for name in names], "group": ["thing"] * len(names)}
    return Dataset.from_dict(rows, features=features)


def test_classes_are_compared_by_name_in_whatever_order_they_come_and_must_be_those_of_the_model(tiny_model):
    names = ["ash", "cat", "dog", "elm"]
    model = tiny_model(None, num_labels=4, id2label=dict(enumerate(names)))
    found = correlate_centers(model, split_of(names), "taxonomy")
    assert found.reference == "taxonomy"
    assert found.before == found.after  # it was never trained
    assert correlate_centers(model, split_of(["dog", "ash", "elm", "cat"]), "taxonomy") == found
    model = tiny_model(None, id2label={0: "ash", 1: "cat", 2: "pig"})
    with pytest.raises(ValueError, match="the 3 classes of the model to compare its centers, but has 2 of them and 1"):
        correlate_centers(model, split_of(["ash", "cat", "dog"]), "taxonomy")
