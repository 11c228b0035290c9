import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from tiny_data import CLASSES, read_both, write_pictures, write_tar

from modeling_crh.data import DataSource, load_splits, open_source, read_parts
from modeling_crh.data.rows import Rows
from modeling_crh.data.table_readers import CsvReader, DatasetReader, ParquetReader, StreamReader
from modeling_crh.data.tables import open_tables

COLUMNS = {"text": [f"text {row}" for row in range(200)], "number": list(range(200)), "other": [0.5] * 200}
TWELVE = [name for name in CLASSES for _ in range(4)]


def write_rows(path, columns, **settings):
    """Write columns in the format of the name of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":  # as pyarrow writes it, without a word on images
        pq.write_table(pa.table(columns), path, **settings)
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(Dataset.from_dict(columns))))
    else:
        table = Dataset.from_dict(columns)
        (table.to_csv if path.suffix == ".csv" else table.to_json)(str(path))
    return path


def stretch(start, stop):
    return {name: values[start:stop] for name, values in COLUMNS.items()}


def stream(start=0, stop=200, **settings):
    return StreamReader(Dataset.from_dict(stretch(start, stop)).to_iterable_dataset(**settings), f"stream {start}")


def parquet(folder, start, stop):
    return ParquetReader(write_rows(folder / f"{start}.parquet", stretch(start, stop), row_group_size=70))


def csv(folder, start, stop):
    return CsvReader(write_rows(folder / f"{start}.csv", stretch(start, stop)))


READERS = {
    "dataset": lambda folder: [DatasetReader(Dataset.from_dict(COLUMNS), "the dataset")],
    "parquet": lambda folder: [parquet(folder, 0, 150), parquet(folder, 150, 200)],
    "csv": lambda folder: [csv(folder, 0, 20), csv(folder, 20, 200)],
    "stream": lambda folder: [stream(num_shards=3)],
    "streams": lambda folder: [stream(0, 90), stream(90, 200)],
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (0, 200), (69, 71), (70, 140), (100, 300), (64, 64), (200, None)]
)
def test_any_stretch_of_rows_is_read(kind, start, stop, tmp_path):
    chunks = list(Rows(READERS[kind](tmp_path)).only(["text", "number"]).chunks(start, stop))
    for name in ("text", "number"):
        found = [value for chunk in chunks for value in chunk.table[name].to_pylist()]
        assert list(map(str, found)) == list(map(str, COLUMNS[name][start:stop]))  # in CSV all is text
    assert all(0 < len(chunk.table) <= 64 and chunk.table.column_names == ["text", "number"] for chunk in chunks)


@pytest.mark.parametrize("kind", READERS)
def test_a_row_is_named_by_its_file_and_its_number_there(kind, tmp_path):
    rows = Rows(READERS[kind](tmp_path))
    assert rows.num_rows == (200 if kind in ("dataset", "parquet") else None)  # known where it costs nothing
    named = [chunk.place(row) for chunk in rows.chunks() for row in range(len(chunk.table))]
    assert len(set(named)) == rows.num_rows == 200
    assert list(rows.places()) == named
    assert named[0] == f"row 0 of {rows.readers[0].source}"
    assert named[-1].endswith(f" of {rows.readers[-1].source}")


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_every_kind_of_table_gives_the_same_texts_even_if_its_name_has_the_marks_of_a_pattern(tmp_path, suffix):
    labels = ["even" if row % 2 == 0 else "odd" for row in range(40)]
    columns = {"words": [f"text {row}" for row in range(40)], "kind": labels}
    path = write_rows(tmp_path / "a[b]*" / f"rows?[1]{suffix}", columns)
    options = {"text_column": "words", "label_column": "kind"}
    assert read_both(path, **options) == labels
    splits = load_splits(str(path), **options).splits
    assert splits.num_rows == {"train": 29, "validation": 3, "query": 8, "database": 32}
    assert splits["train"].column_names == ["text", "label"]
    assert all(int(row["text"].split()[1]) % 2 == row["label"] for row in splits["query"])


def test_in_csv_every_cell_is_text_and_an_empty_label_or_minus_one_is_none(tmp_path):
    cells = ["007", "NA", "None", "nan", "true", "010", '"a\nb"', "", "1.0"]
    lines = [f"NULL,{cell},{number}" for number, cell in enumerate(cells)] * 4
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["text,label,number", *lines]))
    labels = read_both(path, text_column="text")
    assert labels[:9] == ["007", "NA", "None", "nan", "true", "010", "a\nb", None, "1.0"]
    rows = list(open_source(path, text_column="text", id_column="number").rows())
    assert (rows[7].value, rows[7].id) == ("NULL", "7")
    path.write_text("text,label\na,2\nb,-1\nc,0\n")
    assert read_both(path, text_column="text") == ["2", None, "0"]
    assert read_both(path, text_column="text", label_separator=";") == [["2"], [], ["0"]]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_paths_in_a_table_start_from_its_folder(tmp_path, name, monkeypatch):
    files = write_pictures(tmp_path / "images")
    cells = [str(file.relative_to(tmp_path)) if number else str(file) for number, file in enumerate(files)]
    write_rows(tmp_path / name, {"photo": cells, "kind": TWELVE})
    monkeypatch.chdir("/")
    options = {"image_column": "photo", "label_column": "kind"}
    assert read_both(tmp_path / name, **options) == TWELVE
    assert [row.path for row in open_source(tmp_path / name, **options).rows()] == list(map(str, files))
    write_rows(tmp_path / "deep" / "more.csv", {"photo": [f"../{cells[-1]}"], "kind": ["eel"]})
    if name == "rows.csv":  # each of several tables has a folder of its own
        assert read_both(f"{tmp_path}/rows.csv,{tmp_path}/deep/more.csv", **options) == [*TWELVE, "eel"]


@pytest.mark.parametrize("form", ["bytes", "struct", "struct with a path", "struct of paths", "base", "large"])
def test_plain_parquet_files_of_images_are_read(tmp_path, form):
    files = write_pictures(tmp_path / "images")
    contents = [file.read_bytes() for file in files]
    column = {
        "bytes": contents,
        "large": pa.array(contents, pa.large_binary()),
        "struct": [{"bytes": content, "path": None} for content in contents],
        "struct with a path": [{"bytes": content, "path": "any.png"} for content in contents],
        "struct of paths": [{"bytes": None, "path": str(file)} for file in files],
        "base": [{"bytes": None, "path": str(file.relative_to(tmp_path))} for file in files],
    }[form]
    table = write_rows(tmp_path / "rows.parquet", {"image": column, "label": TWELVE})
    assert read_both(table) == TWELVE
    values = [row.value for row in open_source(table).rows()]
    assert [value["bytes"] or Path(value["path"]).read_bytes() for value in values] == contents


def test_webdataset_tars_are_read_with_the_class_of_each_sample(tmp_path):
    files = write_pictures(tmp_path / "images")
    samples = [{"png": file.read_bytes(), "cls": str(row // 4).encode()} for row, file in enumerate(files)]
    for shard in range(2):
        write_tar(tmp_path / f"shard-{shard:05d}.tar", samples[shard::2])
    assert read_both(tmp_path / "shard-00000.tar") == ["0", "0", "1", "1", "2", "2"]
    assert read_both(f"{tmp_path}/shard-*.tar") == ["0", "0", "1", "1", "2", "2"] * 2


def test_rows_of_a_tar_stay_in_the_cache_until_the_tar_is_replaced(tmp_path):
    def rows_of(word):
        write_tar(tmp_path / "rows.tar", [{"txt": word}, {"txt": word}])
        first, again = (open_tables([tmp_path / "rows.tar"], "the tar").whole() for _ in range(2))
        assert first.cache_files == again.cache_files
        assert first["txt"][:] == again["txt"][:] == [word.decode()] * 2
        return first.cache_files

    assert rows_of(b"eel") != rows_of(b"owl")


@pytest.mark.parametrize("shape", [(12, 3), (12, 2, 3)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_arrays_of_numpy_are_features(tmp_path, shape, dtype):
    features = (np.random.default_rng(0).normal(size=shape) * 9).astype(dtype)
    np.save(tmp_path / "rows.npy", features)
    rows = list(open_source(tmp_path / "rows.npy").rows())
    assert np.array_equal([np.stack(row.value) for row in rows], features.astype(np.float32))
    assert [row.label for row in rows] == [None] * 12
    with pytest.raises(ValueError, match=r"Training needs labels: put them into .*rows\.labels\.npy, one per row"):
        load_splits(tmp_path / "rows.npy")
    np.save(tmp_path / "rows.labels.npy", np.array(TWELVE))
    assert read_both(tmp_path / "rows.npy") == TWELVE
    np.save(tmp_path / "rows.labels.npy", np.arange(12) % 3 - 1)
    assert read_both(tmp_path / "rows.npy", features_column="features") == [None, "0", "1"] * 4
    np.save(tmp_path / "more.npy", features[:2])
    np.save(tmp_path / "more.labels.npy", np.array([1, 0]))
    assert read_both(tmp_path) == ["1", "0"] + [None, "0", "1"] * 4


@pytest.mark.parametrize(
    ("named", "files"),
    [
        ("data/", ["data/a.csv", "data/b.csv", "data/deep/c.csv"]),
        ("data/*.csv", ["data/a.csv", "data/b.csv"]),
        ("data/b.csv,data/a.csv", ["data/b.csv", "data/a.csv"]),
        ("data/**/c*", ["data/deep/c.csv"]),
    ],
)
def test_several_tables_are_one_after_the_other(tmp_path, monkeypatch, named, files):
    for name in ("a", "b", "deep/c", ".hidden"):
        write_rows(tmp_path / f"data/{name}.csv", {"text": ["x"] * 3, "label": [name] * 3})
    (tmp_path / "data" / "README.md").write_text("about")
    monkeypatch.chdir(tmp_path)
    expected = [file.removeprefix("data/").removesuffix(".csv") for file in files for _ in range(3)]
    assert read_both(named, text_column="text") == expected
    rows = list(open_source(named, text_column="text").rows())
    assert [row.id for row in rows] == list(range(len(rows)))
    assert rows[-1].path == f"row 2 of {tmp_path / files[-1]}"


@pytest.mark.parametrize("train", ["train-00000-of-00001", "train", "train/rows"])
@pytest.mark.parametrize("test", ["test-00000-of-00001", "query", "test/rows"])
def test_tables_named_as_splits_are_the_division(tmp_path, train, test):
    columns = {"text": [f"{row}" for row in range(40)], "label": ["a", "b"] * 20}
    write_rows(tmp_path / f"{train}.parquet", columns)
    write_rows(tmp_path / f"{test}.jsonl", {name: values[:6] for name, values in columns.items()})
    write_rows(tmp_path / "validation.csv", {name: values[:4] for name, values in columns.items()})
    (tmp_path / "README.md").write_text("about")
    splits = load_splits(tmp_path, text_column="text").splits
    assert splits.num_rows == {"train": 40, "validation": 4, "query": 6, "database": 44}
    assert len(read_both(tmp_path, text_column="text")) == 50
    assert read_both(tmp_path, text_column="text", split="test") == ["a", "b"] * 3


def test_pandas_categories_and_floats_with_gaps_are_labels(tmp_path):
    frame = pd.DataFrame({"text": ["x"] * 4, "kind": pd.Categorical(["b", "a", None, "a"]), "year": [1.0, None, 7, 1]})
    frame.to_parquet(tmp_path / "rows.parquet")
    assert read_both(tmp_path / "rows.parquet", text_column="text", label_column="kind") == ["b", "a", None, "a"]
    assert read_both(tmp_path / "rows.parquet", text_column="text", label_column="year") == ["1", None, "7", "1"]


@pytest.mark.parametrize(
    ("suffix", "mark", "word"), [("csv", ";", "semicolons"), ("csv", "\t", "tabs"), ("tsv", "\t", "")]
)
def test_a_csv_file_of_a_spreadsheet_may_divide_its_columns_otherwise(suffix, mark, word, tmp_path, capsys):
    path, one = tmp_path / f"rows.{suffix}", tmp_path / f"one.{suffix}"
    path.write_text("\n".join([f"text{mark}label", *(f"a, b{mark}x" for _ in range(3)), f'"c{mark}d"{mark}y']))
    rows = open_source(str(path), text_column="text").rows()
    assert [row.value for row in rows] == ["a, b"] * 3 + [f"c{mark}d"]
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(f"divided by {word}.") if word else said == ""
    assert read_both(path, text_column="text") == ["x", "x", "x", "y"]
    one.write_text("text\nhello, world\n")
    found = [row.value for row in open_source(str(one), text_column="text").rows()] if suffix == "tsv" else None
    assert found in (["hello, world"], None)


@pytest.mark.parametrize("ids", [["b", "a"], [70, -3], ["007", "NA"]])
def test_ids_are_whole_numbers_or_strings(tmp_path, ids):
    table = write_rows(tmp_path / "rows.parquet", {"text": ["x", "y"], "sku": ids})
    source = open_source(table, text_column="text", id_column="sku")
    assert [row.id for row in source.rows()] == ids
    assert source.has_string_ids == isinstance(ids[0], str)


@pytest.mark.parametrize(
    "ids",
    [[1.5, 2.0], [True, False], [None, 1], pa.array([2**63, 1], pa.uint64())],
    ids=["1.5", "True", "None", "2^63"],
)
def test_other_ids_are_errors_that_name_the_row(tmp_path, ids):
    table = write_rows(tmp_path / "rows.parquet", {"text": ["x", "y"], "sku": ids})
    with pytest.raises(ValueError, match=rf"`id_column` must hold whole numbers .*, but row 0 of .* has {ids[0]}"):
        list(open_source(table, text_column="text", id_column="sku").rows())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_shards_are_the_same_rows_whatever_is_passed_over(tmp_path, suffix):
    path = write_rows(tmp_path / f"rows{suffix}", {"text": [f"text {number}" for number in range(70)]})
    source = open_source(path, text_column="text")
    whole = [(shard, [row.id for row in block]) for shard, block in source.shards(16, lambda shard: True)]
    assert whole == [(shard, list(range(shard * 16, min(shard * 16 + 16, 70)))) for shard in range(5)]
    odd = [(shard, [row.id for row in block]) for shard, block in source.shards(16, lambda shard: shard % 2 == 1)]
    assert odd == whole[1::2]
    late = [(shard, list(block)) for shard, block in source.shards(16, lambda shard: shard != 3, first=2)]
    assert [shard for shard, _ in late] == [2, 4]
    assert [row.value for row in late[1][1]] == [f"text {number}" for number in range(64, 70)]
    assert list(source.shards(35, lambda shard: True, first=2)) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", b"text", r"`dataset` must be a folder, a table, .* but got the file '.*rows\.txt'"),
        ("rows.csv", b"", "`dataset` must hold at least one row, but '.*' holds none"),
        ("rows.csv", b"text,label\n", "`dataset` must hold at least one row, but '.*' holds none"),
        ("rows.csv", b"text,label\na,b\nc\n", r"that can be read, but '.*' is not: CSV parse error: .*"),
        (
            "rows.csv",
            "text,label\nKäfer,x\n".encode("latin-1"),
            r"must hold texts in UTF-8, but .*rows\.csv does not: ",
        ),
        ("rows.jsonl", b"{no json", r"`dataset` must be .* that can be read, but '.*rows\.jsonl' is not: \w"),
        ("rows.json", b"", "`dataset` must hold at least one row, but '.*' holds none"),
        ("rows.parquet", b"PAR1", r"`dataset` must be .* that can be read, but '.*rows\.parquet' is not: \w"),
        ("rows.npy", b"PK\x03\x04", r"`dataset` must be .* that can be read, but '.*rows\.npy' is not: \w"),
        ("rows.tar", b"no tar" * 200, r"`dataset` must be .* that can be read, but '.*rows\.tar' is not: \w"),
    ],
)
def test_a_file_that_is_no_table_is_an_error_that_names_it(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_splits(tmp_path / name, text_column="text")


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), r"rows\.labels\.npy must hold a label for each of the 3 rows, but is"),
        (np.zeros(3), np.zeros(3, int), r"it must hold numbers \(N, F\) or \(N, V, F\), but holds float64 \(3,\)"),
        (np.array([["a"], ["b"]]), np.zeros(2, int), "it must hold numbers .*, but holds <U1"),
        (np.zeros((2, 1), complex), np.zeros(2, int), "it must hold numbers .*, but holds complex128"),
        (np.array([[None], [1]]), np.zeros(2, int), "is not: Array can't be memory-mapped"),
        (np.zeros((0, 2)), np.zeros(0, int), "`dataset` must hold at least one row"),
        (np.zeros((2, 2)), np.array([0.0, 1.5]), "`label` must be a whole number or a string, but row 1 of .* has 1.5"),
        (np.zeros((2, 2)), np.array([None, "a"]), r"rows\.npy' is not: Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(tmp_path, features, labels, message):
    np.save(tmp_path / "rows.npy", features)
    np.save(tmp_path / "rows.labels.npy", labels)
    with pytest.raises(ValueError, match=message):
        load_splits(tmp_path / "rows.npy")


def test_a_table_that_breaks_off_is_an_error_where_it_does(tmp_path):
    line = json.dumps({"text": "x" * 100}) + "\n"
    (tmp_path / "rows.jsonl").write_text(line * 30_000 + '{"text": 5')
    rows = open_source(tmp_path / "rows.jsonl", text_column="text").shards(10_000, lambda shard: False)
    with pytest.raises(ValueError, match=r"`dataset` must be .* that can be read, but '.*rows\.jsonl' is not: \w"):
        list(rows)


@pytest.mark.parametrize("column", ["text", "label", "other"])
def test_a_text_that_is_no_utf8_is_an_error_that_names_the_table(tmp_path, column):
    one_bad = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff\xfe", b"c"]).buffers())
    columns = {"text": ["a", "b", "c"], "label": ["x", "y", "x"], column: one_bad}
    table = write_rows(tmp_path / "rows.parquet", columns)
    if column == "other":
        assert len(list(open_source(table, text_column="text").rows())) == 3
    else:
        with pytest.raises(ValueError, match=r"`dataset` must hold texts in UTF-8, but in .*rows\.parquet from row 0"):
            list(open_source(table, text_column="text").rows())


def test_tables_of_two_kinds_are_an_error(tmp_path):
    write_rows(tmp_path / "a.csv", {"text": ["x"]})
    write_rows(tmp_path / "b.jsonl", {"text": ["x"]})
    with pytest.raises(ValueError, match=r"`dataset` must be tables of one kind, but .* holds \.csv and \.json"):
        open_source(tmp_path, text_column="text")


@pytest.mark.parametrize("values", [[1, 2], [1.5, 2.5], [[b"a"], [b"b"]], [{"x": 1}, {"x": 2}], [None, None]])
def test_a_column_that_holds_no_images_is_an_error(tmp_path, values):
    with pytest.raises(ValueError, match="`image_column` 'image' must hold images, paths or bytes, but holds"):
        open_source(write_rows(tmp_path / "rows.parquet", {"image": values}))


NOTHING = r"must be one of \['review', 'stars'\], but got 'nothing'"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "nothing"}, f"`text_column` {NOTHING}"),
        ({"features_column": "nothing"}, f"`features_column` {NOTHING}"),
        ({"text_column": "review", "id_column": "nothing"}, f"`id_column` {NOTHING}"),
        ({"text_column": "review", "label_column": "nothing"}, f"`label_column` {NOTHING}"),
        ({}, "`audio_column`, `text_column` and `features_column` must name"),
        ({"text_column": "review", "features_column": "stars"}, "Only one of `text_column` and `features_column` may"),
        ({"text_column": "review", "label_column": "review"}, "`label_column` must be another column than `text_c"),
        ({"text_column": "review", "data_dir": "x"}, "`data_dir` must be given with a benchmark only, but got 'x'"),
    ],
)
def test_columns_that_are_not_there_are_errors(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        open_source(write_rows(tmp_path / "rows.csv", {"review": ["fine"], "stars": ["5"]}), **options)


@pytest.mark.parametrize("features", [[[1.0, 2.0], [3.0, 4.0]], [[[1.0], [2.0]], [[3.0], [4.0]]]])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_columns_of_numbers_are_features(tmp_path, features, suffix):
    path = write_rows(tmp_path / f"rows{suffix}", {"clip": features, "label": ["a", "b"], "other": [1, 2]})
    assert read_both(path, features_column="clip") == ["a", "b"]
    rows = open_source(path, features_column="clip").rows()
    assert np.array_equal([np.stack(row.value) for row in rows], features)


def test_a_mistyped_name_is_refused_with_the_name_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, there in (("fotos", "'photos'"), (str(tmp_path / "photo"), repr(str(tmp_path / "photos")))):
        with pytest.raises((ValueError, FileNotFoundError), match=re.escape(f" There is {there}.") + "$"):
            open_source(name)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_that_share_their_name_are_left_out_and_named(suffix, tmp_path, capsys):
    table = pa.table([["a", "b"], ["x", "y"], ["1", "2"], ["3", "4"]], names=["text", "kind", "note", "note"])
    path = tmp_path / f"t{suffix}"
    (pq.write_table if suffix == ".parquet" else pa.csv.write_csv)(table, path)
    rows, _ = read_parts(DataSource(dataset=str(path), text_column="text", label_column="kind"))
    assert rows["all"]["text"] == ["a", "b"]
    assert f"Columns of {path} that share their name are not read: 'note'." in " ".join(capsys.readouterr().err.split())
    with pytest.raises(ValueError, match=r"`text_column` must be one of \['text', 'kind'\], but got 'note'"):
        open_source(str(path), text_column="note")
