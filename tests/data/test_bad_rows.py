import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from datasets import Dataset
from tiny_data import image_bytes, picture, write_pictures

from modeling_crh.data import load_splits, open_source
from modeling_crh.data.prepared import are_finite, find_bad_rows, numbers_of
from modeling_crh.data.rows import BadRow, read_value
from modeling_crh.encoding import Encoder, encode_source

SKIP = r"; `--skip-bad` \(`skip_bad=True`\) leaves such rows out"


@pytest.fixture
def photos(tmp_path):
    """A folder of 24 pictures, with a photo of a phone, and three files that cannot be read."""
    pillow_heif = pytest.importorskip("pillow_heif")
    write_pictures(tmp_path, 8)
    pillow_heif.register_heif_opener()
    (tmp_path / "cat" / "IMG.HEIC").write_bytes(image_bytes(picture(0, 50, 64), "HEIF", quality=90))
    (tmp_path / "cat" / "text.png").write_text("no image")
    (tmp_path / "dog" / "cut.jpg").write_bytes(image_bytes(picture(1, 51), "JPEG")[:300])
    (tmp_path / "dog" / "empty.jpg").write_bytes(b"")
    return tmp_path


@pytest.fixture(params=[PermissionError(13, "Permission denied"), OSError(5, "Input/output error"), MemoryError()])
def failing(request, tmp_path, monkeypatch):
    """A folder of twelve pictures, and a context in which the machine cannot read one of them."""
    files, read = write_pictures(tmp_path / "images", 4), Path.read_bytes

    def fail(path):
        if path == files[2]:
            raise request.param
        return read(path)

    def failure():
        stack = ExitStack()
        stack.enter_context(monkeypatch.context()).setattr(Path, "read_bytes", fail)
        stack.enter_context(pytest.raises(type(request.param)))
        return stack

    return tmp_path / "images", failure


def test_images_that_cannot_be_read_end_the_run_or_are_left_out_and_named(photos):
    with pytest.raises(ValueError, match=rf"Every row must be readable, but .*text\.png is not: no known .*{SKIP}"):
        load_splits(photos)
    loaded = load_splits(photos, skip_bad=True)
    assert [Path(bad.path).name for bad in loaded.bad_rows] == ["text.png", "cut.jpg", "empty.jpg"]
    assert all(bad.reason for bad in loaded.bad_rows)
    assert loaded.splits["database"].num_rows + loaded.splits["query"].num_rows == 25


def test_photos_of_phones_need_pillow_heif_and_are_refused_by_name_without_it(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=rf"IMG\.HEIC is not: HEIC needs pillow-heif: pip install .*\[heif\].*{SKIP}"):
        load_splits(photos)
    assert len(load_splits(photos, skip_bad=True).bad_rows) == 4


def test_a_missing_file_in_a_table_is_a_bad_row(tmp_path):
    files = write_pictures(tmp_path / "images", 8)
    lines = [f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files]
    lines[5:5] = ["images/none.png,cat", ",dog", f"{'x' * 300}.png,dog", "images/cat,eel"]
    (tmp_path / "rows.csv").write_text("\n".join(["image,label", *lines]))
    with pytest.raises(ValueError, match=rf"images/none\.png is not: No such file or directory{SKIP}"):
        load_splits(tmp_path / "rows.csv")
    bad = load_splits(tmp_path / "rows.csv", skip_bad=True).bad_rows
    assert [row.reason for row in bad] == ["No such file or directory"] * 2 + ["File name too long", "it is a folder"]
    assert [row.path.rpartition("/")[2] for row in bad][:2] == ["none.png", "rows.csv"]


@pytest.mark.parametrize(
    ("columns", "option", "reason"),
    [
        ({"text": ["fine", " \n", None] + ["x"] * 37}, "text_column", "its text is empty"),
        ({"v": [[1.0, 2.0], [float("nan"), 1.0], None] + [[0.0, 1.0]] * 37}, "features_column", "its features are not"),
        ({"v": [[[1.0], [2.0]], [[1.0], [float("inf")]], None] + [[[0.0], [1.0]]] * 37}, "features_column", "its feat"),
        ({"v": [[1.0], [1e300], None] + [[2.0]] * 37}, "features_column", "its features are not finite"),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", ""])
@pytest.mark.filterwarnings("ignore:overflow")
def test_what_says_nothing_is_named_by_the_row_of_its_file(tmp_path, columns, option, reason, suffix):
    table = Dataset.from_dict(columns | {"label": ["a", "b"] * 20})
    path = tmp_path / f"rows.{suffix}"
    (table.to_parquet if suffix else table.save_to_disk)(str(path))
    options = {option: next(iter(columns))}
    with pytest.raises(ValueError, match=rf"Every row must be readable, but row 1 of {path} is not: {reason}.*{SKIP}"):
        load_splits(path, **options)
    loaded = load_splits(path, **options, skip_bad=True)
    assert [bad.path for bad in loaded.bad_rows] == [f"row 1 of {path}", f"row 2 of {path}"]
    assert loaded.bad_rows[0].reason.startswith(reason)
    assert loaded.bad_rows[1].reason == "it is missing"
    assert loaded.splits["database"].num_rows + loaded.splits["query"].num_rows == 38


def test_failures_of_the_machine_end_the_run_however_bad_rows_are_treated(failing):
    folder, failure = failing
    with failure():
        load_splits(folder, skip_bad=True)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_failures_of_the_machine_leave_no_hole_in_codes(failing, tmp_path, tiny_checkpoint, num_workers):
    folder, failure = failing

    def encode():
        encoder = Encoder.load(tiny_checkpoint, batch_size=2, num_workers=num_workers)
        settings = {"model_name": "tiny", "shard_size": 3, "skip_bad": True}
        return encode_source(encoder, open_source(folder), tmp_path / "codes", **settings)

    with failure():
        encode()
    encoded = encode()
    assert (encoded.items, encoded.left_out) == (12, [])


def test_a_table_that_may_not_be_read_ends_the_run_with_that_error(tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("text,label\nx,a\n")
    source = open_source(tmp_path / "rows.csv", text_column="text")
    monkeypatch.setattr("pyarrow.csv.open_csv", Mock(side_effect=PermissionError(13, "Permission denied", "rows.csv")))
    with pytest.raises(PermissionError):
        list(source.rows())
    with pytest.raises(PermissionError):
        open_source(tmp_path / "rows.csv", text_column="text", skip_bad=True)


def test_nothing_that_can_be_read_or_a_class_without_such_an_item_is_an_error(tmp_path):
    files = write_pictures(tmp_path, 4)
    for number, message in (
        (4, "a training item of every class, but has none of 'cat'"),
        (12, "at least one row that can be read, but none of 12 can"),
    ):
        for file in files[:number]:
            file.write_bytes(b"no image")
        with pytest.raises(ValueError, match=message):
            load_splits(tmp_path, skip_bad=True)


def test_rows_are_numbered_across_blocks():
    rows = Dataset.from_dict({"text": ["" if row in (1030, 2099) else "fine" for row in range(2100)]})
    places = [f"row {row}" for row in range(2100)]
    expected = {row: BadRow(f"row {row}", "its text is empty") for row in (1030, 2099)}
    assert find_bad_rows("text", rows, places) == expected
    assert list(find_bad_rows("text", rows, places, stop_at_first=True)) == [1030]


@pytest.mark.parametrize(
    ("rows", "shape"),
    [
        ([[1, 2], [3, 4]], (2, 2)),
        ([[[1.0], [2.0]], [[3.0], [4.0]]], (2, 2, 1)),
        *((rows, None) for rows in ([[1.0], [2.0, 3.0]], [[1.0], None], [[1.0], [None]], [[], []])),
        *((rows, None) for rows in ([["x"], ["y"]], [1.0, 2.0], [[[[1.0]]]])),
    ],
)
def test_a_column_of_numbers_of_one_shape_is_read_at_once(rows, shape):
    numbers = numbers_of(Dataset.from_dict({"features": rows}).with_format("arrow")[:]["features"])
    assert (numbers is None) == (shape is None) == (not are_finite(numbers))
    if shape is not None:
        assert np.array_equal(numbers, np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("text", 5, "`text` must be a string, but row 7 has 5"),
        ("features", ["x"], "`features` must hold numbers of one shape, but row 7 does not"),
        ("features", [[1.0], [2.0, 3.0]], "`features` must hold numbers of one shape, but row 7 does not"),
        ("features", [], r"`features` must hold \(F,\) or \(V, F\) numbers a row, but row 7 has \(0,\)"),
        ("features", 1.5, r"numbers a row, but row 7 has \(\)"),
        ("image", 5, "`image` must be a path, a URL, bytes, base64 text, a PIL image or an array, but got int"),
    ],
)
def test_a_value_of_another_type_is_no_bad_row_but_an_error(kind, value, message):
    with pytest.raises(ValueError, match=message):
        read_value(kind, value, "row 7")
