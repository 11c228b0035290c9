import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Image, concatenate_datasets
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.data.columns import canonical_features, label_tensor
from modeling_crh.data.splits import OFFICIAL, Protocol, held_out_rows, split_rows


def dataset_of(labels, *, num_classes=3):
    rows = {"image": [{"bytes": b"", "path": f"{row}.png"} for row in range(len(labels))], "label": labels}
    multi_label = isinstance(labels[0], list)
    names = [f"class {index}" for index in range(num_classes)]
    return Dataset.from_dict(rows, features=canonical_features(names, multi_label=multi_label))


def split_dataset(dataset, query=None, **settings):
    rows = split_rows(dataset, query, **settings)
    together = dataset if query is None else concatenate_datasets([dataset, query])
    return DatasetDict({name: together.select(chosen) for name, chosen in rows.items()})


def files(split):
    return [image["path"] for image in split.cast_column("image", Image(decode=False))["image"]]


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
    train, test = dataset_of([0, 1, 2] * 10), dataset_of([0, 1] * 3)
    splits = split_dataset(train, test, validation_fraction=0.2)
    assert splits.num_rows == {"train": 24, "validation": 6, "query": 6, "database": 30}
    assert sorted(files(splits["train"]) + files(splits["validation"])) == sorted(files(splits["database"]))
    assert label_tensor(splits["validation"]).bincount().tolist() == [2, 2, 2]


def test_without_an_official_division_queries_are_cut_first():
    dataset = dataset_of([0, 1, 2] * 50)
    splits = split_dataset(dataset, query_fraction=0.2, validation_fraction=0.1, seed=1)
    assert splits.num_rows == {"train": 108, "validation": 12, "query": 30, "database": 120}
    parts = [set(files(splits[name])) for name in ("train", "validation", "query")]
    assert len(set.union(*parts)) == 150


@pytest.mark.parametrize("train_in_database", [True, False])
def test_a_protocol_draws_from_both_sets_in_equal_shares_of_every_class(train_in_database):
    protocol = Protocol(num_query=30, num_train=60, train_in_database=train_in_database)
    train, test = dataset_of([0, 1, 2] * 50), dataset_of([0, 1, 2] * 50)
    splits = split_dataset(train, test, protocol=protocol, validation_fraction=0.2)
    database = 270 if train_in_database else 210
    assert splits.num_rows == {"train": 48, "validation": 12, "query": 30, "database": database}
    for name, share in [("train", 16), ("validation", 4), ("query", 10), ("database", database // 3)]:
        assert label_tensor(splits[name]).bincount().tolist() == [share] * 3


def test_who_trains_lies_in_the_database_or_outside_of_it_as_the_protocol_says():
    train, test = dataset_of([0, 1, 2] * 50), dataset_of([0, 1, 2] * 50)
    sampled = split_rows(train, test, protocol=Protocol(num_query=30, num_train=60))
    disjoint = split_rows(train, test, protocol=Protocol(num_query=30, num_train=60, train_in_database=False))
    for name in ("train", "validation", "query"):
        assert sampled[name].tolist() == disjoint[name].tolist()
    training = np.union1d(sampled["train"], sampled["validation"])
    assert np.isin(training, sampled["database"]).all()
    assert not np.isin(training, disjoint["database"]).any()
    everything = np.concatenate(list(disjoint.values()))
    assert np.array_equal(np.sort(everything), np.arange(300))


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
def test_the_splits_hold_the_images_of_their_rows(protocol, multi_label):
    labels = [[row % 3, 2] if row % 4 else [] for row in range(100)] if multi_label else [0, 1, 2, 2] * 25
    train, test = dataset_of(labels), dataset_of(labels[:80])
    rows = split_rows(train, test, protocol=protocol, seed=5)
    splits = split_dataset(train, test, protocol=protocol, seed=5)
    names = files(train) + files(test)
    for name, chosen in rows.items():
        assert files(splits[name]) == [names[row] for row in chosen]
        assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_every_class_keeps_a_training_image_however_few_are_drawn():
    train = dataset_of([0] * 100 + [1] * 2 + [2] * 2)
    splits = split_dataset(train, train, protocol=Protocol(10, 8), validation_fraction=0.4)
    assert set(label_tensor(splits["train"]).tolist()) == {0, 1, 2}


def test_a_protocol_may_divide_one_set():
    splits = split_dataset(dataset_of([0, 1, 2] * 20), protocol=Protocol(12, 30), validation_fraction=0.1)
    assert splits.num_rows == {"train": 27, "validation": 3, "query": 12, "database": 48}


@pytest.mark.parametrize("protocol", [Protocol(20, 40), Protocol(59, 1), Protocol(60), Protocol(None, 60)])
def test_a_protocol_that_takes_every_image_is_an_error(protocol):
    train, test = dataset_of([0, 1, 2] * 10), dataset_of([0, 1, 2] * 10)
    with pytest.raises(ValueError, match="`protocol` must leave an item to search, but takes 60 of the 60 that there"):
        split_dataset(train, test, protocol=protocol)


@pytest.mark.parametrize(
    ("labels", "num_classes", "settings", "message"),
    [
        ([0, 0, 0, 0], 1, {}, r"at least two classes, but has only \['class 0'\]"),
        ([0, 2] * 10, 3, {}, "a training item of every class, but has none of 'class 1'"),
        ([0] * 10, 4, {}, r"none of 'class 1' \(and 2 more\)"),
        ([0, 1, 2], 3, {}, "`query_fraction` must hold out at least 1 of the 3 labelled rows .* but 0.2 holds out 0"),
        ([0, 1] * 9, 2, {"query_fraction": 1.0}, "`query_fraction` must be a number above 0 and below 1, but got 1.0"),
        ([0, 1] * 9, 2, {"query_fraction": "x"}, "`query_fraction` must be a number above 0 and below 1, but got 'x'"),
        ([0, 1] * 9, 2, {"validation_fraction": 0}, "`validation_fraction` must be a number above 0 and below 1, .* 0"),
        ([0, 1] * 9, 2, {"validation_fraction": True}, "`validation_fraction` must be a number .* but got True"),
        (
            [0, 1] * 9,
            2,
            {},
            "`validation_fraction` must hold out at least 2 of the 14 labelled rows .* but 0.1 holds out 1",
        ),
        ([0, 1] * 9, 2, {"seed": -1}, "`seed` must be a whole number, 0 or larger, but got -1"),
        ([0, 1] * 9, 2, {"seed": 1.5}, "`seed` must be a whole number, 0 or larger, but got 1.5"),
        ([[]] * 20, 2, {}, "a training item of every class"),
    ],
)
def test_what_cannot_be_split_is_an_error(labels, num_classes, settings, message):
    with pytest.raises(ValueError, match=message):
        split_dataset(dataset_of(labels, num_classes=num_classes), **settings)


def test_a_test_set_of_other_classes_is_an_error():
    with pytest.raises(ValueError, match="`query` must have the features of `dataset`"):
        split_dataset(dataset_of([0, 1, 2] * 9), dataset_of([0, 1], num_classes=2))


def test_an_empty_test_set_is_an_error():
    dataset = dataset_of([0, 1, 2] * 9)
    with pytest.raises(ValueError, match="`query` must hold at least one item"):
        split_dataset(dataset, dataset.select([]))


def test_rows_without_a_label_are_in_the_training_and_the_database_alone():
    labels = [0, 1, -1, -1] * 20
    splits = split_dataset(dataset_of(labels, num_classes=2), query_fraction=0.25, validation_fraction=0.2)
    assert splits.num_rows == {"train": 64, "validation": 6, "query": 10, "database": 70}
    assert (label_tensor(splits["query"]) >= 0).all()
    assert (label_tensor(splits["validation"]) >= 0).all()
