import numpy as np
import pyarrow as pa
import pytest

from modeling_crh.search import HammingIndex
from modeling_crh.search.lance_index import LanceIndex
from modeling_crh.search.lance_view import to_sql

GENERATOR = np.random.default_rng(0)
PACKED = GENERATOR.integers(0, 4, (500, 2), dtype=np.uint8)  # many ties: only four of 16 bits differ
LABELS = [["cat", "dog", "it's"][row % 3] for row in range(500)]
QUERIES = PACKED[:7]


@pytest.fixture
def uri(tmp_path):
    return tmp_path / "codes.lance"


@pytest.fixture
def table(uri):
    years = np.arange(500) % 7
    return LanceIndex.create(uri, PACKED, labels=LABELS, columns={"year": years}, model="org/model", revision="main")


@pytest.mark.parametrize("k", [1, 10, 200, 501])
def test_with_ids_in_order_it_finds_what_a_flat_index_finds(table, k):
    found, expected = table.search(QUERIES, k), HammingIndex(PACKED).search(QUERIES, k)
    np.testing.assert_array_equal(found, expected)
    assert [one.dtype for one in found] == [one.dtype for one in expected]


def test_a_radius_is_exact_with_lists_too(table):
    with pytest.raises(ValueError, match="`kind` must be auto, flat or ivf for a table, but got 'hnsw'"):
        table.optimize("hnsw")
    table.optimize("ivf")
    assert table.kind == "ivf"
    for radius in (0, 1, 2, 16):
        found, expected = table.search_radius(QUERIES, radius), HammingIndex(PACKED).search_radius(QUERIES, radius)
        for one, other in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
            np.testing.assert_array_equal(one, other)


def test_ties_stand_in_the_order_of_ids_however_the_rows_lie(uri):
    order = np.random.default_rng(1).permutation(500)
    index = LanceIndex.create(uri, PACKED[order[:300]], ids=order[:300])
    index.add(PACKED[order[300:]], order[300:])
    expected = HammingIndex(PACKED).search(QUERIES, 40)[0]
    np.testing.assert_array_equal(index.search(QUERIES, 40)[0], expected)
    index.optimize()
    np.testing.assert_array_equal(index.search(QUERIES, 40)[0], expected)


def test_lists_are_made_of_large_tables_and_hold_what_is_added_later(uri, monkeypatch):
    monkeypatch.setattr("modeling_crh.search.lance_table.FLAT_LIMIT", 400)
    index = LanceIndex.create(uri, PACKED[:400], kind="auto")
    assert index.kind == "flat"
    index.add(PACKED[400:], np.arange(400, 500))
    index.optimize()
    assert index.kind == "ivf"
    new = np.array([[255, 255]], np.uint8)
    index.add(new, [1000])
    assert index.search(new, 1)[0].tolist() == [[1000]]
    assert index.search(QUERIES, 600)[0].shape == (7, 501)  # the lists hold fewer, so all codes are compared
    assert LanceIndex.create(uri, PACKED, kind="flat", replace=True).kind == "flat"


def test_a_condition_chooses_items_before_codes_are_compared(table):
    cats = [row for row in range(500) if LABELS[row] == "cat" and row % 7 == 3]
    chosen = [
        table.where("label = 'cat' AND year = 3"),
        table.where({"label": "cat", "year": 3}),
        table.where("label = 'cat' OR label = 'dog'").where({"label": ["cat", "it's"]}).where("year = 3"),
    ]
    expected = HammingIndex(PACKED[cats], ids=cats)
    for view in chosen:
        assert len(view) == len(cats)
        for index in (view, view.in_memory()):
            np.testing.assert_array_equal(index.search(QUERIES, 30), expected.search(QUERIES, 30))
            np.testing.assert_array_equal(index.search_radius(QUERIES[:1], 2), expected.search_radius(QUERIES[:1], 2))
    assert table.where({"year": 99}).search(QUERIES, 3)[0].shape == (7, 0)
    assert len(table) == 500


def test_records_hold_all_columns_in_the_order_asked_for(table):
    (positions,) = table.where({"year": 6}).find(QUERIES[:1], 3).positions
    records = table.records([positions[1], positions[0], positions[1]])
    ids = [record["id"] for record in records]
    assert ids[0] == ids[2] != ids[1]
    assert records == [{"id": n, "label": LABELS[n], "path": None, "year": 6} for n in ids]
    assert table.records([]) == []
    with pytest.raises(ValueError, match="`positions` must be those of items of this version, but got 1000000"):
        table.records([1000000])


def test_every_change_is_a_version_that_can_be_opened_and_restored(table, uri):
    table.add(PACKED[:2], [900, 901], labels=["new", "new"], columns={"year": [1, 2]})
    assert table.delete({"label": "dog"}) == LABELS.count("dog")
    versions = table.versions()
    assert [version.num_items for version in versions] == [500, 502, 502 - LABELS.count("dog")]
    assert len(table) == versions[-1].num_items
    old = table.at(versions[0].number)
    assert (len(old), old.version) == (500, versions[0].number)
    assert len(old.where({"label": "dog"})) == LABELS.count("dog")
    table.restore(versions[0].number)
    assert len(table) == len(LanceIndex(uri)) == 500
    assert [version.num_items for version in table.versions()] == [500, 502, 502 - LABELS.count("dog"), 500]
    assert (table.model, table.revision, table.num_bits) == ("org/model", "main", 16)
    with pytest.raises(ValueError, match="`version` must be one of the table's versions, but got 99"):
        table.at(99)


def test_replacing_is_a_version_too(table, uri):
    new = LanceIndex.create(uri, PACKED[:3], model="org/new", replace=True)
    assert (len(new), new.model) == (3, "org/new")
    assert (len(new.at(table.version)), new.at(table.version).model) == (500, "org/model")
    assert len(table) == 500
    table.refresh()
    assert (len(table), table.model) == (3, "org/new")
    with pytest.raises(ValueError, match=r"`uri` must be new, but '.*codes\.lance' is there already"):
        LanceIndex.create(uri, PACKED)


def test_an_id_is_there_once(table):
    new = {"labels": ["new"] * 2, "columns": {"year": [0, 0]}}
    with pytest.raises(ValueError, match="`ids` must be new, but the table has 499 already"):
        table.add(PACKED[:2], [600, 499], **new)
    with pytest.raises(ValueError, match="`ids` must be distinct, but 600 comes twice"):
        table.add(PACKED[:2], [600, 600], **new)
    assert (len(table), table.version) == (500, 1)
    table.add(PACKED[:2], [600, 499], replace=True, **new)
    assert len(table) == 501
    assert table.where({"label": "new"}).search(QUERIES[:1], 9)[0].tolist() == [[600, 499]]


def test_all_items_go_into_memory(table):
    table.add(PACKED[:1], [-1], labels=["new"], columns={"year": [0]})
    index = table.in_memory("flat")
    np.testing.assert_array_equal(index.packed, np.concatenate([PACKED[:1], PACKED]))  # in the order of their ids
    assert index.records([0, 3]) == [{"id": -1, "label": "new", "path": None}, {"id": 2, "label": "it's", "path": None}]
    assert (index.kind, index.model, index.revision) == ("flat", "org/model", "main")


@pytest.mark.parametrize(
    ("ids", "more", "message"),
    [
        ([600], {"labels": ["a"], "columns": {"year": [1], "month": [1]}}, "Items must have the columns of the table"),
        ([600], {"labels": ["a"]}, "Items must have the columns of the table"),
        (["x"], {"labels": ["a"], "columns": {"year": [1]}}, "Items must have the columns of the table"),
        (None, {"labels": ["a"], "columns": {"year": [1]}}, "`ids` must be given to add to a table"),
        ([600], {"labels": ["a"], "columns": {"year": [1, 2]}}, "`columns` must hold one value a code, but 'year' h"),
        ([600], {"labels": ["a"], "columns": {"code": [1]}}, "`columns` must have names other than id, label, path"),
        ([600], {"labels": ["a"], "columns": {"_rowid": [1]}}, "`columns` must have names other than id, label, path"),
    ],
)
def test_items_that_do_not_fit_are_an_error(table, ids, more, message):
    with pytest.raises(ValueError, match=message):
        table.add(PACKED[:1], ids, **more)
    assert table.version == 1


def test_a_table_begins_with_a_code_and_may_become_empty(tmp_path, table):
    for codes, ids, message in ((PACKED[:0], None, "`packed` must hold at"), (PACKED[:2], ["a", "a"], "'a' comes tw")):
        with pytest.raises(ValueError, match=message):
            LanceIndex.create(tmp_path / "none.lance", codes, ids=ids)
    assert not (tmp_path / "none.lance").exists()
    assert table.delete("true") == 500
    assert table.search(QUERIES, 3)[0].shape == (7, 0)
    assert [len(found) for found in table.search_radius(QUERIES, 16)[0]] == [0] * 7


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


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        *(
            (none, "must be SQL or a mapping of columns to values, but got")
            for none in ("", " ", {}, None, 3, ["year"])
        ),
        ({"nope": 1}, r"must name columns of the table, .*, but names 'nope'"),
        *(({"year": value}, "must give strings, finite n") for value in ({}, [{}], b"a", [None], float("nan"))),
    ],
)
def test_what_is_no_condition_is_an_error(condition, message):
    with pytest.raises(ValueError, match=f"`where` {message}"):
        to_sql(condition, SCHEMA)


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


@pytest.mark.parametrize("distinct", [1, 3])
def test_lists_of_a_million_codes_of_which_only_a_few_differ(distinct, uri):
    packed = np.repeat(PACKED[:1], 1_100_000, axis=0)
    packed[:, 1] = np.arange(len(packed)) % distinct
    table = LanceIndex.create(uri, packed, kind="ivf")
    assert table.kind == "ivf"
    assert table.search(packed[:1], 3)[1].tolist() == [[0, 0, 0]]
