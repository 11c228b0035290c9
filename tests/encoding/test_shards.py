import json
from importlib.metadata import version

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from packaging.version import Version
from tiny_shards import open_shards, packed, rows

from modeling_crh.data import BadRow
from modeling_crh.encoding.manifest import RECORD_NAME
from modeling_crh.encoding.shards import code_files, shard_path
from modeling_crh.search import index_codes


@pytest.fixture
def complete(tmp_path):
    """Codes of one row."""
    shards = open_shards(tmp_path)
    shards.write(0, rows(0), packed(0))
    shards.complete()
    return shards


def test_a_shard_holds_id_path_code_and_label(tmp_path):
    shards = open_shards(tmp_path / "deep" / "codes", pa.string(), revision="c0ffee", model="org/a")
    assert not (tmp_path / "deep").exists()
    shards.write(1, rows(4, 7), packed(4, 7), [(5, BadRow("5.png", "cut"))])
    assert sorted(file.name for file in shards.folder.iterdir()) == [RECORD_NAME, "codes-00001.parquet"]
    table = pq.read_table(shard_path(shards.folder, 1))
    assert table.schema.remove_metadata() == pa.schema(
        [("id", pa.int64()), ("path", pa.string()), ("code", pa.binary(2)), ("label", pa.string())]
    )
    assert table.to_pylist() == [
        {"id": 4, "path": "4.png", "code": b"\x04\xff", "label": None},
        {"id": 7, "path": "7.png", "code": b"\x07\xff", "label": "ant"},
    ]
    metadata = table.schema.metadata
    assert len(metadata.pop(b"checksum")) == 64
    left_out, model = {b"left_out": b'[[5, "5.png", "cut"]]'}, {b"model": b"org/a", b"revision": b"c0ffee"}
    assert metadata == {b"num_bits": b"16", b"dtype": b"float32", **model, **left_out}


@pytest.mark.skipif(Version(version("datasets")) < Version("5.1"), reason="it reads no fixed-size binary")
@pytest.mark.parametrize("empty", [0, 1, 2])
def test_load_dataset_reads_all_shards_in_their_order_even_empty_ones(tmp_path, empty):
    shards = open_shards(tmp_path / "codes", pa.list_(pa.string()))
    for number in range(3):
        ids = [] if number == empty else [3 * number, 3 * number + 1]
        shards.write(number, [row._replace(label=["x"]) for row in rows(*ids)], packed(*ids))
    shards.complete()
    loaded = load_dataset(str(tmp_path / "codes"), split="train", cache_dir=str(tmp_path / "cache"))
    kept = [number for number in range(9) if number // 3 != empty and number % 3 < 2]
    assert loaded["id"][:] == kept
    assert loaded["code"][:] == [bytes([number, 255]) for number in kept]


def test_a_copy_of_the_model_goes_on_under_the_first_name_without_a_column_of_labels(tmp_path):
    open_shards(tmp_path).write(0, rows(0), packed(0))
    open_shards(tmp_path, model="runs/copy").write(1, rows(3), packed(3))
    schema = pq.read_schema(shard_path(tmp_path, 1))
    assert schema.names == ["id", "path", "code"]
    assert schema.metadata.keys() == {b"model", b"num_bits", b"dtype", b"checksum"}
    assert schema.metadata[b"model"] == b"runs/a"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": "x"}, "`checkpoint` must be 'runs/a' as it was when '.*' was begun, but has changed since"),
        ({"weights": "x", "model": "runs/b"}, "`checkpoint` must be 'runs/a' as it was .*, but got 'runs/b'"),
        ({"source": "/cars"}, "`source` must be '/photos' as it was when .*, but got '/cars'; another run needs"),
        ({"source_version": "2"}, "`source` must be '/photos' as it was when .*, but has changed since"),
        ({"shard_size": 4}, "`shard_size` must be 3, as it was when '.*' was begun, but got 4"),
        ({"options": {"label_column": "kind"}}, "`label_column` must be 'label', as it was when .*, but got 'kind'"),
        ({"options": {}}, "`label_column` must be 'label', as it was when .*, but got None"),
        ({"options": {"label_column": "label", "split": "a"}}, "`split` must be None, as it was when .*, but got 'a'"),
    ],
)
def test_another_run_is_refused(tmp_path, fields, message):
    open_shards(tmp_path).write(0, rows(0), packed(0))
    with pytest.raises(ValueError, match=message):
        open_shards(tmp_path, **fields)


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"`out` must be a new or empty folder, or .*, but '.*pictures' holds 'cat'"):
        open_shards(tmp_path / "pictures")
    (tmp_path / "pictures" / "cat").rmdir()
    open_shards(tmp_path / "pictures")
    (tmp_path / "codes.parquet").write_bytes(b"earlier work")
    with pytest.raises(ValueError, match=r"`out` must be a new or empty folder, or .* holds 'codes\.parquet'"):
        open_shards(tmp_path)
    with pytest.raises(ValueError, match=r"`out` must be a folder, but '.*' is a file"):
        open_shards(tmp_path / "codes.parquet")
    (tmp_path / RECORD_NAME).write_text("{")
    with pytest.raises(ValueError, match=r"encoding\.json must be what `crh encode` wrote, but cannot be read"):
        open_shards(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        *({name: 5} for name in ("model", "revision", "weights", "source", "options", "prefix_bits", "dtype")),
        *({"model": value} for value in (None, ["a"], {"a": 1})),
        *({"num_shards": value} for value in ("1", 1.5, [1])),
        *({"options": value} for value in ([], "label_column", {"label_column": 1})),
        {"columns": 5},
        "[" * 2_000,
        "[]",
        "null",
    ],
)
def test_a_record_of_other_types_is_refused_wherever_it_is_read(changed, complete, tmp_path):
    record = json.loads((tmp_path / RECORD_NAME).read_text())
    (tmp_path / RECORD_NAME).write_text(changed if isinstance(changed, str) else json.dumps(record | changed))
    for read in (open_shards, index_codes):
        with pytest.raises(ValueError, match=r"encoding\.json must be what `crh encode` wrote, but cannot be read"):
            read(tmp_path)


@pytest.mark.parametrize("left_out", ["x", "5", "null", "[1]", "[[1, 2]]", "[" * 2_000])
def test_rows_that_were_left_out_in_another_form_are_refused(left_out, complete, tmp_path):
    file = shard_path(tmp_path, 0)
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"left_out": left_out.encode()}), file)
    with pytest.raises(ValueError, match="`codes` must be a parquet file that can be read, but"):
        complete.count()


def test_a_gap_and_too_many_shards_are_errors(tmp_path):
    shards = open_shards(tmp_path)
    with pytest.raises(ValueError, match="`shard_size` must be larger, since a source has at most 100,000 shards"):
        shards.write(100_000, rows(0), packed(0))
    shards.write(1, rows(3), packed(3))
    with pytest.raises(ValueError, match="must hold every shard up to the last"):
        shards.complete()


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
    index = index_codes(tmp_path)
    assert (len(index), index.model, index.dtype) == (1, "runs/a", "float32")


def test_codes_of_the_first_version_are_still_read(complete, tmp_path):
    record = json.loads((tmp_path / RECORD_NAME).read_text())
    record["columns"] = record.pop("options")  # as it was called
    (tmp_path / RECORD_NAME).write_text(json.dumps(record))
    assert len(index_codes(tmp_path)) == 1
    assert open_shards(tmp_path).is_complete
