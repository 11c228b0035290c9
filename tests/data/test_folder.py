import json
import os
import sys

import pytest
from datasets import Image

from modeling_crh.data.columns import count_unlabelled, is_multi_label, label_names, label_tensor
from modeling_crh.data.folder import load_folder
from modeling_crh.encoding.items import ImageDataset


@pytest.fixture
def class_folders(tmp_path, write_image):
    """Ten images each of two classes, with files that a desktop leaves behind."""
    for name in ("dog", "cat"):
        for seed in range(10):
            write_image(tmp_path / name / f"{seed}.png", seed)
        (tmp_path / name / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "README.txt").write_text("about")
    return tmp_path


def write_metadata(folder, write_image, labels):
    lines = []
    for number, label in enumerate(labels):
        write_image(folder / "files" / f"{number}.png", number)
        lines.append(json.dumps({"file_name": f"files/{number}.png", "label": label}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def files(split):
    return [image["path"] for image in split.cast_column("image", Image(decode=False))["image"]]


def test_each_sub_folder_is_a_class_and_queries_and_validation_are_cut(class_folders):
    splits, bad = load_folder(class_folders, validation_fraction=0.25)
    assert splits.num_rows == {"train": 12, "validation": 4, "query": 4, "database": 16}
    assert label_names(splits["train"]) == ["cat", "dog"]
    assert label_tensor(splits["query"]).bincount().tolist() == [2, 2]
    assert bad == []
    for path, label in zip(files(splits["train"]), label_tensor(splits["train"]), strict=True):
        assert f"/{['cat', 'dog'][label]}/" in path.replace("\\", "/")


@pytest.mark.parametrize("test_folder", ["test", "query"])
def test_train_and_test_folders_are_the_official_division(tmp_path, write_image, test_folder):
    for part, count in [("train", 5), (test_folder, 2)]:
        for name in ("b", "a"):
            for seed in range(count):
                write_image(tmp_path / part / name / f"{seed}.jpg", seed)
    splits, _ = load_folder(tmp_path, validation_fraction=0.2)
    assert splits.num_rows == {"train": 8, "validation": 2, "query": 4, "database": 10}
    assert all(f"/{test_folder}/" in path for path in files(splits["query"]))


def test_metadata_gives_each_image_a_list_of_labels_which_may_be_empty(tmp_path, write_image):
    write_metadata(tmp_path, write_image, [["dog", "cat"], ["cat"], [], ["dog"]] * 5)
    splits, _ = load_folder(tmp_path)
    assert is_multi_label(splits["train"])
    assert label_names(splits["train"]) == ["cat", "dog"]
    assert count_unlabelled(splits["database"]) == 4
    assert splits.num_rows["query"] == 4


def test_metadata_gives_each_image_one_label_and_unlisted_files_are_not_read(tmp_path, write_image):
    write_metadata(tmp_path, write_image, [0, 1] * 10)
    (tmp_path / "files" / "unlisted.txt").write_text("not an image")
    splits, _ = load_folder(str(tmp_path))
    assert not is_multi_label(splits["train"])
    assert sum(splits.num_rows[name] for name in ("train", "validation", "query")) == 20


def test_a_relative_path_outlives_a_change_of_the_working_directory(class_folders, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(class_folders.parent)
    splits, _ = load_folder(class_folders.name)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert splits["train"][0]["image"].size == (10, 8)


def test_bad_images_are_left_out_and_listed_where_asked_for(class_folders):
    (class_folders / "cat" / "broken.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"cat.broken\.png is not: no known image format"):
        load_folder(class_folders)
    splits, bad = load_folder(class_folders, skip_bad_images=True)
    assert [image.path for image in bad] == [str(class_folders / "cat" / "broken.png")]
    assert splits.num_rows["database"] + splits.num_rows["query"] == 20


def test_a_class_whose_images_are_all_bad_is_an_error(class_folders):
    (class_folders / "emu").mkdir()
    (class_folders / "emu" / "broken.png").write_text("not an image")
    with pytest.raises(ValueError, match="a training item of every class, but has none of 'emu'"):
        load_folder(class_folders, skip_bad_images=True)


def add_empty_class(root, write_image):
    (root / "emu").mkdir()


def add_nested_folder(root, write_image):
    write_image(root / "cat" / "more" / "1.png")


def add_loose_image(root, write_image):
    write_image(root / "loose.PNG")


def keep_one_class(root, write_image):
    for file in (root / "dog").iterdir():
        file.unlink()
    (root / "dog").rmdir()


def drop_all_classes(root, write_image):
    keep_one_class(root, write_image)
    (root / "cat").rename(root / ".cat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_empty_class, r"emu must hold an image of the class 'emu', but is empty"),
        (add_nested_folder, r"cat must hold only images, but holds the folder 'more'"),
        (add_loose_image, r"images in one sub-folder a class, but loose\.PNG lies outside of them"),
        (keep_one_class, r"at least two classes, but has only \['cat'\]"),
        (drop_all_classes, r"must hold one sub-folder a class, or a metadata\.jsonl, but holds neither"),
    ],
)
def test_another_layout_is_an_error_that_names_the_folder(class_folders, write_image, change, message):
    change(class_folders, write_image)
    with pytest.raises(ValueError, match=message):
        load_folder(class_folders)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "must list at least one image, but lists none"),
        ("no json", r"Line 1 of .*metadata\.jsonl must be one JSON object, but is not"),
        ('\n{"label": "a"}', r'Line 2 of .* must have a "file_name" and a "label", but is {"label": "a"}'),
        ('{"file_name": "1.png"}', 'must have a "file_name" and a "label"'),
        ("[1]", 'must have a "file_name" and a "label"'),
        ('{"file_name": "2.png", "label": "a"}', r"Line 1 of .* must name a file, but .*2\.png does not exist"),
        ('{"file_name": "1.png", "label": null}', "as whole numbers or strings, but gives None"),
        ('{"file_name": "1.png", "label": [0.5]}', r"as whole numbers or strings, but gives 0\.5"),
        ('{"file_name": "1.png", "label": 1}\n{"file_name": "a/3.png", "label": [1]}', "but mixes the two"),
        ('{"file_name": "1.png", "label": 1}\n{"file_name": "a/3.png", "label": "a"}', "but gives int and str"),
        (
            '{"file_name": "1.png", "label": 1}\n\n{"file_name": "a/../1.png", "label": 1}',
            r"Line 3 of .* must name a file of its own, but 'a/\.\./1\.png' is that of line 1",
        ),
        ('{"file_name": "../2.png", "label": 1}', r"must name a file in .*, but '\.\./2\.png' lies outside of it"),
        ('{"file_name": "/etc/hosts", "label": 1}', "must name a file in .*, but '/etc/hosts' lies outside of it"),
        ('{"file_name": "a", "label": 1}', r"Line 1 of .* must name a file, but .*a is a folder\."),
        ('{"file_name": "", "label": 1}', r"must name a file, but .* is a folder\."),
        (json.dumps({"file_name": "x" * 5000, "label": 1}), r"must name a file, but .*x does not exist"),
        (
            json.dumps({"file_name": "1.png", "label": 2**70}),
            r"labels of at most 64 bits, but gives 1180591620717411303424",
        ),
        ('{"file_name": "1.png", "label": ' + "9" * 5000 + "}", "Line 1 of .* must be one JSON object, but is not"),
        ('{"file_name": "1.png", "label": "\\ud800"}', r"labels that are whole Unicode, but gives '\\ud800'"),
        ("[" * 100_000, "Line 1 of .* must be one JSON object, but is not: maximum recursion depth"),
    ],
)
def test_a_line_of_metadata_that_is_no_good_is_an_error_that_names_it(tmp_path, write_image, lines, message):
    write_image(tmp_path / "1.png")
    write_image(tmp_path / "a" / "3.png")
    (tmp_path / "metadata.jsonl").write_text(lines)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_metadata_of_windows_and_labels_with_a_line_separator_are_read(tmp_path, write_image, encoding):
    files = [write_image(tmp_path / f"{number}.png", number).name for number in range(20)]
    rows = [{"file_name": file, "label": "a\u2028b" if row % 2 else "\u00e9"} for row, file in enumerate(files)]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "metadata.jsonl").write_bytes(text.encode(encoding))
    assert label_names(load_folder(tmp_path)[0]["train"]) == ["a\u2028b", "\u00e9"]


def test_metadata_in_another_encoding_is_an_error(tmp_path, write_image):
    write_metadata(tmp_path, write_image, [0, 1])
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "files/0.png", "label": "\u00e9"}', encoding="latin-1")
    with pytest.raises(ValueError, match=r"metadata\.jsonl must be text in UTF-8, but is not: "):
        load_folder(tmp_path)


def test_an_absolute_path_within_the_folder_is_as_good_as_a_relative_one(tmp_path, write_image):
    files = [write_image(tmp_path / f"{number}.png", number) for number in range(20)]
    rows = [{"file_name": str(file), "label": row % 2} for row, file in enumerate(files)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_folder(tmp_path)[0].num_rows["query"] == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_an_error_and_not_waited_for(class_folders):
    os.mkfifo(class_folders / "cat" / "pipe.png")
    with pytest.raises(
        ValueError, match=r"cat must hold only images, but holds the pipe, socket or device 'pipe\.png'"
    ):
        load_folder(class_folders)
    (class_folders / "metadata.jsonl").write_text('{"file_name": "cat/pipe.png", "label": 1}')
    with pytest.raises(ValueError, match=r"must name a file, but .*pipe\.png is a pipe, socket or device"):
        load_folder(class_folders)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems decode the names of files")
def test_a_file_name_that_is_no_unicode_is_an_error_that_names_it(class_folders):
    name = os.fsencode(class_folders / "cat") + b"/\xff.png"
    os.rename(class_folders / "cat" / "0.png", name)
    with pytest.raises(ValueError, match=r"The path of every image must be in UTF-8, but '.*cat/\\udcff\.png' is not"):
        load_folder(class_folders)


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "notes.txt"])
def test_what_a_desktop_leaves_behind_is_named_with_the_way_to_leave_it_out(class_folders, name):
    (class_folders / "cat" / name).write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(
        ValueError, match=rf"{name} is not: no known image format; `skip_bad_images=True` .*leaves it out"
    ):
        load_folder(class_folders)
    assert [image.path for image in load_folder(class_folders, skip_bad_images=True)[1]] == [
        str(class_folders / "cat" / name)
    ]


def test_a_test_class_without_training_images_is_an_error(tmp_path, write_image):
    for file in ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"):
        write_image(tmp_path / file)
    with pytest.raises(ValueError, match=r"c.1\.png' has 'c'"):
        load_folder(tmp_path)


@pytest.mark.parametrize("path", ["", None, 5, b"images"])
def test_what_is_no_path_is_an_error(path):
    with pytest.raises(ValueError, match=f"`path` must be a path, and not empty, but got {path!r}"):
        load_folder(path)


def test_a_broken_link_is_an_error(class_folders):
    (class_folders / "cat" / "link.png").symlink_to(class_folders / "nowhere.png")
    with pytest.raises(ValueError, match=r"cat must hold only images, but holds the broken link 'link\.png'"):
        load_folder(class_folders)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1.5}, "`seed` must be a whole number, 0 or larger, but got 1.5"),
        ({"query_fraction": "x"}, "`query_fraction` must be a number above 0 and below 1, but got 'x'"),
        ({"validation_fraction": None}, "`validation_fraction` must be a number above 0 and below 1, but got None"),
    ],
)
def test_a_setting_of_another_type_is_an_error(class_folders, settings, message):
    with pytest.raises(ValueError, match=message):
        load_folder(class_folders, **settings)


def test_what_is_no_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must be a folder, but got '.*nowhere'"):
        load_folder(tmp_path / "nowhere")


def test_a_folder_of_photographs_can_be_trained_on(class_folders):
    from transformers import ViTImageProcessor

    splits, _ = load_folder(class_folders)
    processor = ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True)
    images = ImageDataset(splits["train"], processor, augment="standard")
    assert images[0]["pixel_values"].shape == (3, 16, 16)
