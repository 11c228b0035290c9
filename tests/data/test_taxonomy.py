import pytest
from datasets import Dataset

from modeling_crh.data.benchmarks.small_images import emoji_features
from modeling_crh.data.columns import class_levels, has_levels


def rows_of(labels, groups=None):
    rows = {"image": [{"bytes": b"", "path": None}] * len(labels), "label": labels, "vendor": [0] * len(labels)}
    rows |= {"group": groups or [label % 2 for label in labels], "subgroup": labels, "name": ["x"] * len(labels)}
    return Dataset.from_dict(rows, features=emoji_features(list("abc"), ["noto"], ["A", "B"], list("pqr")))


def test_each_class_has_the_group_and_the_subgroup_of_its_rows_which_may_be_plain_strings():
    dataset = rows_of([2, 0, 1, 0])
    plain = dataset.select_columns("label")
    for level in ("group", "subgroup"):
        plain = plain.add_column(level, dataset.features[level].int2str(dataset[level]))
    for rows in (dataset, plain):
        assert class_levels(rows) == {"subgroup": ["p", "q", "r"], "group": ["A", "B", "A"]}
        assert has_levels(rows)


def test_two_levels_of_one_class_or_a_missing_column_are_no_taxonomy():
    assert not has_levels(rows_of([0, 1, 2, 1], [0, 1, 0, 0]))
    assert not has_levels(rows_of([0, 1]).remove_columns("subgroup"))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (rows_of([0, 2]), "`dataset` must have a row of every class, but has none of 'b'"),
        (rows_of([0, 1, 2, 1], [0, 1, 0, 0]), "`dataset` must have one group a class, but 'b' has several"),
        (rows_of([0]).remove_columns("group"), "columns label, group and subgroup, but has no group"),
    ],
)
def test_a_taxonomy_that_is_not_there_is_an_error(dataset, message):
    with pytest.raises(ValueError, match=message):
        class_levels(dataset)
