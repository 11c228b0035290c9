import numpy as np
import pytest
import torch
from datasets import Dataset

from modeling_crh.data import prepare_dataset
from modeling_crh.encoding.labelled_items import FeatureDataset, sample_draws


def table_of(features, labels=None):
    labels = ["a", "b", "c", "d"][: len(features)] if labels is None else labels
    return prepare_dataset(Dataset.from_dict({"features": features, "label": labels}), features_column="features")


@pytest.fixture
def views():
    """Four rows of three views of two numbers, drawn from a seed."""
    return np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)


def test_rows_come_as_they_are_stored():
    rows = FeatureDataset(table_of([[1.0, 2.0], [3.0, 4.5]]))
    assert rows[1]["features"].tolist() == [3.0, 4.5]
    assert rows[1]["labels"].item() == 1
    assert rows.inputs([1, 0, 1])["features"].tolist() == [[3.0, 4.5], [1.0, 2.0], [3.0, 4.5]]
    assert rows.inputs([0])["features"].dtype == torch.float32


def test_whole_numbers_are_features_too():
    assert FeatureDataset(table_of([[1, 2], [3, 4]]))[0]["features"].tolist() == [1.0, 2.0]


def test_a_row_of_several_views_gives_the_one_that_seed_epoch_and_row_choose(views):
    rows = FeatureDataset(table_of(views.tolist()), seed=5)
    seen = set()
    for epoch in range(20):
        rows.set_epoch(epoch)
        for row in range(4):
            view = int(sample_draws(5, epoch, row)[0] * 3)
            assert rows[row]["features"].tolist() == views[row, view].tolist()
            seen.add((row, view))
    assert len(seen) == 12


def test_the_first_view_is_that_of_evaluation_in_every_epoch(views):
    rows = FeatureDataset(table_of(views.tolist()), first_view=True)
    for epoch in range(5):
        rows.set_epoch(epoch)
        assert torch.equal(rows.inputs(range(4))["features"], torch.from_numpy(views[:, 0]))


def test_a_single_view_is_the_same_as_none(views):
    single, plain = (FeatureDataset(table_of(rows.tolist())) for rows in (views[:, :1], views[:, 0]))
    assert torch.equal(single.inputs(range(4))["features"], plain.inputs(range(4))["features"])
    assert single.inputs(range(4))["features"].shape == (4, 2)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[1.0], [2.0, 3.0]], "`features` must hold numbers of one shape in every row, but do not"),
        ([["x"], ["y"]], "`features` must hold numbers of one shape in every row, but do not"),
        ([1.0, 2.0], r"`features` must hold \(F,\) or \(V, F\) numbers a row, but are \(2,\) in all"),
        ([[], []], r"`features` must hold \(F,\) or \(V, F\) numbers a row, but are \(2, 0\) in all"),
        ([[[[1.0]]], [[[2.0]]]], r"numbers a row, but are \(2, 1, 1, 1\) in all"),
        ([[1.0, 2.0], [3.0, float("nan")]], "`features` must be finite, but row 1 is not"),
        ([[float("inf")], [1.0]], "`features` must be finite, but row 0 is not"),
        ([[1.0], None], "`features` must"),
    ],
)
def test_what_is_no_table_of_numbers_is_an_error(features, message):
    with pytest.raises(ValueError, match=message):
        FeatureDataset(table_of(features))


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_what_is_no_seed_is_an_error(seed):
    with pytest.raises(ValueError, match=f"`seed` must be a whole number, 0 or larger, but got {seed}"):
        FeatureDataset(table_of([[1.0], [2.0]]), seed=seed)


def test_a_table_without_features_is_an_error():
    with pytest.raises(ValueError, match=r"`dataset` must have a column `features`, but has \['label'\]"):
        FeatureDataset(table_of([[1.0], [2.0]]).remove_columns("features"))
