import numpy as np
import pyarrow as pa
import pytest

from modeling_crh.search.lance_index import LanceIndex
from modeling_crh.search.lance_rows import to_sql

SCHEMA = pa.schema({"label": pa.string(), "tags": pa.list_(pa.string()), "year": pa.int64(), "a b": pa.bool_()})


@pytest.mark.parametrize(
    ("condition", "sql"),
    [
        ("year > 3", "(year > 3)"),
        ({"label": "cat"}, "`label` = 'cat'"),
        ({"label": "'; DROP --"}, "`label` = '''; DROP --'"),
        ({"label": ["cat", "it's"]}, "`label` IN ('cat', 'it''s')"),
        ({"label": []}, "FALSE"),
        ({"label": None, "year": np.int64(3)}, "`label` IS NULL AND `year` = 3"),
        ({"tags": "cat"}, "array_has(`tags`, 'cat')"),
        ({"tags": ("cat", "dog")}, "array_has_any(`tags`, ['cat', 'dog'])"),
        ({"a b": True}, "`a b` = TRUE"),
        ({"year": 2.5}, "`year` = 2.5"),
    ],
)
def test_a_condition_is_sql(condition, sql):
    assert to_sql(condition, SCHEMA) == sql


@pytest.mark.parametrize("condition", ["", " ", {}, None, 3, ["year"]])
def test_what_is_no_condition_is_an_error(condition):
    with pytest.raises(ValueError, match="`where` must be SQL or a mapping of columns to values, but got"):
        to_sql(condition, SCHEMA)


def test_values_and_columns_that_cannot_be_are_an_error():
    with pytest.raises(ValueError, match=r"`where` must name columns of the table, .*, but names 'nope'"):
        to_sql({"nope": 1}, SCHEMA)
    for value in ({}, [{}], b"a", [None], float("nan")):
        with pytest.raises(ValueError, match="`where` must give strings, finite numbers, booleans or lists of them"):
            to_sql({"year": value}, SCHEMA)


def test_values_come_through_sql_unchanged(tmp_path):
    names = ["a", "it's", "' OR '1'='1", "back\\slash", "line\nbreak", "%_", "", "\N{SNOWMAN}", "a`b"]
    packed = np.zeros((len(names), 1), np.uint8)
    labels = [[name, "all"] for name in names]
    index = LanceIndex.create(tmp_path / "a.lance", packed, ids=names, labels=labels, columns={"it is": range(9)})
    for row, name in enumerate(names):
        for condition in ({"id": name}, {"id": [name]}, {"label": name}, {"label": [name]}, {"it is": row}):
            assert index.where(condition).search(packed[:1], 20)[0].tolist() == [[name]]
    assert len(index.where({"label": "all"})) == 9


@pytest.mark.parametrize("sql", ["nope = 3", "label =", "id = 'x'", "id", "nosuch(id)", "id = 1; DROP TABLE a"])
def test_sql_that_is_no_condition_on_the_table_gets_one_sentence(sql, tmp_path):
    index = LanceIndex.create(tmp_path / "a.lance", np.zeros((2, 1), np.uint8), labels=["a", "b"])
    with pytest.raises(ValueError, match=r"`where` must be a condition on the table, but .* is not: ") as raised:
        index.where(sql)
    assert "/root" not in str(raised.value)
    with pytest.raises(ValueError, match="`where` must be a condition on the table"):
        index.delete(sql)
    assert len(index) == 2
