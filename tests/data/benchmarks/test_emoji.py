from collections import Counter

import numpy as np
import pyarrow.parquet
import pytest
from datasets import Dataset

from modeling_crh.data.benchmarks import emoji, load_benchmark
from modeling_crh.data.benchmarks.emoji import load_emoji, load_emoji_sample
from modeling_crh.data.columns import class_levels, label_tensor

COLUMNS = ["image", "label", "vendor", "group", "subgroup", "name"]
SIZES = {"train": 1166, "validation": 130, "query": 400, "database": 1296}


def test_the_bundled_sample_has_200_classes_in_40_subgroups_and_two_queries_a_class():
    splits = load_benchmark("emoji_sample")
    assert splits.num_rows == SIZES
    assert splits["query"].column_names == COLUMNS
    assert label_tensor(splits["query"]).bincount().tolist() == [2] * 200
    assert label_tensor(splits["database"]).bincount().min() == 4
    found = class_levels(splits["database"])
    assert sorted(Counter(found["subgroup"]).values()) == [5] * 40
    assert len(set(found["group"])) == 8
    assert len(set(zip(found["subgroup"], found["group"], strict=True))) == 40


def test_the_bundled_sample_is_small_has_permissive_vendors_only_and_leaves_no_file_behind():
    before = sorted(emoji.SAMPLE_DIR.iterdir())
    database, _ = load_emoji_sample()
    assert set(database.features["vendor"].names).isdisjoint({"openmoji", "emojione-v1"})
    readme = (emoji.SAMPLE_DIR / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{vendor}`" in readme for vendor in database.features["vendor"].names)
    assert sorted(emoji.SAMPLE_DIR.iterdir()) == before
    assert not database.cache_files
    assert sum(file.stat().st_size for file in before if file.suffix == ".parquet") < 4 * 2**20


def test_no_query_of_the_sample_is_in_its_database():
    database, query = load_emoji_sample()
    pixels = [{np.asarray(image).tobytes() for image in rows["image"]} for rows in (database, query)]
    assert pixels[0].isdisjoint(pixels[1])
    assert sum(map(len, pixels)) == len(database) + len(query)


def test_what_has_not_been_built_is_an_error_that_says_how_to_build_it(tmp_path):
    with pytest.raises(ValueError, match="`data_dir` must be None for emoji_sample"):
        load_emoji_sample(tmp_path)
    command = r"`python benchmarks/builders/emoji_build\.py --out DIR`"
    with pytest.raises(ValueError, match=rf"`data_dir` must be the folder that {command} makes, but got None"):
        load_emoji()
    with pytest.raises(FileNotFoundError, match=r"`data_dir` must hold database\.parquet, but"):
        load_emoji(tmp_path)


def test_a_damaged_or_foreign_file_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "database.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"database\.parquet must be a parquet file"):
        load_emoji(tmp_path)
    Dataset.from_dict({"image": [b""], "label": [0]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"database\.parquet must have the columns image, label, vendor, group"):
        load_emoji(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"image": [1]}), path)
    with pytest.raises(ValueError, match=r"database\.parquet must have the columns"):
        load_emoji(tmp_path)
