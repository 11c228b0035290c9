import errno
from unittest.mock import Mock

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_shards

from modeling_crh.file_bytes import httpx
from modeling_crh.search import HammingIndex, index_codes, open_index, read_index
from modeling_crh.search.lance_index import LanceIndex, codes_to_table


@pytest.fixture
def folder(tmp_path, write_codes):
    """Two files of 30 and 20 codes, an empty one between them, and what a run that was killed has left."""
    write_codes(tmp_path / "a.parquet", slice(0, 30), id=pa.array(range(30)), label=["x"] * 30, year=[2024] * 30)
    nothing = pa.array([], pa.int64())
    write_codes(tmp_path / "b.parquet", slice(0, 0), id=nothing, label=pa.array([], pa.string()), year=nothing)
    write_codes(tmp_path / "c.parquet", slice(30, 50), id=pa.array(range(30, 50)), label=["y"] * 20, year=[2025] * 20)
    (tmp_path / ".codes.parquet.partial").write_bytes(b"half")
    return tmp_path


def test_codes_ids_paths_labels_and_the_model_are_read(tmp_path, write_codes):
    names = pa.array([["a"], ["b", "c"]] * 25)
    packed = write_codes(tmp_path / "codes.parquet", id=pa.array(range(7, 57)), path=pa.array(["x"] * 50), label=names)
    for source in (tmp_path, tmp_path / "codes.parquet"):
        index = index_codes(source, kind="flat")
        np.testing.assert_array_equal(index.packed, packed)
        assert (index.model, index.revision, index.num_bits, index.kind) == ("org/model", "main", 32, "flat")
        assert index.records([1]) == [{"id": 8, "label": ["b", "c"], "path": "x"}]
    index = index_codes(tmp_path, model="org/new")
    assert (index.model, index.revision) == ("org/new", "")


@pytest.mark.parametrize("rows", [7, 1 << 18])
def test_files_are_one_index_or_one_table_in_the_order_of_their_names(folder, rows, monkeypatch, write_codes):
    monkeypatch.setattr("modeling_crh.search.code_files._ROWS", rows)
    packed = write_codes(folder / "c.txt")
    index, table = index_codes(folder), codes_to_table(folder, folder / "all.lance")
    np.testing.assert_array_equal(index.packed, packed)
    np.testing.assert_array_equal(table.search(packed, 10), index.search(packed, 10))
    assert (table.model, table.revision, table.num_bits, table.version) == ("org/model", "main", 32, 1)
    assert [len(table.where({"label": "y"})), len(table.where("year < 2025"))] == [20, 30]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_ids_may_be_strings_in_either_index(tmp_path, write_codes, kind):
    names = [f"näme {row}" for row in range(50)]
    packed = write_codes(tmp_path / "codes.parquet", id=pa.array(names, kind))
    index, table = index_codes(tmp_path), codes_to_table(tmp_path, tmp_path / "all.lance")
    for found in (index, table, table.in_memory()):
        assert found.search(packed, 1)[0].ravel().tolist() == names
        assert found.search_radius(packed[:1], 0)[0][0].tolist() == names[:1]
        positions = found.find(packed[3:4], 1).positions
        assert found.records(positions[0])[0]["id"] == names[3]
    write_codes(tmp_path / "more.parquet", slice(0, 1), id=pa.array(["new"], kind))
    table = codes_to_table(tmp_path / "more.parquet", tmp_path / "all.lance", append=True)
    assert sorted(table.search_radius(packed[:1], 0)[0][0].tolist()) == ["new", names[0]]


@pytest.mark.slow
def test_a_flipped_byte_of_a_shard_is_refused_or_changes_nothing(tmp_path):
    shards = tiny_shards.open_shards(tmp_path / "codes", pa.string(), model="org/model", revision="main")
    shards.write(0, tiny_shards.rows(4, 7, 8), tiny_shards.packed(4, 7, 8))
    shards.complete()
    file = tmp_path / "codes" / "codes-00000.parquet"
    content, whole = file.read_bytes(), index_codes(tmp_path / "codes")
    kept = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            index = index_codes(tmp_path / "codes")
        except ValueError as error:
            assert "`codes` must" in str(error)  # noqa: PT017 - or the index is as it was
            continue
        kept += 1
        assert repr(index) == repr(whole)
        assert index.revision == "main"
        np.testing.assert_array_equal(index.packed, whole.packed)
        assert index.records(range(3)) == whole.records(range(3))
    assert 0 < kept < len(content) / 3  # statistics and the name of the program that wrote it


def test_codes_without_ids_are_numbered_through_all_files(tmp_path, write_codes):
    for name, rows in (("a", slice(0, 30)), ("b", slice(30, 50))):
        packed = write_codes(tmp_path / f"{name}.parquet", rows)
    for _ in range(2):  # the second one is a new version
        table = codes_to_table(tmp_path, tmp_path / "all.lance", model="org/other")
    assert sorted(table.search(packed[:1], 50)[0][0].tolist()) == list(range(50))
    assert (table.model, table.revision, table.version) == ("org/other", "", 2)


def test_codes_are_added_if_they_fit(folder, tmp_path):
    uri = tmp_path / "first.lance"
    codes_to_table(folder / "a.parquet", uri)
    assert len(codes_to_table(folder / "c.parquet", uri, append=True)) == 50
    LanceIndex.create(tmp_path / "short.lance", np.zeros((1, 1), np.uint8), model="org/model")
    for target, options, message in (
        (uri, {}, "`ids` must be new, but the table has 30 already"),
        (uri, {"model": "org/new"}, "must have the model of the table '.*first.lance', 'org/model', but got 'org/new'"),
        (tmp_path / "short.lance", {}, "`codes` must have the num_bits of the table '.*short.lance', 8, but got 32"),
    ):
        with pytest.raises(ValueError, match=message):
            codes_to_table(folder / "c.parquet", target, append=True, **options)
    with pytest.raises(FileNotFoundError, match="`uri` must be a table of codes, but there is no folder"):
        codes_to_table(folder / "c.parquet", tmp_path / "nothing.lance", append=True)


@pytest.mark.parametrize(
    ("columns", "metadata", "message"),
    [
        ({"id": [5]}, None, "`ids` must be distinct, but 5 comes twice"),
        ({"month": [1]}, None, "`codes` must be files with the same columns, but those in"),
        ({}, {"model": "other"}, r"`codes` must be codes of one model, but .*'org/model'.*'other'"),
        ({"code": pa.array([None], pa.binary(4))}, None, "`codes` must have a code in every row, but 1 have none"),
        (None, None, r"`codes` must be a parquet file that can be read, but '.*d\.parquet' is not"),
    ],
    ids=["an id twice", "other columns", "another model", "no code", "a damaged file"],
)
def test_what_goes_wrong_half_way_leaves_what_was_there(folder, columns, metadata, message, monkeypatch, write_codes):
    monkeypatch.setattr("modeling_crh.search.code_files._ROWS", 7)
    uri, last = folder / "all.lance", folder / "d.parquet"
    LanceIndex.create(uri, np.zeros((3, 4), np.uint8))
    before = sorted(path.name for path in uri.rglob("*"))
    if columns is None:
        content = (folder / "c.parquet").read_bytes()
        last.write_bytes(content[:4] + bytes(196) + content[200:])
    else:
        write_codes(last, slice(0, 1), metadata, **({"id": [50], "label": ["z"], "year": [1]} | columns))
    with pytest.raises(ValueError, match=message):
        codes_to_table(folder, uri)
    assert len(LanceIndex(uri)) == 3
    assert sorted(path.name for path in uri.rglob("*")) == before
    if "columns" not in message:  # which an index in memory does not read
        with pytest.raises(ValueError, match=message):
            index_codes(folder)


def test_codes_that_are_none_are_an_error(tmp_path, write_codes):
    file, uri = tmp_path / "codes.parquet", tmp_path / "all.lance"

    def refused(message):
        for build in (lambda: index_codes(file), lambda: codes_to_table(file, uri)):
            with pytest.raises(ValueError, match=message):
                build()

    refused("`codes` must be a parquet file, or a folder that holds some, but got")
    file.write_bytes(b"no parquet")
    refused("`codes` must be a parquet file that can be read")
    pq.write_table(pa.table({"code": ["text"]}), file)
    refused("`codes` must have a column `code` of fixed-size binary")
    write_codes(file, slice(0, 0))
    refused("`codes` must hold at least one code")
    write_codes(file, metadata={"num_bits": "64"})
    refused("`codes` must have codes of 64 bits, as its metadata says, but they have 32")
    no_utf8 = pa.array([b"\xff"] * 50)
    write_codes(file, id=pa.Array.from_buffers(pa.string(), 50, no_utf8.buffers()))
    refused("`codes` must be a parquet file that can be read")
    with pytest.raises(ValueError, match="`kind` must be auto, flat or ivf for a table, but got 'hnsw'"):
        codes_to_table(file, uri, kind="hnsw")
    assert not uri.exists()


def test_either_index_is_opened_by_its_path(tmp_path):
    packed = np.zeros((3, 2), np.uint8)
    HammingIndex(packed).save(tmp_path / "a")
    LanceIndex.create(tmp_path / "a.lance", packed, columns={"year": [1, 2, 3]})
    file, table = open_index(tmp_path / "a"), open_index(tmp_path / "a.lance")
    assert (type(file), type(table)) == (HammingIndex, LanceIndex)
    assert [len(read_index(tmp_path / name)) for name in ("a", "a.lance")] == [3, 3]
    assert (len(table.where("year > 1")), len(file)) == (2, 3)
    with pytest.raises(ValueError, match=r"`where` must be given with a table \(NAME\.lance\) only, but got 'year"):
        file.where("year > 1")
    assert sorted(lancedb.connect(tmp_path).list_tables().tables) == ["a"]


@pytest.mark.parametrize("labels", [None, ["a", None, "b"], [3, 1, 2], [["a"], [], ["b", "c"]]])
def test_an_index_that_is_published_is_the_same_index_again(labels, tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_crh.hub.published_codes.upload", lambda stage, *_, **__: stage(tmp_path))
    packed = np.random.default_rng(0).integers(0, 256, (3, 4), dtype=np.uint8)
    settings = {"labels": labels, "paths": ["a.png", "b.png", "c.png"], "model": "org/model", "dtype": "float32"}
    index = HammingIndex(packed, ids=[7, 8, 9], **settings)
    index.push_to_hub("org/codes")
    again = index_codes(tmp_path)
    np.testing.assert_array_equal(again.packed, packed)
    assert again.records(range(3)) == index.records(range(3))
    assert (again.model, again.dtype) == ("org/model", "float32")


def test_an_index_without_paths_is_not_published():
    with pytest.raises(ValueError, match="The index must have a path for every item"):
        HammingIndex(np.zeros((1, 1), np.uint8)).push_to_hub("org/codes", dry_run=True)


@pytest.mark.parametrize(
    ("num_bits", "message"),
    [
        ("16", "must be codes of 16 bits in every row, but are not"),
        ("9" * 9, "must have a column `code` of fixed-size binary"),
        ("0", "must have a column `code` of fixed-size binary"),
    ],
)
def test_codes_of_no_fixed_size_have_the_size_that_their_metadata_say(num_bits, message, tmp_path):
    table = pa.table({"code": pa.array([b"12", b"123"], pa.binary())})
    pq.write_table(table.replace_schema_metadata({"num_bits": num_bits}), tmp_path / "codes.parquet")
    with pytest.raises(ValueError, match=message):
        index_codes(tmp_path)


NOT_THERE = "or the Hub id of codes, but 'org/codes' is none: "


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ([""], ValueError, f"{NOT_THERE}it has no codes.*.parquet"),  # a folder without codes
        (httpx.ReadTimeout("too slow"), ValueError, f"{NOT_THERE}too slow"),
        (OSError(errno.ENOSPC, "No space left on device"), OSError, "No space left on device"),
    ],
)
def test_a_dataset_on_the_hub_that_cannot_be_had_is_named_and_a_full_disk_is_not(
    answer, error, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modeling_crh.search.code_files.snapshot_download", Mock(side_effect=answer))
    with pytest.raises(error, match=message):
        index_codes("org/codes")


def test_a_name_that_is_no_dataset_on_the_hub_is_an_error_in_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=NOT_THERE):
        index_codes("org/codes")
