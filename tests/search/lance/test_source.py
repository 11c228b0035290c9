import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_crh.search import index_codes
from modeling_crh.search.lance_codes import codes_to_table
from modeling_crh.search.lance_index import LanceIndex

PACKED = np.random.default_rng(0).integers(0, 256, (50, 4), dtype=np.uint8)


def write(file, rows=slice(None), metadata=None, **columns):
    codes = pa.array([code.tobytes() for code in PACKED[rows]], pa.binary(4))
    table = pa.table({"code": codes} | columns)
    named = {"model": "org/model", "revision": "main", "num_bits": "32"} if metadata is None else metadata
    pq.write_table(table.replace_schema_metadata(named), file, row_group_size=20)


@pytest.fixture
def folder(tmp_path):
    """Two files, the second of which has been left empty, and a third."""
    write(tmp_path / "a.parquet", slice(0, 30), id=pa.array(range(30)), label=["x"] * 30, year=[2024] * 30)
    nothing = pa.array([], pa.int64())
    write(tmp_path / "b.parquet", slice(0, 0), id=nothing, label=pa.array([], pa.string()), year=nothing)
    write(tmp_path / "c.parquet", slice(30, 50), id=pa.array(range(30, 50)), label=["y"] * 20, year=[2025] * 20)
    return tmp_path


@pytest.mark.parametrize("rows", [7, 1 << 18])
def test_files_are_a_table_part_by_part(folder, rows, monkeypatch):
    monkeypatch.setattr("modeling_crh.search.lance_codes._ROWS", rows)
    table = codes_to_table(folder, folder / "all.lance")
    found, expected = table.search(PACKED, 10), index_codes(folder).search(PACKED, 10)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert (table.model, table.revision, table.num_bits, table.version) == ("org/model", "main", 32, 1)
    assert [len(table.where({"label": "y"})), len(table.where("year < 2025"))] == [20, 30]


def test_without_ids_the_numbers_of_rows_are_ids(tmp_path):
    for name, rows in (("a", slice(0, 30)), ("b", slice(30, 50))):
        write(tmp_path / f"{name}.parquet", rows)
    table = codes_to_table(tmp_path, tmp_path / "all.lance", model="org/other")
    assert sorted(table.search(PACKED[:1], 50)[0][0].tolist()) == list(range(50))
    assert (table.model, table.revision) == ("org/other", "")


def test_codes_are_added_if_they_fit(folder, tmp_path):
    uri = tmp_path / "first.lance"
    codes_to_table(folder / "a.parquet", uri)
    table = codes_to_table(folder / "c.parquet", uri, append=True)
    assert len(table) == 50
    with pytest.raises(ValueError, match="`ids` must be new, but the table has 30 already"):
        codes_to_table(folder / "c.parquet", uri, append=True)
    with pytest.raises(ValueError, match="`codes` must have the model of the table, 'org/model', but have 'org/new'"):
        codes_to_table(folder / "c.parquet", uri, append=True, model="org/new")
    LanceIndex.create(tmp_path / "short.lance", np.zeros((1, 1), np.uint8), model="org/model")
    with pytest.raises(ValueError, match="`codes` must have the num_bits of the table, 8, but have 32"):
        codes_to_table(folder / "c.parquet", tmp_path / "short.lance", append=True)
    with pytest.raises(ValueError, match="`uri` must be a table of codes, but there is no folder"):
        codes_to_table(folder / "c.parquet", tmp_path / "nothing.lance", append=True)


@pytest.mark.parametrize("fault", ["doubles", "damage", "columns", "no code"])
def test_what_goes_wrong_half_way_leaves_what_was_there(folder, fault, monkeypatch):
    monkeypatch.setattr("modeling_crh.search.lance_codes._ROWS", 7)
    uri = folder / "all.lance"
    LanceIndex.create(uri, PACKED[:3])
    before = sorted(path.name for path in uri.rglob("*"))
    last = folder / "d.parquet"
    if fault == "doubles":
        write(last, slice(0, 1), id=pa.array([5]), label=["z"], year=[1])
        message = "`ids` must be distinct, but 5 comes twice"
    elif fault == "columns":
        write(last, slice(0, 1), id=pa.array([50]), label=["z"])
        message = "Items must have the columns of the table"
    elif fault == "no code":
        columns = {"id": [50], "label": ["z"], "year": [1], "code": pa.array([None], pa.binary(4))}
        metadata = {"model": "org/model", "revision": "main", "num_bits": "32"}
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), last)
        message = "`codes` must have a code in every row, but 1 have none"
    else:
        content = bytearray((folder / "c.parquet").read_bytes())
        content[4:200] = bytes(196)
        last.write_bytes(content)
        message = r"`codes` must be a parquet file that can be read, but '.*d\.parquet' is not"
    with pytest.raises(ValueError, match=message):
        codes_to_table(folder, uri)
    assert len(LanceIndex(uri)) == 3
    assert sorted(path.name for path in uri.rglob("*")) == before


def test_codes_that_are_none_are_an_error(tmp_path):
    file, uri = tmp_path / "codes.parquet", tmp_path / "all.lance"
    write(file, slice(0, 0))
    with pytest.raises(ValueError, match="`codes` must hold at least one code"):
        codes_to_table(file, uri)
    write(file, metadata={"num_bits": "64"})
    with pytest.raises(ValueError, match="`codes` must have codes of 64 bits, as its metadata says, but they have 32"):
        codes_to_table(file, uri)
    with pytest.raises(ValueError, match="`codes` must be a parquet file, or a folder that holds some"):
        codes_to_table(tmp_path / "nothing", uri)
    with pytest.raises(ValueError, match="`kind` must be auto, flat or ivf for a table, but got 'hnsw'"):
        codes_to_table(file, uri, kind="hnsw")
    assert not uri.exists()
