import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Image

from modeling_crh.data.columns import label_names, label_tensor
from modeling_crh.data.sources import load_images, load_rows


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Keep what `datasets` makes of a table out of the user's cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def write_parquet(tmp_path):
    """Write columns as pyarrow writes them, without a word on images."""

    def write(**columns):
        pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
        return tmp_path / "rows.parquet"

    return write


def test_a_folder_gives_its_images_at_any_depth_in_the_order_of_their_paths(tmp_path, write_image):
    files = [str(write_image(tmp_path / name)) for name in ("b/2.JPG", "b/deep/1.png", "a.png")]
    write_image(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("about")
    images, names, bad = load_images(tmp_path)
    assert names == sorted(files)
    assert list(images["label"]) == [[], [], []]
    assert label_names(images) == []
    assert bad == []


@pytest.mark.parametrize("path", [None, "1.png"])
@pytest.mark.parametrize("labels", [None, ["cat", "dog"]])
def test_a_plain_parquet_file_of_structs_is_read_with_labels_and_without(write_parquet, png, path, labels):
    structs = [{"bytes": png(shade), "path": path} for shade in (10, 20)]
    source = write_parquet(image=structs, **({} if labels is None else {"label": labels}))
    images, names, _ = load_images(source)
    assert [np.asarray(image).max() for image in images["image"]] == [10, 20]
    assert names == ["row 0", "row 1"] if path is None else ["1.png"] * 2
    assert label_names(images) == (labels or [])


def test_a_plain_parquet_file_of_bytes_is_read_under_other_names(write_parquet, png):
    source = write_parquet(photo=[png(10), png(20)], kind=[1, 0])
    images, _, _ = load_images(source, image_column="photo", label_column="kind")
    assert label_tensor(images).tolist() == [1, 0]
    assert images.features["image"] == Image()


def test_a_dataset_that_was_saved_is_read(tmp_path, gray_dataset):
    gray_dataset().save_to_disk(tmp_path / "saved")
    images, _, _ = load_images(tmp_path / "saved")
    assert label_tensor(images).tolist() == [0, 1, 2] * 4
    assert images.features["label"] == ClassLabel(names=["a", "b", "c"])


def test_bad_images_are_left_out_where_asked_for(tmp_path, write_image):
    good = str(write_image(tmp_path / "good.png"))
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(ValueError, match=r"bad\.png is not: no known image format; `skip_bad_images=True`"):
        load_images(tmp_path)
    _, names, bad = load_images(tmp_path, skip_bad_images=True)
    assert names == [good]
    assert [image.path for image in bad] == [str(tmp_path / "bad.png")]


@pytest.mark.parametrize("labels", [{}, {"label": [0, 1]}])
@pytest.mark.parametrize("values", [[1, 2], [1.5, 2.5], [[b"a"], [b"b"]], [[1], [2]], [{"x": 1}, {"x": 2}]])
def test_a_column_that_holds_no_images_is_an_error(write_parquet, values, labels):
    with pytest.raises(ValueError, match="`image_column` 'image' must hold images, paths or bytes, but holds"):
        load_images(write_parquet(image=values, **labels))


def test_a_parquet_file_without_rows_or_columns_or_content_is_an_error(write_parquet):
    with pytest.raises(ValueError, match=r"`source` must hold at least one row, but '.*rows\.parquet' holds none"):
        load_images(write_parquet(image=pa.array([], pa.binary())))
    with pytest.raises(ValueError, match=r"`image_column` must be one of \['photo'\], but got 'image'"):
        load_images(write_parquet(photo=[b"a"]))
    source = write_parquet(image=[b"a"])
    source.write_bytes(source.read_bytes()[:40])
    with pytest.raises(
        ValueError, match=r"`source` must be a table that can be read, but '.*rows\.parquet' is not: \w"
    ):
        load_images(source)


@pytest.mark.parametrize("source", ["", None, 5])
def test_what_is_no_path_is_an_error(source):
    with pytest.raises(ValueError, match=f"`source` must be a path, and not empty, but got {source!r}"):
        load_images(source)


def test_a_folder_without_images_and_another_file_are_errors(tmp_path):
    (tmp_path / "notes.txt").write_text("about")
    with pytest.raises(ValueError, match=r"`source` must hold at least one image file, but the folder '.*' holds none"):
        load_images(tmp_path)
    with pytest.raises(ValueError, match=r"`source` must be a folder, a parquet file or a dataset, but '.*notes\.txt'"):
        load_images(tmp_path / "notes.txt")


def test_rows_of_texts_are_read_with_labels_and_without(tmp_path):
    (tmp_path / "rows.csv").write_text("review,kind\nfine,b\nbad,a\n")
    rows, names = load_rows(tmp_path / "rows.csv", text_column="review")
    assert rows.to_dict() == {"text": ["fine", "bad"], "label": [[], []]}
    assert names == ["row 0", "row 1"]
    rows, _ = load_rows(tmp_path / "rows.csv", text_column="review", label_column="kind")
    assert rows.to_dict() == {"text": ["fine", "bad"], "label": [1, 0]}


def test_rows_of_features_are_read(tmp_path):
    Dataset.from_dict({"vector": [[0.5, 1.0], [2.0, 3.0]]}).to_json(tmp_path / "rows.jsonl")
    rows, _ = load_rows(str(tmp_path / "rows.jsonl"), features_column="vector")
    assert list(rows["features"]) == [[0.5, 1.0], [2.0, 3.0]]


def test_rows_that_are_not_there_are_an_error(tmp_path):
    (tmp_path / "rows.csv").write_text("review\nfine\n")
    with pytest.raises(ValueError, match=r"`text_column` must be one of \['review', 'label'\], but got 'text'"):
        load_rows(tmp_path / "rows.csv", text_column="text")
    with pytest.raises(ValueError, match="Either `text_column` or `features_column` must be named"):
        load_rows(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match=r"`source` must be a file that exists, but got '.*none\.csv'"):
        load_rows(tmp_path / "none.csv", text_column="text")
