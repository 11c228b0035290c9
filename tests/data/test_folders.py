import json
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Image
from tiny_data import CLASSES, picture, read_both, write_pictures

from modeling_crh.data import label_names, label_tensor, load_splits, open_source


def add(root, name):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    picture(0, 90).save(root / name)


def test_the_class_is_the_first_folder_at_any_depth_and_what_is_passed_over_is_counted(tmp_path, capsys):
    write_pictures(tmp_path)
    add(tmp_path, "cat/batch 2/2023-07/extra.JPG")
    (tmp_path / "cat" / "notes.txt").write_text("about")
    (tmp_path / "cat" / "scan.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (tmp_path / "dog" / "README").write_text("about")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "empty class").mkdir()
    assert read_both(tmp_path) == ["cat"] * 5 + ["dog"] * 4 + ["eel"] * 4
    said = capsys.readouterr().err.splitlines()
    counted = ".pdf files (1), .txt files (1), README (1), Thumbs.db (1), folders without an image (1), "
    counted += "hidden files and folders (2)"
    assert said == [f"Passed over in {tmp_path}: {counted}."] * 2


def test_rows_are_the_images_in_the_order_of_their_paths_and_nothing_is_said_of_them(tmp_path, capsys):
    files = write_pictures(tmp_path, 2)
    assert read_both(str(tmp_path)) == ["cat", "cat", "dog", "dog", "eel", "eel"]
    rows = list(open_source(tmp_path).rows())
    assert [(row.id, row.path) for row in rows] == list(enumerate(map(str, files)))
    assert rows[3].value == {"bytes": None, "path": str(files[3])}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val", None])
@pytest.mark.parametrize("test", ["test", "query", None])
def test_folders_named_as_splits_are_the_division(tmp_path, validation, test):
    parts = {"validation": validation, "query": test, "train": "train"}
    named = {part: name for part, name in parts.items() if name}
    for name in named.values():
        write_pictures(tmp_path / name, 8)
    splits = load_splits(tmp_path).splits
    assert label_names(splits["train"]) == list(CLASSES)
    for part, name in named.items():
        paths = splits[part].cast_column("image", Image(decode=False))["image"]
        assert all(f"/{name}/" in image["path"] for image in paths)
    if validation and test:
        assert splits.num_rows == {"train": 24, "validation": 24, "query": 24, "database": 48}
    assert len(read_both(tmp_path)) == 24 * len(named)


def test_two_folders_of_one_part_are_an_error(tmp_path):
    for name in ("train", "val", "validation"):
        write_pictures(tmp_path / name, 1)
    with pytest.raises(ValueError, match=r"`dataset` must have one folder a split, but .* has val and validation"):
        open_source(tmp_path)


def test_images_beside_the_splits_are_counted_and_other_folders_make_them_classes(tmp_path, capsys):
    write_pictures(tmp_path / "train", 1)
    write_pictures(tmp_path / "test", 1)
    add(tmp_path, "loose.png")
    assert read_both(tmp_path, split="test") == list(CLASSES)
    assert "images outside of the splits (1)" in capsys.readouterr().err
    add(tmp_path, "car/1.png")
    assert read_both(tmp_path) == ["car", None] + ["test"] * 3 + ["train"] * 3


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_metadata_names_the_classes_and_folders_do_not(tmp_path, kind, capsys):
    rows = [{"file_name": f"batch{n % 2}/{n:02d}.png", "label": CLASSES[n % 3], "note": "x,\u2028y"} for n in range(12)]
    for row in rows:
        add(tmp_path, row["file_name"])
    lines = {
        "csv": ["\ufefffile_name,label,note", *(f'{row["file_name"]},{row["label"]},"{row["note"]}"' for row in rows)],
        "jsonl": [*(json.dumps(row, ensure_ascii=False) + "\r" for row in rows), "", ""],
    }
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    else:
        (tmp_path / f"metadata.{kind}").write_text("\n".join(lines[kind]), encoding="utf-8", newline="")
    assert read_both(tmp_path) == list(CLASSES) * 4
    assert read_both(tmp_path, label_column="note") == ["x,\u2028y"] * 12
    add(tmp_path, "batch0/unlisted.png")
    assert len(read_both(tmp_path)) == 12
    assert "images that no metadata lists (1)" in capsys.readouterr().err


def test_one_metadata_file_may_list_all_splits_or_each_split_have_its_own(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    lines = [f"batch/{number:02d}.png,{CLASSES[number % 2]}\n" for number in range(4)]
    for part in ("train", "test"):
        write_pictures(one / part, 4, classes=("batch",))
        write_pictures(two / part, 4, classes=("batch",))
        (two / part / "metadata.csv").write_text("".join(["file_name,label\n", *lines]))
    below = [f"{part}/{line}" for part in ("train", "test") for line in lines]
    (one / "metadata.csv").write_text("".join(["file_name,label\n", *below]))
    for folder in (one, two):
        assert read_both(folder) == ["cat", "dog"] * 4
        assert set(open_source(folder).parts) == {"train", "query"}


def test_labels_of_metadata_are_lists_or_none_and_cells_are_text(tmp_path):
    names = [f"batch/{file.name}" for file in write_pictures(tmp_path, 4, classes=("batch",))]
    rows = [
        {"file_name": name, "label": label} for name, label in zip(names, [["b", "a"], ["a"], [], None], strict=True)
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_both(tmp_path) == [["a", "b"], ["a"], [], []]
    (tmp_path / "metadata.jsonl").unlink()
    lines = [f"{name},{cell}" for name, cell in zip(names, ["007", "NA", "", "010"], strict=True)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    assert read_both(tmp_path) == ["007", "NA", None, "010"]


ONE = '{"file_name": "1.png", "label": 1}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "must list at least one image, but lists none"),
        ("no json", r"Every line must be one JSON object, but line 1 of .*metadata\.jsonl is not"),
        ('\n{"label": "a"}', r'Every row must have a "file_name", but line 2 of .* is {.label.: .a.}'),
        ("[1]", r"Every line must be one JSON object, but line 1 of .* is \[1\]"),
        (f'{ONE}\n{{"file_name": "a/3.png", "label": [1]}}', "must hold values of one type a column, but do not"),
        (f'{ONE}\n{{"file_name": "a/3.png", "label": "a"}}', "must hold values of one type a column, but do not"),
        (f'{ONE}\n\n{{"file_name": "a/../1.png"}}', r"line 3 of .* names 'a/\.\./1\.png' as line 1 of .* does"),
        ('{"file_name": "../2.png"}', r"Every row must name a file in .*, but line 1 .* names '\.\./2\.png'"),
        ('{"file_name": "/etc/hosts"}', "must name a file in .*, but line 1 of .* names '/etc/hosts'"),
        ('{"file_name": ""}', "must name a file in .*, but line 1 of .* names ''"),
        (json.dumps({"file_name": "1.png", "label": 2**70}), "must hold values of one type a column, but do not"),
        ('{"file_name": "1.png", "label": "\\ud800"}', "must hold values of one type a column, but do not"),
        ('{"file_name": "\\udcff.png"}', r"The path of every file must be in UTF-8, but .*\\udcff\.png' is not"),
        ("[" * 100_000, "Every line must be one JSON object, but line 1 of .* is not: maximum recursion depth"),
    ],
)
def test_metadata_that_is_no_good_is_an_error_that_names_the_line(tmp_path, lines, message):
    add(tmp_path, "1.png")
    add(tmp_path, "a/3.png")
    (tmp_path / "metadata.jsonl").write_text(lines)
    with pytest.raises(ValueError, match=message):
        read_both(tmp_path)


def test_metadata_of_other_cells_or_another_encoding_or_twice_is_an_error(tmp_path):
    add(tmp_path, "1.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\n1.png,a,b\n")
    with pytest.raises(ValueError, match=r"Every row must have 2 cells, but line 2 of .*metadata\.csv has more"):
        open_source(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,label\n1.png,\u00e9\n", encoding="latin-1")
    with pytest.raises(ValueError, match=r"metadata\.csv must be text in UTF-8, but is not: "):
        open_source(tmp_path)
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{tmp_path / '1.png'},a\n")
    assert [row.path for row in open_source(tmp_path).rows()] == [str(tmp_path / "1.png")]
    (tmp_path / "metadata.jsonl").write_text(ONE)
    with pytest.raises(ValueError, match=r"line 1 of .*jsonl names '1\.png' as line 2 of .*metadata\.csv does"):
        open_source(tmp_path)


def test_links_are_followed_and_loops_pipes_and_broken_links_passed_over(tmp_path, capsys):
    root = tmp_path / "root"
    write_pictures(root, 2, classes=("cat",))
    write_pictures(tmp_path / "store", 2, classes=("eel",))
    (root / "eel").symlink_to("../store/eel")
    (root / "cat" / "again.png").symlink_to("00.png")
    (root / "cat" / "loop").symlink_to("..", target_is_directory=True)
    (root / "cat" / "self.png").symlink_to("self.png")
    (root / "cat" / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(root / "cat" / "pipe.png")
    assert read_both(root) == ["cat"] * 3 + ["eel"] * 2
    counted = "broken links (2), links that lead back to a folder above them (1), pipes, sockets or devices (1)"
    assert capsys.readouterr().err.splitlines()[0] == f"Passed over in {root}: {counted}."


@pytest.mark.skipif(sys.platform != "linux", reason="other systems decode the names of files")
def test_a_file_name_that_is_no_unicode_is_an_error_that_names_it(tmp_path):
    write_pictures(tmp_path, 1)
    os.rename(tmp_path / "cat" / "00.png", os.fsencode(tmp_path / "cat") + b"/\xff.png")
    with pytest.raises(ValueError, match=r"The path of every file must be in UTF-8, but 'cat/\\udcff\.png' is not"):
        open_source(tmp_path)


def test_a_folder_that_may_not_be_read_ends_the_run(tmp_path, monkeypatch):
    write_pictures(tmp_path, 1)
    scan = os.scandir

    def denied(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="dog"):
        open_source(tmp_path, skip_bad=True)


def test_a_relative_path_outlives_a_change_of_the_working_directory(tmp_path, monkeypatch):
    write_pictures(tmp_path / "photos", 8)
    monkeypatch.chdir(tmp_path)
    splits, source = load_splits("photos").splits, open_source("photos")
    monkeypatch.chdir("/")
    assert splits["train"][0]["image"].size == (16, 16)
    assert next(source.rows()).path == str(tmp_path / "photos" / "cat" / "00.png")


def test_queries_and_validation_are_cut_in_the_shares_that_are_asked_for(tmp_path):
    write_pictures(tmp_path, 20)
    splits = load_splits(tmp_path, validation_fraction=0.25, query_fraction=0.2, seed=3).splits
    assert splits.num_rows == {"train": 36, "validation": 12, "query": 12, "database": 48}
    assert label_tensor(splits["query"]).bincount().tolist() == [4, 4, 4]
    for row in splits["train"]:
        assert int(max(range(3), key=lambda channel: row["image"].getpixel((0, 0))[channel])) == row["label"]


def test_a_folder_without_labels_is_encoded_and_not_trained_on(tmp_path):
    add(tmp_path, "1.png")
    assert [row.label for row in open_source(tmp_path).rows()] == [None]
    with pytest.raises(ValueError, match=r"Training needs labels, but the images of .* have none: put them into"):
        load_splits(tmp_path)


def test_an_empty_folder_and_a_test_class_of_its_own_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"must hold images, sounds or tables, but the folder '.*' holds none"):
        load_splits(tmp_path)
    write_pictures(tmp_path / "train", 8)
    write_pictures(tmp_path / "test", 8, classes=("cat", "fox"))
    with pytest.raises(ValueError, match=r"one of the classes of the training set, but row 8 .* has 'fox'"):
        load_splits(tmp_path)
