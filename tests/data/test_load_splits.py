import pytest
from datasets import Dataset

from modeling_crh.data.load_splits import load_splits


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Keep what `datasets` makes of a table out of the user's cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def table(tmp_path):
    """A table of texts and features with two classes of twenty rows."""
    rows = {"text": [f"text {row}" for row in range(40)], "vector": [[row / 40, 1.0] for row in range(40)]}
    Dataset.from_dict(rows | {"kind": ["a", "b"] * 20}).to_json(tmp_path / "rows.jsonl")
    return str(tmp_path / "rows.jsonl")


def test_a_name_is_that_of_a_benchmark():
    splits, left_out = load_splits("fashion_mnist_sample")
    assert splits.num_rows == {"train": 5400, "validation": 600, "query": 1000, "database": 6000}
    assert left_out == []


def test_a_benchmark_takes_official_files_and_a_protocol(idx_folder):
    splits, _ = load_splits("fashion_mnist", str(idx_folder))
    assert splits.num_rows == {"train": 36, "validation": 4, "query": 20, "database": 40}
    with pytest.raises(
        ValueError, match="`protocol` of fashion_mnist must be one of official, disjoint, but got 'another'"
    ):
        load_splits("fashion_mnist", str(idx_folder), protocol="another")


def test_a_folder_holds_images(image_folder):
    splits, left_out = load_splits(str(image_folder), seed=3)
    assert splits.num_rows == {"train": 43, "validation": 5, "query": 12, "database": 48}
    assert splits["train"].column_names == ["image", "label"]
    assert left_out == []


def test_the_shares_of_a_folder_may_be_chosen(image_folder):
    splits, _ = load_splits(str(image_folder), validation_fraction=0.2, query_fraction=0.1)
    assert splits.num_rows == {"train": 43, "validation": 11, "query": 6, "database": 54}
    with pytest.raises(ValueError, match=r"`query_fraction` must be a number above 0 and below 1, but got 1\.5"):
        load_splits(str(image_folder), query_fraction=1.5)


def test_data_with_queries_of_their_own_have_no_share_of_them():
    assert load_splits("fashion_mnist_sample", validation_fraction=0.2)[0].num_rows["validation"] == 1200
    with pytest.raises(ValueError, match="`query_fraction` must be left out where the data bring queries of their own"):
        load_splits("fashion_mnist_sample", query_fraction=0.1)


@pytest.mark.parametrize(
    ("setting", "name"), [({"text_column": "text"}, "text"), ({"features_column": "vector"}, "features")]
)
def test_a_column_makes_it_a_table(table, setting, name):
    splits, left_out = load_splits(table, label_column="kind", **setting)
    assert splits["train"].column_names == [name, "label"]
    assert splits.num_rows["query"] == 8
    assert left_out == []


def test_the_seed_reaches_the_split(table):
    first, other = (load_splits(table, text_column="text", label_column="kind", seed=seed)[0] for seed in (0, 1))
    assert list(first["query"]["text"]) != list(other["query"]["text"])


def test_bad_images_are_left_out_where_asked_for(class_folder):
    with pytest.raises(ValueError, match=r"broken\.png is not: no known image format; `skip_bad_images=True`"):
        load_splits(str(class_folder))
    splits, left_out = load_splits(str(class_folder), skip_bad_images=True)
    assert splits["database"].num_rows + splits["query"].num_rows == 40
    assert [image.path for image in left_out] == [str(class_folder / "a" / "broken.png")]


@pytest.fixture
def class_folder(tmp_path, write_image):
    """Twenty images each of two classes, and one that is broken."""
    for name in ("a", "b"):
        for seed in range(20):
            write_image(tmp_path / "images" / name / f"{seed}.png", seed)
    (tmp_path / "images" / "a" / "broken.png").write_text("no image")
    return tmp_path / "images"


def test_what_is_none_of_these_is_an_error():
    with pytest.raises(ValueError, match=r"`dataset` must be a folder or one of the benchmarks .* but got 'nowhere'"):
        load_splits("nowhere")
    with pytest.raises(ValueError, match=r"but got 'nowhere'"):
        load_splits("nowhere", text_column="text")
