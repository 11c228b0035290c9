import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets

from modeling_crh.data import label_names, load_splits
from modeling_crh.data.load_splits import leave_out_classes, seen_classes

NAMES = [f"class {number}" for number in range(6)]


@pytest.fixture
def table(tmp_path):
    """Sixty rows of features, ten a class, and one without a label."""
    features = np.arange(122, dtype=np.float32).reshape(61, 2)
    rows = Dataset.from_dict({"features": features, "label": [NAMES[row % 6] for row in range(60)] + [None]})
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    return tmp_path / "rows.parquet"


def names_by_features(split):
    names = [*label_names(split), None]
    return {tuple(row["features"]): names[-1 if row["label"] in (-1, None) else row["label"]] for row in split}


def test_unseen_classes_are_in_query_and_database_alone_and_rows_keep_their_names(table):
    whole = load_splits(table, features_column="features").splits
    splits = load_splits(table, features_column="features", unseen_fraction=0.5).splits
    seen = label_names(splits["train"])
    assert len(seen) == 3
    assert label_names(splits["validation"]) == seen
    assert label_names(splits["query"])[:3] == label_names(splits["database"])[:3] == seen
    assert sorted(label_names(splits["query"])) == NAMES
    for name in ("query", "database"):
        assert names_by_features(splits[name]) == names_by_features(whole[name])
    for name in ("train", "validation"):
        kept = {row: label for row, label in names_by_features(whole[name]).items() if label in (*seen, None)}
        assert names_by_features(splits[name]) == kept


def test_the_seed_chooses_the_classes_of_a_benchmark_whose_rows_are_those_of_its_splits():
    dataset = load_splits("fashion_mnist_sample").splits["train"]
    assert seen_classes(dataset, 0.3, 0) == seen_classes(dataset, 0.3, 0)
    assert {tuple(seen_classes(dataset, 0.3, seed)) for seed in range(5)} != {tuple(seen_classes(dataset, 0.3, 0))}
    assert len(seen_classes(dataset, 0.01, 0)) == 9
    loaded = load_splits("fashion_mnist_sample", unseen_fraction=0.3)
    assert {name: len(rows) for name, rows in loaded.rows.items()} == loaded.splits.num_rows
    assert loaded.splits.num_rows == {"train": 3780, "validation": 420, "query": 1000, "database": 6000}


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (1.0, "`unseen_fraction` must be a number above 0 and below 1, but got 1.0"),
        ("x", "`unseen_fraction` must be a number above 0 and below 1, but got 'x'"),
        (0.9, "`unseen_fraction` must leave two classes to train on, but 0.9 of 6 leaves 1"),
    ],
)
def test_a_share_that_leaves_nothing_to_learn_is_an_error(table, fraction, message):
    with pytest.raises(ValueError, match=message):
        load_splits(table, features_column="features", unseen_fraction=fraction)


def test_several_labels_and_too_few_validation_rows_are_errors(tmp_path, table):
    rows = Dataset.from_dict({"features": torch.rand(40, 2).tolist(), "label": [["a", "b"], ["c"]] * 20})
    rows.to_parquet(str(tmp_path / "several.parquet"))
    with pytest.raises(ValueError, match="`unseen_fraction` must be left out for data with several labels"):
        load_splits(tmp_path / "several.parquet", features_column="features", unseen_fraction=0.4)
    splits = load_splits(table, features_column="features").splits
    dataset = concatenate_datasets([splits["train"], splits["validation"]])
    chosen = {"train": np.arange(10), "validation": np.arange(1), "query": np.arange(5), "database": np.arange(9)}
    with pytest.raises(ValueError, match="`unseen_fraction` must leave at least two rows for validation, but leaves"):
        leave_out_classes(dataset, chosen, [0, 1])
