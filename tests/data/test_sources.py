import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from modeling_crh.data.columns import canonical_features
from modeling_crh.data.images import decode_image
from modeling_crh.data.sources import open_source


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


def all_rows(source, **settings):
    settings = {"shard_size": 4, "wanted": lambda shard: True} | settings
    return [row for _, rows in source.shards(**settings) for row in list(rows)]


def test_a_folder_gives_its_images_at_any_depth_in_the_order_of_their_paths(tmp_path, write_image):
    files = [str(write_image(tmp_path / name)) for name in ("b/2.JPG", "b/deep/1.png", "a.png")]
    write_image(tmp_path / ".hidden.png")
    write_image(tmp_path / ".cache" / "thumb.png")
    (tmp_path / "notes.txt").write_text("about")
    source = open_source(tmp_path)
    rows = all_rows(source)
    assert (source.kind, source.has_labels, source.num_rows) == ("image", False, 3)
    assert [row.path for row in rows] == sorted(files)
    assert [row.id for row in rows] == [0, 1, 2]
    assert [row.label for row in rows] == [None] * 3
    assert decode_image(rows[1].value, rows[1].path).shape == (3, 8, 10)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["ant/1.png", "ant/2.png", "bee/1.png"], ["ant", "ant", "bee"]),
        (["test/ant/1.png", "test/bee/2.png", "train/ant/1.png"], ["ant", "bee", "ant"]),
        (["ant/1.png", "ant/2.png"], None),
        (["ant/1.png", "bee/1.png", "cow.png"], None),
        (["2023/05/1.png", "2024/01/1.png"], None),
        (["ant/1.png", "bee/deep/1.png"], None),
    ],
)
def test_sub_folders_are_classes_where_all_images_lie_in_several(tmp_path, write_image, names, labels):
    for name in names:
        write_image(tmp_path / name)
    source = open_source(tmp_path)
    assert source.has_labels == (labels is not None)
    assert [row.label for row in all_rows(source)] == (labels or [None] * len(names))


@pytest.mark.parametrize("path", [None, "1.png"])
@pytest.mark.parametrize("labels", [None, ["cat", "dog"]])
def test_a_plain_parquet_file_of_structs_is_read_with_labels_and_without(write_parquet, png, path, labels):
    structs = [{"bytes": png(shade), "path": path} for shade in (10, 20)]
    source = open_source(write_parquet(image=structs, **({} if labels is None else {"label": labels})))
    rows = all_rows(source)
    assert [int(decode_image(row.value, "").max()) for row in rows] == [10, 20]
    assert [row.path for row in rows] == (["row 0", "row 1"] if path is None else ["1.png"] * 2)
    assert [row.label for row in rows] == (labels or [None, None])


def test_a_plain_parquet_file_of_bytes_is_read_under_other_names(write_parquet, png):
    table = write_parquet(photo=[png(10), png(20)], kind=[1, 0], number=[70, -3])
    source = open_source(table, image_column="photo", label_column="kind", id_column="number")
    assert [(row.id, row.label) for row in all_rows(source)] == [(70, "1"), (-3, "0")]
    assert source.num_rows == 2


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_paths_in_a_table_start_from_its_folder(tmp_path, write_image, name, monkeypatch):
    files = [write_image(tmp_path / "photos" / f"{number}.png") for number in range(2)]
    rows = Dataset.from_dict({"image": ["photos/0.png", str(files[1])], "label": [0, 1]})
    (rows.to_csv if name.endswith("csv") else rows.to_json)(tmp_path / name)
    monkeypatch.chdir(tmp_path.parent)
    read = all_rows(open_source(os.path.relpath(tmp_path / name)))
    assert [row.path for row in read] == list(map(str, files))
    assert decode_image(read[0].value, "").shape == (3, 8, 10)


def test_a_dataset_that_was_saved_is_read_with_its_splits_and_without(tmp_path, gray_dataset):
    gray_dataset().save_to_disk(tmp_path / "saved")
    DatasetDict(train=gray_dataset(), test=gray_dataset().select([2])).save_to_disk(tmp_path / "splits")
    assert [row.label for row in all_rows(open_source(tmp_path / "saved"))] == ["a", "b", "c"] * 4
    assert [row.label for row in all_rows(open_source(tmp_path / "splits", split="test"))] == ["c"]
    with pytest.raises(ValueError, match=r"`split` must be one of \['train', 'test'\], but got 'query'"):
        open_source(tmp_path / "splits", split="query")


def test_a_dataset_as_on_the_hub_is_streamed(hub_replica, gray_dataset):
    source = open_source(hub_replica(train=gray_dataset(), test=gray_dataset().select([1])))
    rows = all_rows(source)
    assert (source.num_rows, source.is_multi_label) == (None, False)
    assert [row.label for row in rows] == ["a", "b", "c"] * 4
    pixels = [decode_image(row.value, "")[0].numpy() for row in rows]
    np.testing.assert_array_equal(np.stack(pixels), [np.asarray(row["image"]) for row in gray_dataset()])


def test_several_labels_are_sorted_names_without_repetition(tmp_path, gray_dataset):
    gray_dataset(multi_label=True).save_to_disk(tmp_path / "saved")
    assert [row.label for row in all_rows(open_source(tmp_path / "saved"))][:4] == [[], ["b"], ["a", "c"], ["a", "b"]]
    lines = [{"text": "x", "label": ["b", "a", "b"]}, {"text": "y", "label": None}, {"text": "z", "label": []}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = open_source(tmp_path / "rows.jsonl", text_column="text")
    assert source.is_multi_label
    assert [row.label for row in all_rows(source)] == [["a", "b"], None, []]


def test_no_label_is_none_and_one_of_no_class_is_an_error(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b"])})
    for label, named in ((None, None), (-1, None), (1, "b")):
        rows = Dataset.from_dict({"text": ["x"], "label": [label]}, features=features)
        rows.save_to_disk(tmp_path / str(label))
        assert [row.label for row in all_rows(open_source(tmp_path / str(label), text_column="text"))] == [named]
    listed = Dataset.from_dict({"label": [[-1]], "text": ["x"]}, features=canonical_features_of_text())
    listed.save_to_disk(tmp_path / "listed")
    with pytest.raises(ValueError, match="`label` must be from 0 to C-1=1, but row 0 has -1"):
        all_rows(open_source(tmp_path / "listed", text_column="text"))


def test_labels_of_a_csv_file_are_what_is_written_there(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label,number\n" + "007,1,3\n" * 200_000 + '"a\nb",,4\nx,c,5\n')
    source = open_source(tmp_path / "rows.csv", text_column="text", id_column="number")
    rows = all_rows(source, shard_size=10_000, first=20)
    assert [(row.value, row.label, row.id) for row in rows] == [("a\nb", None, 4), ("x", "c", 5)]
    (first, *_) = all_rows(source, shard_size=1000, wanted=lambda shard: shard == 7)
    assert (first.value, first.label, first.path) == ("007", "1", "row 7000")


def test_labels_with_gaps_are_whole_numbers_still(tmp_path):
    table = pa.table({"text": ["x"] * 3, "label": [1.0, None, 1.5]})
    pq.write_table(table, tmp_path / "rows.parquet")
    (_, rows) = next(open_source(tmp_path / "rows.parquet", text_column="text").shards(3, lambda shard: True))
    assert [next(rows).label for _ in range(2)] == ["1", None]
    with pytest.raises(ValueError, match=r"`label` must be a whole number or a string, but row 2 has 1\.5"):
        next(rows)


def canonical_features_of_text():
    features = canonical_features(["a", "b"], multi_label=True)
    return Features({"label": features["label"], "text": Value("string")})


@pytest.mark.parametrize("kind", ["rows.csv", "rows.jsonl", "rows.parquet", "saved"])
def test_shards_are_the_same_rows_whatever_is_passed_over(tmp_path, kind):
    rows = Dataset.from_dict({"text": [f"text {number}" for number in range(70)]})
    save = {"csv": rows.to_csv, "jsonl": rows.to_json, "parquet": rows.to_parquet}
    save.get(kind.rpartition(".")[2], rows.save_to_disk)(str(tmp_path / kind))
    source = open_source(tmp_path / kind, text_column="text")
    whole = [(shard, [row.id for row in block]) for shard, block in source.shards(16, lambda shard: True)]
    assert whole == [(shard, list(range(shard * 16, min(shard * 16 + 16, 70)))) for shard in range(5)]
    odd = [(shard, [row.id for row in block]) for shard, block in source.shards(16, lambda shard: shard % 2 == 1)]
    assert odd == whole[1::2]
    late = [(shard, list(block)) for shard, block in source.shards(16, lambda shard: shard != 3, first=2)]
    assert [shard for shard, _ in late] == [2, 4]
    assert [row.value for row in late[1][1]] == [f"text {number}" for number in range(64, 70)]
    assert list(source.shards(35, lambda shard: True, first=2)) == []


@pytest.mark.parametrize("labels", [{}, {"label": [0, 1]}])
@pytest.mark.parametrize("values", [[1, 2], [1.5, 2.5], [[b"a"], [b"b"]], [[1], [2]], [{"x": 1}, {"x": 2}]])
def test_a_column_that_holds_no_images_is_an_error(write_parquet, values, labels):
    with pytest.raises(ValueError, match="`image_column` 'image' must hold images, paths or bytes, but holds"):
        open_source(write_parquet(image=values, **labels))


def test_a_parquet_file_without_rows_or_columns_or_content_is_an_error(write_parquet):
    with pytest.raises(ValueError, match=r"`source` must hold at least one row, but '.*rows\.parquet' holds none"):
        open_source(write_parquet(image=pa.array([], pa.binary())))
    with pytest.raises(ValueError, match=r"`image_column` must be one of \['photo'\], but got 'image'"):
        open_source(write_parquet(photo=[b"a"]))
    source = write_parquet(image=[b"a"])
    source.write_bytes(source.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"`source` must be .* that can be read, but '.*rows\.parquet' is not: \w"):
        open_source(source)


def test_empty_files_are_errors(tmp_path):
    for name, content in (("rows.csv", ""), ("rows.jsonl", ""), ("rows.csv", "text\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=r"`source` must hold at least one row, but '.*rows\.\w+' holds none"):
            open_source(tmp_path / name, text_column="text")


@pytest.mark.parametrize("source", ["", None, 5])
def test_what_is_no_path_is_an_error(source):
    with pytest.raises(ValueError, match=f"`source` must be a path, and not empty, but got {source!r}"):
        open_source(source)


def test_a_folder_without_images_and_another_file_are_errors(tmp_path):
    (tmp_path / "notes.txt").write_text("about")
    with pytest.raises(ValueError, match=r"`source` must hold at least one image file, but the folder '.*' holds none"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match=r"`source` must be a folder, a dataset or a file that ends in .*notes\.txt'"):
        open_source(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="`source` must be a folder, a file or a dataset, but '/no/x' is"):
        open_source("/no/x")


def test_columns_that_are_not_there_are_errors(tmp_path):
    (tmp_path / "rows.csv").write_text("review,stars,number\nfine,2026-01-01,x\n")
    for option in ("text_column", "features_column", "id_column", "label_column"):
        columns = {"text_column": "review", option: "nothing"} if option != "features_column" else {option: "nothing"}
        with pytest.raises(ValueError, match=rf"`{option}` must be one of \['review', 'stars', 'number'\], but got"):
            open_source(tmp_path / "rows.csv", **columns)
    with pytest.raises(ValueError, match="`label_column` 'stars' must hold whole numbers, strings or lists"):
        open_source(tmp_path / "rows.csv", text_column="review", label_column="stars")
    with pytest.raises(ValueError, match=r"`source` must be .* but .* is not: .*conversion error to int64"):
        all_rows(open_source(tmp_path / "rows.csv", text_column="review", id_column="number"))
    with pytest.raises(ValueError, match="Only one of `text_column` and `features_column` may be named"):
        open_source(tmp_path / "rows.csv", text_column="review", features_column="stars")


def test_the_version_tells_of_a_change(tmp_path, write_image):
    table = tmp_path / "rows.csv"
    table.write_text("text\na\n")
    os.utime(table, (1, 1))
    before = open_source(table, text_column="text").version
    assert open_source(table, text_column="text").version == before
    os.utime(table, (2, 2))
    assert open_source(table, text_column="text").version != before
    write_image(tmp_path / "photos" / "1.png")
    before = open_source(tmp_path / "photos").version
    write_image(tmp_path / "photos" / "0.png")
    assert open_source(tmp_path / "photos").version != before


def test_arrays_of_features_are_read(tmp_path):
    Dataset.from_dict({"vector": [[0.5, 1.0], [2.0, 3.0]]}).to_json(tmp_path / "rows.jsonl")
    rows = all_rows(open_source(str(tmp_path / "rows.jsonl"), features_column="vector"))
    assert [row.value.tolist() for row in rows] == [[0.5, 1.0], [2.0, 3.0]]
    fixed = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 1.0, 2.0, 3.0], pa.float32()), 2)
    pq.write_table(pa.table({"vector": fixed, "other": [1, 2]}), tmp_path / "rows.parquet")
    rows = all_rows(open_source(tmp_path / "rows.parquet", features_column="vector"))
    assert [row.value.tolist() for row in rows] == [[0.5, 1.0], [2.0, 3.0]]
    np.save(tmp_path / "rows.npy", np.eye(2, dtype=np.float32))
    np.save(tmp_path / "rows.labels.npy", np.array(["b", "a"]))
    rows = all_rows(open_source(tmp_path / "rows.npy", features_column="features"))
    assert [(row.value.tolist(), row.label) for row in rows] == [([1, 0], "b"), ([0, 1], "a")]


def test_a_table_that_breaks_off_is_an_error_where_it_does(tmp_path):
    line = json.dumps({"text": "x" * 100}) + "\n"
    (tmp_path / "rows.jsonl").write_text(line * 300_000 + '{"text": 5')
    rows = open_source(tmp_path / "rows.jsonl", text_column="text").shards(10_000, lambda shard: False)
    with pytest.raises(ValueError, match=r"`source` must be .* that can be read, but '.*rows\.jsonl' is not: \w"):
        list(rows)


def test_pictures_of_the_benchmarks_are_the_database():
    source = open_source("fashion_mnist_sample")
    (row,) = all_rows(source, shard_size=1, wanted=lambda shard: shard == 5999)
    assert (source.num_rows, row.id, row.path) == (6000, 5999, "row 5999")
    assert isinstance(row.label, str)
