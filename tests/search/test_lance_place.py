import lancedb
import numpy as np
import pyarrow as pa
import pytest

from modeling_crh.search.code_index import is_table_uri
from modeling_crh.search.lance_index import LanceIndex
from modeling_crh.search.lance_table import LancePlace, one_sentence

PACKED = np.zeros((3, 2), np.uint8)


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("a.lance", ".", "a"),
        ("./b/a.lance/", "./b", "a"),
        ("/a-b.c.lance", "/", "a-b.c"),
        ("s3://bucket/a.lance", "s3://bucket", "a"),
        ("s3://bucket/deep/er/a_1.lance", "s3://bucket/deep/er", "a_1"),
    ],
)
def test_a_uri_is_a_folder_and_a_name(uri, folder, name):
    place = LancePlace.of(uri)
    assert (place.folder, place.name, place.local_path is None) == (folder, name, uri.startswith("s3"))
    assert is_table_uri(uri.rstrip("/"))


@pytest.mark.parametrize("uri", ["", "a", ".lance", "a/.lance", "a b.lance", "s3://bucket", "s3://a.lance", "s3://b/c"])
def test_another_uri_is_an_error(uri):
    with pytest.raises(ValueError, match=r"`uri` must be FOLDER/NAME\.lance, with letters, digits"):
        LancePlace.of(uri)


def test_opening_makes_no_folder(tmp_path):
    for uri in (tmp_path / "a.lance", tmp_path / "nowhere" / "a.lance"):
        with pytest.raises(FileNotFoundError, match="`uri` must be a table of codes, but there is no folder"):
            LanceIndex(uri)
    with pytest.raises(FileNotFoundError, match="`uri` must be in a folder that exists, but got"):
        LanceIndex.create(tmp_path / "nowhere" / "a.lance", PACKED)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_table_of_codes_is_neither_opened_nor_replaced(tmp_path):
    (tmp_path / "empty.lance").mkdir()
    (tmp_path / "file.lance").write_text("text")
    (tmp_path / "notes.lance").mkdir()
    (tmp_path / "notes.lance" / "a.txt").write_text("text")
    lancedb.connect(tmp_path).create_table("other", pa.table({"id": [1]}))
    for name, opening, writing in (
        ("file", "there is no folder", "must be new, or a table of codes, but .* is something else"),
        ("notes", "must be a table that can be read", "must be new, or a table of codes, but .* is something else"),
        ("other", "is another table", "is another table"),
        ("empty", "must be a table that can be read", None),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=opening):
            LanceIndex(tmp_path / f"{name}.lance")
        if writing is not None:
            with pytest.raises(ValueError, match=writing):
                LanceIndex.create(tmp_path / f"{name}.lance", PACKED, replace=True)
    assert len(lancedb.connect(tmp_path).open_table("other")) == 1


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"crh_format": "2", "num_bits": "16"}, "must be a table of format version 1, but .* is of version 2"),
        ({"crh_format": "1", "num_bits": "32"}, "must be a table of ids and codes of 32 bits, but .* is not one"),
        ({"crh_format": "1", "num_bits": "many"}, "must be a table of ids and codes"),
    ],
)
def test_another_format_is_an_error(tmp_path, metadata, message):
    codes = pa.FixedSizeListArray.from_arrays(pa.array(PACKED.reshape(-1)), 2)
    table = pa.table({"id": [1, 2, 3], "code": codes}).replace_schema_metadata(metadata)
    lancedb.connect(tmp_path).create_table("codes", table)
    with pytest.raises(ValueError, match=message):
        LanceIndex(tmp_path / "codes.lance")


def test_a_damaged_table_gets_one_sentence(tmp_path):
    uri = tmp_path / "codes.lance"
    LanceIndex.create(uri, PACKED)
    for file in uri.glob("data/*"):
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match="`uri` must be a table that can be read and written, but"):
        LanceIndex(uri).search(PACKED)


def test_what_a_killed_write_has_left_is_no_hindrance(tmp_path):
    uri = tmp_path / "codes.lance"
    (uri / "data").mkdir(parents=True)
    (uri / "data" / "half.lance").write_bytes(b"half")
    assert len(LanceIndex.create(uri, PACKED)) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("IO { Failed to get AWS credentials: kind: Connect }", "there are no credentials for the o"),
        ("Generic { inner: Status { status: 403, body: None } }", "the object store denies access"),
        ("HttpError { kind: Timeout, source: x }", "the object store does not answer"),
        ("Invalid input, No object store\nfor ftp, /build/x-1.0/src/a.rs:23:88", "No object store for ftp"),
        ("word " * 100, ("word " * 40).strip()),
    ],
)
def test_what_a_store_says_is_told_in_a_few_words(text, reason):
    with (
        pytest.raises(ValueError, match=f"^`uri` must be there, but 's3://a/b.lance' is not: {reason}"),
        one_sentence("uri", "there", "s3://a/b.lance"),
    ):
        raise RuntimeError(text)


@pytest.mark.parametrize("kind", [MemoryError, NotImplementedError, KeyError])
def test_what_is_no_error_of_the_library_stays_what_it_is(kind):
    with pytest.raises(kind), one_sentence("uri", "there", "s3://a/b.lance"):
        raise kind
