"""The same data, named the same way, in `crh train`, `crh evaluate` and `crh encode`."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from tiny_data import CLASSES, write_pictures
from tiny_runs import IMAGES as RECIPE

SLOW = pytest.mark.slow


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Every form of data with three classes, in the working directory."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    files = write_pictures(tmp_path / "photos", 12)
    labels = [file.parent.name for file in files]
    paths = [str(file.relative_to(tmp_path)) for file in files]
    Dataset.from_dict({"photo": paths, "kind": labels}).to_csv("paths.csv")
    structs = [{"bytes": file.read_bytes(), "path": None} for file in files]
    features = Features({"img": Image(), "fine_label": ClassLabel(names=list(CLASSES))})
    Dataset.from_dict({"image": structs, "label": labels}).to_parquet("images.parquet")
    ids = [CLASSES.index(label) for label in labels]
    Dataset.from_dict({"img": structs, "fine_label": ids}, features=features).save_to_disk("saved")
    texts = [["the cat sat", "a dog ran", "under mat tree"][number] for number in ids]
    Dataset.from_dict({"words": ["", *texts[1:]], "topic": [["007", "NA", "010"][n] for n in ids]}).to_csv("texts.csv")
    values = np.random.default_rng(0).normal(size=(36, 4)).astype(np.float32)
    values[5] = np.nan
    hot = np.eye(3, dtype=int)[ids].tolist()
    Dataset.from_dict({"clip": values.tolist(), "label": labels, "hot": hot}).to_parquet("clip.parquet")
    (tmp_path / "broken").mkdir()
    for file in files:
        (tmp_path / "broken" / file.parent.name).mkdir(exist_ok=True)
        (tmp_path / "broken" / file.parent.name / file.name).write_bytes(
            file.read_bytes() if file.stem != "03" else b"x"
        )
    (tmp_path / "images.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


IMAGES, CLIP = ["images.yaml"], ["--features-column", "clip"]


@pytest.mark.parametrize(
    ("recipe", "dataset", "options", "items", "left_out"),
    [
        pytest.param(IMAGES, "photos", [], 36, 0, marks=SLOW),
        pytest.param(IMAGES, "paths.csv", ["--image-column", "photo", "--label-column", "kind"], 36, 0, marks=SLOW),
        pytest.param(IMAGES, "images.parquet", [], 36, 0, marks=SLOW),
        (IMAGES, "saved", ["--image-column", "img", "--label-column", "fine_label"], 36, 0),
        (IMAGES, "broken", ["--skip-bad"], 33, 3),
        pytest.param([], "clip.parquet", ["--skip-bad", "--features-column", "clip"], 35, 1, marks=SLOW),
        (
            [],
            "clip.parquet",
            ["--skip-bad", "--features-column", "clip", "--label-column", "hot", "--multi-hot"],
            35,
            1,
        ),
    ],
)
def test_a_run_tells_what_its_data_are_wherever_it_is_used(crh, data, recipe, dataset, options, items, left_out):
    small = ["--num-bits", "16", "--epochs", "1"]
    code, output, errors = crh("train", *recipe, "--dataset", dataset, *options, *small, "--dry-run", "--json")
    assert code == 0, errors
    summary = json.loads(output)
    assert (summary["num_labels"], summary["left_out"]) == (3, left_out)
    assert summary["database"] + summary["query"] == items
    code, output, errors = crh("train", *recipe, "--dataset", dataset, *options, *small, "--out", "run", "--json")
    assert code == 0, errors
    trained = json.loads(output)
    code, output, errors = crh("evaluate", "run", "--dataset", dataset, "--json")
    assert code == 0, errors
    assert json.loads(output)["map"] == trained["map"]
    assert errors.count("cannot be read") == (left_out > 0)
    code, output, errors = crh("encode", "run", dataset, "--out", "codes", "--json")
    assert code == 0, errors
    assert json.loads(output) == {"codes": "codes", "items": items, "left_out": left_out, "num_bits": 16}
    named = [*CLASSES] if "--multi-hot" not in options else [["0"], ["1"], ["2"]]
    found = pq.read_table("codes")["label"].to_pylist()
    assert all(label in named for label in found)
    assert len({str(label) for label in found}) == 3


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("broken", [], "broken/cat/03.png is not: no known image format; `--skip-bad`"),
        ("clip.parquet", ["--features-column", "clip"], "row 5 of "),
        ("clip.parquet", ["--features-column", "clip", "--label-column", "hot"], "holds lists of 3 zeros and ones"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_sentence(crh, data, dataset, options, message):
    code, output, errors = crh("train", "--dataset", dataset, *options, "--dry-run")
    assert (code, output) == (2, "")
    assert message in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors


def test_texts_are_skipped_and_encoded_under_the_names_of_their_classes(crh, data, text_checkpoint):
    options = ["--text-column", "words", "--label-column", "topic"]
    code, _, errors = crh("encode", text_checkpoint, "texts.csv", *options, "--out", "codes")
    assert (code, "row 0 of " in errors) == (2, True)
    code, _, errors = crh("encode", text_checkpoint, "texts.csv", *options, "--out", "codes", "--skip-bad")
    assert code == 0, errors
    assert "Left out 1 row that cannot be read:" in errors
    assert set(pq.read_table("codes")["label"].to_pylist()) == {"007", "NA", "010"}


def test_an_option_that_is_given_wins_over_the_run(crh, data):
    Dataset.from_csv("paths.csv").add_column("label", ["x", "y"] * 18).to_csv("both.csv")
    options = ["--image-column", "photo", "--label-column", "kind", "--epochs", "1"]
    code, _, errors = crh("train", "images.yaml", "--dataset", "both.csv", *options, "--out", "run")
    assert code == 0, errors
    for given, names in (([], set(CLASSES)), (["--label-column", "label"], {"x", "y"})):
        code, _, errors = crh("encode", "run", "both.csv", *given, "--out", f"codes {len(given)}")
        assert code == 0, errors
        assert set(pq.read_table(f"codes {len(given)}")["label"].to_pylist()) == names
    code, _, errors = crh("evaluate", "run", "--seed", "7")
    assert code == 2
    assert "`seed` must be that of the run, 0, or queries would be items of its training" in errors
    code, _, errors = crh("evaluate", "run", "--label-column", "label")  # other data than the run's
    assert code == 0, errors


def test_a_run_whose_data_have_changed_is_neither_evaluated_nor_resumed(crh, data):
    Dataset.from_csv("paths.csv").select_columns(["photo", "kind"]).to_csv("t.csv")
    options = ["--image-column", "photo", "--label-column", "kind", "--epochs", "1", "--num-bits", "16"]
    train = ["train", "images.yaml", "--dataset", "t.csv", *options, "--out", "run"]
    assert crh(*train)[0] == 0
    assert crh("evaluate", "run")[0] == 0
    rows = (data / "t.csv").read_text().splitlines(keepends=True)
    (data / "t.csv").write_text("".join(rows[:-1]))
    for command in (["evaluate", "run"], [*train, "--resume"]):
        code, output, errors = crh(*command)
        assert (code, output) == (2, "")
        assert "queries had 29 and 7 rows and now have 28 and 7" in " ".join(errors.split())
    (data / "other.csv").write_text("".join(rows[:-1]))
    code, _, errors = crh("evaluate", "run", "--dataset", "other.csv")
    assert code == 0, errors


def test_a_run_on_a_column_of_features_reads_arrays_too(crh, data):
    np.save("x.npy", np.ones((3, 4), np.float32))
    options = ["--features-column", "clip", "--skip-bad", "--epochs", "1", "--num-bits", "16"]
    code, _, errors = crh("train", "--dataset", "clip.parquet", *options, "--out", "run")
    assert code == 0, errors
    code, _, errors = crh("encode", "run", "x.npy", "--out", "codes")
    assert code == 0, errors
    assert crh("index", "codes", "--out", "i.crh")[0] == 0
    code, _, errors = crh("search", "i.crh", "x.npy", "--model", "run")
    assert code == 0, errors
    code, _, errors = crh("encode", "run", "x.npy", "--text-column", "words", "--out", "other")
    assert (code, "Only one of `text_column` and `features_column` may be named" in errors) == (2, True)


def test_a_method_that_trains_nothing_needs_a_backbone_or_features(crh, data):
    for dataset in ([], ["--dataset", "photos"]):
        code, output, errors = crh("train", *dataset, "--method", "itq", "--dry-run")
        assert (code, output) == (2, "")
        assert "`backbone` must be given for itq, which trains none, unless data are features." in " ".join(
            errors.split()
        )
