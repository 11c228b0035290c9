import hashlib

import pytest

from modeling_crh.data.benchmarks.official_files import find_file, read_checked, require_images, unpacked_folder


def test_the_first_place_where_a_file_lies_is_taken(tmp_path):
    (tmp_path / "b").write_text("b")
    assert find_file(tmp_path, "a", "b") == tmp_path / "b"
    (tmp_path / "a").write_text("a")
    assert find_file(tmp_path, "a", "b") == tmp_path / "a"


def test_a_file_that_lies_nowhere_is_an_error_that_names_all_places(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"`data_dir` must hold a or c/b, but .*a does not exist"):
        find_file(tmp_path, "a", "c/b")


def test_the_folder_of_an_archive_may_be_given_or_the_one_around_it(tmp_path):
    (tmp_path / "birds").mkdir()
    assert unpacked_folder(tmp_path, "birds") == unpacked_folder(tmp_path / "birds", "birds") == tmp_path / "birds"


def test_a_file_with_its_checksum_is_read_and_any_other_is_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    md5 = hashlib.md5(b"content").hexdigest()
    assert read_checked(path, md5) == b"content"
    path.write_bytes(b"contents")
    with pytest.raises(ValueError, match=rf"file must have the official MD5 checksum {md5}, but has 98bf7d8c15784f0a"):
        read_checked(path, md5)


def test_missing_and_empty_images_are_counted_and_the_first_is_named(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    images = [tmp_path / name for name in "abc"]
    require_images(images)
    (tmp_path / "b").unlink()
    with pytest.raises(ValueError, match=r"`data_dir` must hold every annotated image, but .*b is missing or empty"):
        require_images(images)
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(ValueError, match=r"but .*b and 1 more are missing or empty"):
        require_images(images)
