import json

import numpy as np
import pytest
from datasets import Dataset

from modeling_crh.data.columns import label_names, label_tensor
from modeling_crh.data.tables import load_table, read_table

TEXTS = [f"text {row}" for row in range(40)]
LABELS = ["even" if row % 2 == 0 else "odd" for row in range(40)]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Keep what `datasets` makes of a table out of the user's cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_table(path, texts=TEXTS, labels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = Dataset.from_dict({"text": texts, "vector": [[float(len(text)), 1.0] for text in texts], "label": labels})
    {
        ".csv": lambda: rows.remove_columns("vector").to_csv(path),
        ".json": lambda: path.write_text(json.dumps(list(rows))),
        ".jsonl": lambda: rows.to_json(path),
        ".parquet": lambda: rows.to_parquet(path),
    }[path.suffix]()
    return path


def write_arrays(path, features, labels):
    np.save(path, features)
    np.save(path.with_suffix(".labels.npy"), labels)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_every_kind_of_table_gives_the_same_texts(tmp_path, suffix):
    path = write_table(tmp_path / f"rows{suffix}")
    assert list(read_table(path)["text"]) == TEXTS
    splits = load_table(str(path), text_column="text")
    assert splits.num_rows == {"train": 29, "validation": 3, "query": 8, "database": 32}
    assert splits["train"].column_names == ["text", "label"]
    assert label_names(splits["train"]) == ["even", "odd"]
    for text, label in zip(splits["query"]["text"], label_tensor(splits["query"]), strict=True):
        assert int(text.split()[1]) % 2 == label


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_a_column_of_numbers_is_that_of_the_features(tmp_path, suffix):
    splits = load_table(write_table(tmp_path / f"rows{suffix}"), features_column="vector")
    assert splits["train"].column_names == ["features", "label"]
    assert len(splits["train"][0]["features"]) == 2


@pytest.mark.parametrize("shape", [(40, 3), (40, 2, 3)])
def test_arrays_of_numpy_are_a_table_of_features(tmp_path, shape):
    features = np.random.default_rng(0).normal(size=shape)
    path = write_arrays(tmp_path / "rows.npy", features, np.arange(40) % 2)
    rows = read_table(path).with_format("numpy")[:]
    assert np.array_equal(rows["features"], features.astype(np.float32))
    assert rows["label"].tolist() == [0, 1] * 20
    splits = load_table(path, features_column="features")
    assert splits.num_rows["query"] == 8
    assert label_names(splits["train"]) == ["0", "1"]


@pytest.mark.parametrize("second", ["test", "query"])
def test_a_folder_of_two_tables_is_an_official_division(tmp_path, second):
    write_table(tmp_path / "train.csv")
    write_table(tmp_path / f"{second}.jsonl", TEXTS[:6], ["odd"] * 6)
    (tmp_path / "README.md").write_text("about")
    splits = load_table(tmp_path, text_column="text")
    assert splits.num_rows == {"train": 36, "validation": 4, "query": 6, "database": 40}
    assert label_tensor(splits["query"]).tolist() == [1] * 6


def test_features_of_two_kinds_of_files_fit_together(tmp_path):
    rows = read_table(write_table(tmp_path / "rows.jsonl")).rename_column("vector", "features")
    rows.to_parquet(tmp_path / "train.parquet")
    write_arrays(tmp_path / "test.npy", np.ones((2, 2)), np.array(["odd", "even"]))
    splits = load_table(tmp_path, features_column="features")
    assert splits["query"].features == splits["train"].features
    assert list(splits["query"]["features"]) == [[1.0, 1.0]] * 2


def test_texts_are_no_features_of_the_same_division(tmp_path):
    write_table(tmp_path / "train.csv")
    (tmp_path / "test.jsonl").write_text('{"text": [1.5], "label": "odd"}')
    with pytest.raises(ValueError, match="`query` must have the features of `dataset`"):
        load_table(tmp_path, text_column="text")


def test_the_seed_decides_the_split(tmp_path):
    path = write_table(tmp_path / "rows.csv")
    first, again, other = (list(load_table(path, text_column="text", seed=seed)["query"]["text"]) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", b"text", r"`path` must end in \.csv, \.json, \.jsonl, \.parquet or \.npy, but got '.*rows\.txt'"),
        ("rows.csv", b"", r"`path` must be a table that can be read, but '.*rows\.csv' is not: \w"),
        ("rows.csv", b"text,label\n", r"`path` must hold at least one row, but '.*rows\.csv' holds none"),
        ("rows.jsonl", b"{no json", r"`path` must be a table that can be read, but '.*rows\.jsonl' is not: \w"),
        ("rows.json", b"", r"`path` must be a table that can be read, but '.*rows\.json' is not: \w"),
        ("rows.parquet", b"PAR1", r"`path` must be a table that can be read, but '.*rows\.parquet' is not: \w"),
        ("rows.npy", b"", r"`path` must be a table that can be read, but '.*rows\.npy' is not: \w"),
        ("rows.npy", b"PK\x03\x04", r"`path` must be a table that can be read, but '.*rows\.npy' is not: \w"),
    ],
)
def test_a_file_that_is_no_table_is_an_error_that_names_it(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_table(tmp_path / name, text_column="text")


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), r"rows\.labels\.npy \(N,\), but they are \(3, 2\) and \(2,\)"),
        (np.zeros(3), np.zeros(3, int), r"must be \(N, F\) or \(N, V, F\) .* but they are \(3,\) and \(3,\)"),
        (np.zeros((3, 2)), np.zeros((3, 1), int), r"but they are \(3, 2\) and \(3, 1\)"),
        (np.array([["a"], ["b"]]), np.zeros(2, int), "it must hold numbers, but holds <U1"),
        (np.zeros((2, 1), complex), np.zeros(2, int), "it must hold numbers, but holds complex128"),
        (np.array([[None], [1]]), np.zeros(2, int), "is not: Object arrays cannot be loaded when allow_pickle=False"),
        (np.zeros((0, 2)), np.zeros(0, int), "`path` must hold at least one row"),
        (np.zeros((2, 2)), np.array([0.0, 1.5]), "`label` must be a whole number or a string, but row 0 has 0.0"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(tmp_path, features, labels, message):
    path = write_arrays(tmp_path / "rows.npy", features, labels)
    with pytest.raises(ValueError, match=message):
        load_table(path, features_column="features")


def test_arrays_without_labels_are_an_error_that_names_the_missing_file(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"No such file or directory: '.*rows\.labels\.npy'"):
        read_table(tmp_path / "rows.npy")


@pytest.mark.parametrize("path", ["", None, 5])
def test_what_is_no_path_is_an_error(path):
    with pytest.raises(ValueError, match=f"`path` must be a path, and not empty, but got {path!r}"):
        load_table(path, text_column="text")


def test_what_is_not_there_is_an_error_under_the_name_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must be a file that exists, but got '.*none\.csv'"):
        load_table(tmp_path / "none.csv", text_column="text")
    with pytest.raises(ValueError, match="`source` must be a file that exists"):
        read_table(tmp_path / "none.csv", name="source")
    with pytest.raises(ValueError, match=r"or hold tables called train and test, but got the folder"):
        load_table(tmp_path, text_column="text")


def test_a_test_label_without_a_training_row_is_an_error(tmp_path):
    write_table(tmp_path / "train.csv")
    write_table(tmp_path / "test.csv", TEXTS[:2], ["odd", "neither"])
    with pytest.raises(ValueError, match="one of the 2 classes of `label_names`, but row 1 has 'neither'"):
        load_table(tmp_path, text_column="text")


def test_whole_numbers_that_skip_values_are_classes_by_name(tmp_path):
    path = write_table(tmp_path / "rows.csv", TEXTS, [7 if row % 2 else 2 * 10**9 for row in range(len(TEXTS))])
    splits = load_table(path, text_column="text")
    assert splits["train"].features["label"].names == ["7", "2000000000"]
