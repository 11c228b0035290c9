import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_crh.search import index_codes

PACKED = np.random.default_rng(0).integers(0, 256, (50, 4), dtype=np.uint8)


def write(file, rows=slice(None), metadata=None, **columns):
    codes = pa.array([code.tobytes() for code in PACKED[rows]], pa.binary(4))
    table = pa.table({"code": codes} | columns)
    named = {"model": "org/model", "num_bits": "32"} if metadata is None else metadata
    pq.write_table(table.replace_schema_metadata(named), file, row_group_size=20)


def test_codes_ids_paths_labels_and_the_model_are_read(tmp_path):
    names = [["a"], ["b", "c"]] * 25
    write(tmp_path / "codes.parquet", id=pa.array(range(7, 57)), path=pa.array(["x"] * 50), label=pa.array(names))
    for source in (tmp_path, tmp_path / "codes.parquet"):
        index = index_codes(source, kind="flat")
        np.testing.assert_array_equal(index.packed, PACKED)
        assert (index.model, index.revision, index.num_bits, index.kind) == ("org/model", "", 32, "flat")
        assert index.records([1]) == [{"id": 8, "label": ["b", "c"], "path": "x"}]


def test_several_files_are_one_index_in_the_order_of_their_names(tmp_path):
    for name, rows in (("b", slice(30, 50)), ("a", slice(0, 30))):
        write(tmp_path / f"{name}.parquet", rows, path=pa.array([name] * len(PACKED[rows])))
    (tmp_path / ".codes.parquet.partial").write_bytes(b"half")
    index = index_codes(tmp_path)
    np.testing.assert_array_equal(index.packed, PACKED)
    assert [record["path"] for record in index.records([0, 49])] == ["a", "b"]


def test_the_caller_may_name_the_model(tmp_path):
    write(tmp_path / "codes.parquet", metadata={"model": "runs/old", "revision": "main", "num_bits": "32"})
    assert index_codes(tmp_path).revision == "main"
    index = index_codes(tmp_path, model="org/new")
    assert (index.model, index.revision) == ("org/new", "")


def test_files_of_two_models_are_an_error(tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", metadata={"model": "other", "num_bits": "32"})
    with pytest.raises(ValueError, match=r"`codes` must be codes of one model, but .*'org/model'.*'other'"):
        index_codes(tmp_path)


def test_files_with_other_columns_are_an_error(tmp_path):
    write(tmp_path / "a.parquet", id=pa.array(range(50)))
    write(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="`codes` must be files with the same columns"):
        index_codes(tmp_path)


def test_other_sources_are_errors(tmp_path):
    with pytest.raises(ValueError, match="`codes` must be a parquet file, or a folder that holds some, but got"):
        index_codes(tmp_path)
    with pytest.raises(ValueError, match="`codes` must be a parquet file, or a folder"):
        index_codes(tmp_path / "nowhere.parquet")
    file = tmp_path / "codes.parquet"
    file.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="`codes` must be a parquet file that can be read"):
        index_codes(file)
    pq.write_table(pa.table({"code": ["text"]}), file)
    with pytest.raises(ValueError, match="`codes` must have a column `code` of fixed-size binary"):
        index_codes(file)
    write(file, slice(0, 0))
    with pytest.raises(ValueError, match="`codes` must hold at least one code"):
        index_codes(file)
    write(file, metadata={"num_bits": "64"})
    with pytest.raises(ValueError, match="`codes` must have codes of 64 bits, as its metadata says, but they have 32"):
        index_codes(file)
    pq.write_table(pa.table({"code": pa.array([b"abcd", None], pa.binary(4))}), file)
    with pytest.raises(ValueError, match="`codes` must have a code in every row, but 1 have none"):
        index_codes(file)
