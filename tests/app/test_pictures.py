import pyarrow as pa
import pytest

from modeling_crh.app.finder import folder_pictures, stored_pictures
from modeling_crh.hub.space import store_pictures


def test_stored_pictures_are_those_of_the_folder(index, image_root, tmp_path):
    assert store_pictures(tmp_path / "pictures", index, image_root) == 60
    stored, fresh = stored_pictures(tmp_path / "pictures"), folder_pictures(image_root, index)
    for position in (0, 1, 59):
        assert stored(position, None) == fresh(position, f"{position:02d}.png")
    assert stored(60, None).uri == fresh(0, None).uri == fresh(0, "../../etc/passwd").uri == ""


def test_pictures_that_are_missing_stay_missing(index, image_root, tmp_path):
    part = tmp_path / "part"
    part.mkdir()
    moved = type(index)(index.packed, paths=[f"{number:02d}.png" for number in range(60)])
    (part / "07.png").write_bytes((image_root / "07.png").read_bytes())
    (part / "08.png").write_bytes(b"no image")
    assert store_pictures(tmp_path / "pictures", moved, part) == 1
    stored = stored_pictures(tmp_path / "pictures")
    assert [position for position in range(60) if stored(position, None).uri] == [7]


def test_more_pictures_than_a_space_should_hold_are_refused(index, image_root, tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_crh.hub.space.MAX_PICTURES", 59)
    with pytest.raises(ValueError, match="`image_root` must be left out for a Space of more than 59 items, but got 60"):
        store_pictures(tmp_path / "pictures", index, image_root)
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("content", [None, b"", b"no table", "other columns"])
def test_what_is_no_file_of_pictures_is_refused(content, tmp_path):
    file = tmp_path / "pictures"
    if content == "other columns":
        table = pa.table({"picture": ["a"]})
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="`pictures` must be a file of stored thumbnails, but"):
        stored_pictures(file)
