import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_shards import open_shards, packed, rows

from modeling_crh.data import BadRow
from modeling_crh.encoding.shards import code_files, one_model, read_code_schema, shard_path
from modeling_crh.search import index_codes


def test_shards_are_found_in_their_order_once_all_are_there(tmp_path):
    shards = open_shards(tmp_path)
    for number in (2, 0, 1):
        shards.write(number, rows(3 * number), packed(3 * number))
    with pytest.raises(ValueError, match=r"`codes` must be complete, but in '.*' files are missing; the same `crh enc"):
        code_files(tmp_path)
    shards.complete()
    assert code_files(tmp_path) == [shard_path(tmp_path, number) for number in range(3)]
    assert code_files(shard_path(tmp_path, 1)) == [shard_path(tmp_path, 1)]
    assert [row["id"] for row in index_codes(tmp_path).records([0, 1, 2])] == [0, 3, 6]
    shard_path(tmp_path, 1).unlink()
    with pytest.raises(ValueError, match="`codes` must be complete"):
        index_codes(tmp_path)


def test_images_that_were_left_out_do_not_part_the_shards(tmp_path):
    shards = open_shards(tmp_path)
    shards.write(0, rows(0), packed(0), [(1, BadRow("1.png", "cut"))])
    shards.write(1, [], packed())
    shards.complete()
    schemas = [read_code_schema(file) for file in code_files(tmp_path)]
    assert one_model(schemas, tmp_path) == ("runs/a", "", "16")
    assert len(index_codes(tmp_path)) == 1


def test_files_without_codes_are_errors(tmp_path):
    with pytest.raises(ValueError, match="`codes` must be a parquet file, or a folder that holds some, but got"):
        code_files(tmp_path)
    pq.write_table(pa.table({"code": ["text"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="`codes` must have a column `code` of fixed-size binary"):
        read_code_schema(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"half")
    with pytest.raises(ValueError, match="`codes` must be a parquet file that can be read"):
        read_code_schema(tmp_path / "a.parquet")
