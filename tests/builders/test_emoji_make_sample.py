import io
import json
import sys

import numpy as np
import PIL.Image
import pytest
from datasets import Dataset
from emoji_make_sample import main, make_emoji_sample

from modeling_crh.data.benchmarks.emoji import emoji_features, load_emoji
from modeling_crh.data.columns import class_levels, label_tensor

VENDORS = {"noto": "Apache-2.0", "openmoji": "CC-BY-SA-4.0", "twemoji": "CC-BY-4.0", "fluent": "MIT"}
SMALL = {"num_subgroups": 2, "classes_per_subgroup": 2, "min_drawings": 3}


def picture(label, vendor):
    file = io.BytesIO()
    PIL.Image.new("RGB", (96, 96), (label, vendor, 7)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def build(tmp_path):
    """Eight classes in four subgroups of two, by four vendors; the first class lacks one, so its subgroup is small."""
    folder = tmp_path / "build"
    folder.mkdir()
    rows = [(label, vendor) for label in range(8) for vendor in range(4) if (label, vendor) != (0, 0)]
    labels = [label for label, _ in rows]
    columns = {"image": [picture(*row) for row in rows], "label": labels, "vendor": [vendor for _, vendor in rows]}
    columns |= {"group": [label // 4 for label in labels], "subgroup": [label // 2 for label in labels]}
    columns |= {"name": [f"name {label}" for label in labels]}
    features = emoji_features(list("abcdefgh"), list(VENDORS), ["G", "H"], list("pqrs"))
    dataset = Dataset.from_dict(columns, features=features)
    is_query = np.arange(len(dataset)) % 4 > 1
    dataset.select(np.flatnonzero(~is_query)).to_parquet(folder / "database.parquet")
    dataset.select(np.flatnonzero(is_query)).to_parquet(folder / "query.parquet")
    about = {"vendors": {vendor: {"license": {"spdx": licence}} for vendor, licence in VENDORS.items()}}
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def test_whole_subgroups_are_drawn_without_the_vendors_that_ask_to_share_alike(build, tmp_path):
    make_emoji_sample(build, tmp_path / "out", **SMALL)
    database, query = load_emoji(tmp_path / "out")
    assert database.features["vendor"].names == ["noto", "twemoji", "fluent"]
    assert label_tensor(query).bincount().tolist() == [2] * 4
    assert label_tensor(database).bincount().tolist() == [1] * 4
    subgroups = class_levels(database)["subgroup"]
    assert subgroups[0] == subgroups[1] != subgroups[2] == subgroups[3]
    assert "p" not in database.features["subgroup"].names


def test_pixels_and_names_are_those_of_the_build(build, tmp_path):
    make_emoji_sample(build, tmp_path / "out", **SMALL)
    for dataset in load_emoji(tmp_path / "out"):
        for row in dataset:
            label = "abcdefgh".index(dataset.features["label"].int2str(row["label"]))
            vendor = list(VENDORS).index(dataset.features["vendor"].int2str(row["vendor"]))
            assert row["image"].getpixel((50, 50)) == (label, vendor, 7)
            assert row["image"].format == "WEBP"
            assert row["name"] == f"name {label}"


def test_the_same_files_come_out_twice(build, tmp_path):
    for out in ("first", "second"):
        make_emoji_sample(build, tmp_path / out, **SMALL)
    for name in ("database.parquet", "query.parquet"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_too_few_subgroups_end_the_command_with_one_sentence(build, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["emoji_make_sample", str(build), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "`build_dir` must have 40 subgroups of 5 classes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
