import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.data.columns import canonical_features
from modeling_crh.data.splits import OFFICIAL, Protocol, held_out_rows, split_rows

THREE = [0, 1, 2] * 50
BOTH_OUTSIDE = Protocol(num_query=30, num_train=60, train_in_database=False)


def dataset_of(labels, *, num_classes=3):
    rows = {"image": [{"bytes": b"", "path": f"{row}.png"} for row in range(len(labels))], "label": labels}
    names = [f"class {index}" for index in range(num_classes)]
    return Dataset.from_dict(rows, features=canonical_features(names, multi_label=isinstance(labels[0], list)))


def sizes_of(rows):
    return {name: len(chosen) for name, chosen in rows.items()}


def test_the_rows_of_a_seed_never_change():
    labels = torch.arange(100) % 4
    assert held_out_rows(labels, 0.1, seed=0).tolist() == [0, 9, 14, 27, 30, 31, 43, 45, 52, 74]
    assert held_out_rows(labels, 0.1, seed=1).tolist() == [7, 8, 22, 42, 43, 49, 64, 76, 86, 89]


def test_each_class_gives_its_share():
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 10)
    assert np.bincount(labels[held_out_rows(labels, 0.2, seed=3)]).tolist() == [20, 10, 2]


def test_small_classes_together_give_the_share_that_none_of_them_could_give_alone():
    labels = torch.arange(200) // 4  # 50 classes of 4
    held_out = held_out_rows(labels, 0.1, seed=0)
    assert len(held_out) == 20
    assert np.bincount(labels[held_out]).max() == 1


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_every_class_gives_its_share_rounded_up_or_down_and_keeps_a_row(labels, fraction, seed):
    held_out = held_out_rows(torch.tensor(labels), fraction, seed=seed)
    assert held_out.tolist() == sorted(set(held_out.tolist()))
    share = max(round(len(labels) * fraction), 1) / len(labels)
    for label in set(labels):
        total, taken = labels.count(label), sum(labels[row] == label for row in held_out)
        assert taken < total
        assert taken <= np.ceil(total * share - 1e-9)
        assert taken >= min(np.floor(total * share + 1e-9), total - 1)


@given(
    rows=st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=40),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_every_label_of_a_multi_label_dataset_keeps_a_row(rows, fraction, seed):
    multi_hot = torch.tensor([[float(label in labels) for label in range(5)] for labels in rows])
    kept = np.setdiff1d(np.arange(len(rows)), held_out_rows(multi_hot, fraction, seed=seed))
    assert torch.equal(multi_hot[kept].any(0), multi_hot.any(0))


def test_one_label_a_row_is_split_alike_as_integers_and_as_multi_hot():
    labels = torch.arange(60) % 6
    multi_hot = torch.nn.functional.one_hot(labels, 6)
    assert held_out_rows(labels, 0.2, seed=5).tolist() == held_out_rows(multi_hot, 0.2, seed=5).tolist()


def test_rows_with_several_labels_are_stratified_by_the_rarest():
    rare = torch.tensor([[1.0, 1.0]] * 10 + [[1.0, 0.0]] * 90)
    assert (held_out_rows(rare, 0.2, seed=0) < 10).sum() == 2


def test_an_official_division_keeps_the_test_set_and_calls_the_whole_training_set_database():
    rows = split_rows(dataset_of([0, 1, 2] * 10), dataset_of([0, 1] * 3), validation_fraction=0.2)
    assert sizes_of(rows) == {"train": 24, "validation": 6, "query": 6, "database": 30}
    assert sorted([*rows["train"], *rows["validation"]]) == rows["database"].tolist() == list(range(30))
    assert rows["query"].tolist() == list(range(30, 36))
    assert np.bincount(rows["validation"] % 3).tolist() == [2, 2, 2]


def test_without_an_official_division_queries_are_cut_first():
    rows = split_rows(dataset_of(THREE), query_fraction=0.2, validation_fraction=0.1, seed=1)
    assert sizes_of(rows) == {"train": 108, "validation": 12, "query": 30, "database": 120}
    assert sorted(np.concatenate([rows["train"], rows["validation"], rows["query"]])) == list(range(150))
    assert sorted([*rows["database"], *rows["query"]]) == list(range(150))


def test_a_protocol_draws_equal_shares_of_every_class_and_trains_inside_or_outside_of_the_database():
    both = dataset_of(THREE), dataset_of(THREE)  # row 3n + c is of class c
    sampled = split_rows(*both, protocol=Protocol(num_query=30, num_train=60), validation_fraction=0.2)
    disjoint = split_rows(*both, protocol=BOTH_OUTSIDE, validation_fraction=0.2)
    for rows, shares in ((sampled, [16, 4, 10, 90]), (disjoint, [16, 4, 10, 70])):
        for name, share in zip(("train", "validation", "query", "database"), shares, strict=True):
            assert np.bincount(rows[name] % 3).tolist() == [share] * 3
    for name in ("train", "validation", "query"):
        assert sampled[name].tolist() == disjoint[name].tolist()
    assert np.isin(np.union1d(sampled["train"], sampled["validation"]), sampled["database"]).all()
    assert sorted(np.concatenate(list(disjoint.values()))) == list(range(300))


def test_the_rows_of_a_protocol_never_change():
    train, test = dataset_of([0, 1, 2] * 10), dataset_of([2, 1, 0] * 10)
    rows = split_rows(train, test, protocol=Protocol(6, 12, train_in_database=False), validation_fraction=0.25, seed=1)
    assert {name: chosen.tolist() for name, chosen in rows.items() if name != "database"} == {
        "train": [3, 9, 16, 25, 36, 38, 39, 46, 54],
        "validation": [28, 35, 42],
        "query": [5, 7, 10, 15, 17, 32],
    }


@pytest.mark.parametrize("protocol", [OFFICIAL, Protocol(20, 30), Protocol(20, 30, train_in_database=False)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_rows_of_a_split_ascend_and_come_once(protocol, multi_label):
    labels = [[row % 3, 2] if row % 4 else [] for row in range(100)] if multi_label else [0, 1, 2, 2] * 25
    for chosen in split_rows(dataset_of(labels), dataset_of(labels[:80]), protocol=protocol, seed=5).values():
        assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_every_class_keeps_a_training_image_however_few_are_drawn():
    labels = [0] * 100 + [1] * 2 + [2] * 2
    rows = split_rows(dataset_of(labels), dataset_of(labels), protocol=Protocol(10, 8), validation_fraction=0.4)
    assert {(2 * labels)[row] for row in rows["train"]} == {0, 1, 2}


def test_a_protocol_may_divide_one_set():
    rows = split_rows(dataset_of([0, 1, 2] * 20), protocol=Protocol(12, 30), validation_fraction=0.1)
    assert sizes_of(rows) == {"train": 27, "validation": 3, "query": 12, "database": 48}


@pytest.mark.parametrize("protocol", [Protocol(20, 40), Protocol(59, 1), Protocol(60), Protocol(None, 60)])
def test_a_protocol_that_takes_every_image_is_an_error(protocol):
    with pytest.raises(ValueError, match="`protocol` must leave an item to search, but takes 60 of the 60 that there"):
        split_rows(dataset_of([0, 1, 2] * 10), dataset_of([0, 1, 2] * 10), protocol=protocol)


QUERY, VALIDATION = "`query_fraction` must", "`validation_fraction` must"


@pytest.mark.parametrize(
    ("labels", "num_classes", "settings", "message"),
    [
        ([0, 0, 0, 0], 1, {}, r"at least two classes, but has only \['class 0'\]"),
        ([0, 2] * 10, 3, {}, "a training item of every class, but has none of 'class 1'"),
        ([0] * 10, 4, {}, r"none of 'class 1' \(and 2 more\)"),
        ([0, 1, 2], 3, {}, f"{QUERY} hold out at least 1 of the 3 labelled rows .* but 0.2 holds out 0"),
        ([0, 1] * 9, 2, {"query_fraction": 1.0}, f"{QUERY} be a number above 0 and below 1, but got 1.0"),
        ([0, 1] * 9, 2, {"query_fraction": "x"}, f"{QUERY} be a number above 0 and below 1, but got 'x'"),
        ([0, 1] * 9, 2, {"validation_fraction": 0}, f"{VALIDATION} be a number above 0 and below 1, but got 0"),
        ([0, 1] * 9, 2, {"validation_fraction": True}, f"{VALIDATION} be a number .* but got True"),
        ([0, 1] * 9, 2, {}, f"{VALIDATION} hold out at least 2 of the 14 labelled rows .* but 0.1 holds out 1"),
        ([0, 1] * 9, 2, {"seed": -1}, "`seed` must be a whole number, 0 or larger, but got -1"),
        ([0, 1] * 9, 2, {"seed": 1.5}, "`seed` must be a whole number, 0 or larger, but got 1.5"),
        ([[]] * 20, 2, {}, "a training item of every class"),
        (THREE, 3, {"query": dataset_of([0, 1], num_classes=2)}, "`query` must have the features of `dataset`"),
        (THREE, 3, {"query": dataset_of(THREE).select([])}, "`query` must hold at least one item"),
    ],
)
def test_what_cannot_be_split_is_an_error(labels, num_classes, settings, message):
    with pytest.raises(ValueError, match=message):
        split_rows(dataset_of(labels, num_classes=num_classes), **settings)


def test_rows_without_a_label_are_in_the_training_and_the_database_alone():
    rows = split_rows(dataset_of([0, 1, -1, -1] * 20, num_classes=2), query_fraction=0.25, validation_fraction=0.2)
    assert sizes_of(rows) == {"train": 64, "validation": 6, "query": 10, "database": 70}
    assert all(row % 4 < 2 for row in [*rows["query"], *rows["validation"]])
