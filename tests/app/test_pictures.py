import PIL.Image
import pyarrow as pa
import pytest

from modeling_crh.app.finder import folder_pictures, no_pictures, stored_pictures
from modeling_crh.hub.published import store_pictures


@pytest.fixture
def root(tmp_path):
    """A folder of one image, beside another image that is none of its business."""
    PIL.Image.new("RGB", (4, 4), "red").save(tmp_path / "secret.png")
    folder = tmp_path / "root"
    folder.mkdir()
    PIL.Image.new("RGB", (4, 4), "blue").save(folder / "own.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path)
    return folder


def test_pictures_come_from_the_folder(root):
    pictures = folder_pictures(root)
    for path in ("own.png", str(root / "own.png"), "../root/own.png"):
        assert pictures(0, path).uri.startswith("data:image/png;base64,")
    assert pictures(0, None).uri == no_pictures(0, "own.png").uri == ""


@pytest.mark.parametrize(
    "path", ["../secret.png", "link.png", "up/secret.png", "/etc/passwd", "nothing.png", ".", "own.png\0", "a" * 9999]
)
def test_no_path_leads_out_of_the_folder(root, path):
    assert folder_pictures(root)(0, path).uri == ""
    assert folder_pictures(root)(0, str(root.parent / "secret.png")).uri == ""


def test_a_folder_that_is_none_is_refused():
    with pytest.raises(FileNotFoundError, match="`image_root` must be a folder, but got 'nowhere'"):
        folder_pictures("nowhere")


def test_stored_pictures_are_those_of_the_folder(index, image_root, tmp_path):
    assert store_pictures(tmp_path / "pictures", index, image_root) == 60
    stored, fresh = stored_pictures(tmp_path / "pictures"), folder_pictures(image_root)
    for position in (0, 1, 59):
        assert stored(position, None) == fresh(position, f"{position:02d}.png")
    assert stored(60, None).uri == ""


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
    monkeypatch.setattr("modeling_crh.hub.published.MAX_PICTURES", 59)
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
