"""The same data, named the same way, in `crh train`, `crh evaluate` and `crh encode`."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from tiny_commands import done, refusal
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
    for file in write_pictures(tmp_path / "broken", 12)[3::12]:
        file.write_bytes(b"x")
    (tmp_path / "images.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


PHOTO = ["--image-column", "photo", "--label-column", "kind"]
IMAGES, CLIP, HOT = ["images.yaml"], ["--features-column", "clip"], ["--label-column", "hot"]


@pytest.mark.parametrize(
    ("recipe", "dataset", "options", "items", "left_out"),
    [
        pytest.param(IMAGES, "photos", [], 36, 0, marks=SLOW),
        pytest.param(IMAGES, "paths.csv", PHOTO, 36, 0, marks=SLOW),
        pytest.param(IMAGES, "images.parquet", [], 36, 0, marks=SLOW),
        (IMAGES, "saved", ["--image-column", "img", "--label-column", "fine_label"], 36, 0),
        (IMAGES, "broken", ["--skip-bad"], 33, 3),
        pytest.param([], "clip.parquet", ["--skip-bad", *CLIP], 35, 1, marks=SLOW),
        ([], "clip.parquet", ["--skip-bad", *CLIP, *HOT, "--multi-hot"], 35, 1),
    ],
)
def test_a_run_tells_what_its_data_are_wherever_it_is_used(crh, data, recipe, dataset, options, items, left_out):
    train = ["train", *recipe, "--dataset", dataset, *options, "--num-bits", "16", "--epochs", "1", "--json"]
    summary = done(crh(*train, "--dry-run"))
    assert (summary["num_labels"], summary["left_out"]) == (3, left_out)
    assert summary["database"] + summary["query"] == items
    trained = done(crh(*train, "--out", "run"))
    evaluated = crh("evaluate", "run", "--dataset", dataset, "--json")
    assert done(evaluated)["map"] == trained["map"]
    assert evaluated[2].count("cannot be read") == (left_out > 0)
    encoded = {"codes": "codes", "items": items, "left_out": left_out, "num_bits": 16}
    assert done(crh("encode", "run", dataset, "--out", "codes", "--json")) == encoded
    named = [*CLASSES] if "--multi-hot" not in options else [["0"], ["1"], ["2"]]
    found = pq.read_table("codes")["label"].to_pylist()
    assert all(label in named for label in found)
    assert len({str(label) for label in found}) == 3


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("broken", [], "broken/cat/03.png is not: no known image format; `--skip-bad`"),
        ("clip.parquet", CLIP, "row 5 of "),
        ("clip.parquet", [*CLIP, *HOT], "holds lists of 3 zeros and ones"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_sentence(crh, data, dataset, options, message):
    assert message in refusal(crh("train", "--dataset", dataset, *options, "--dry-run"))


def test_texts_are_skipped_and_encoded_under_the_names_of_their_classes(crh, data, text_checkpoint):
    options = ["texts.csv", "--text-column", "words", "--label-column", "topic", "--out", "codes"]
    assert "row 0 of " in refusal(crh("encode", text_checkpoint, *options))
    encoded = crh("encode", text_checkpoint, *options, "--skip-bad")
    done(encoded)
    assert "Left out 1 row that cannot be read:" in encoded[2]
    assert set(pq.read_table("codes")["label"].to_pylist()) == {"007", "NA", "010"}


def test_an_option_that_is_given_wins_over_the_run(crh, data):
    Dataset.from_csv("paths.csv").add_column("label", ["x", "y"] * 18).to_csv("both.csv")
    done(crh("train", "images.yaml", "--dataset", "both.csv", *PHOTO, "--epochs", "1", "--out", "run"))
    for given, names in (([], set(CLASSES)), (["--label-column", "label"], {"x", "y"})):
        done(crh("encode", "run", "both.csv", *given, "--out", f"codes {len(given)}"))
        assert set(pq.read_table(f"codes {len(given)}")["label"].to_pylist()) == names
    said = refusal(crh("evaluate", "run", "--seed", "7"))
    assert "`seed` must be that of the run, 0, or queries would be items of its training" in said
    done(crh("evaluate", "run", "--label-column", "label"))  # other data than the run's


def test_a_run_whose_data_have_changed_is_neither_evaluated_nor_resumed(crh, data):
    Dataset.from_csv("paths.csv").select_columns(["photo", "kind"]).to_csv("t.csv")
    train = ["train", "images.yaml", "--dataset", "t.csv", *PHOTO, "--epochs", "1", "--num-bits", "16", "--out", "run"]
    done(crh(*train))
    done(crh("evaluate", "run"))
    rows = (data / "t.csv").read_text().splitlines(keepends=True)
    for name in ("t.csv", "other.csv"):
        (data / name).write_text("".join(rows[:-1]))
    for command in (["evaluate", "run"], [*train, "--resume"]):
        assert "queries had 29 and 7 rows and now have 28 and 7" in refusal(crh(*command))
    done(crh("evaluate", "run", "--dataset", "other.csv"))


def test_a_run_on_a_column_of_features_reads_arrays_too(crh, data):
    np.save("x.npy", np.ones((3, 4), np.float32))
    train = ["train", "--dataset", "clip.parquet", *CLIP, "--skip-bad", "--epochs", "1", "--num-bits", "16"]
    done(crh(*train, "--out", "run"))
    done(crh("encode", "run", "x.npy", "--out", "codes"))
    done(crh("index", "codes", "--out", "i.crh"))
    done(crh("search", "i.crh", "x.npy", "--model", "run"))
    said = refusal(crh("encode", "run", "x.npy", "--text-column", "words", "--out", "other"))
    assert "Only one of `text_column` and `features_column` may be named" in said
