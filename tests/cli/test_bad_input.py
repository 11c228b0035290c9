"""Whatever is wrong with what a command is given, it says so in one sentence, ends with 2 and leaves nothing."""

import pytest
import yaml
from cli.test_sound_commands import EXTRACTOR, RECIPE
from tiny_commands import refusal
from tiny_data import picture, write_sounds


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working directory, with data and recipes that some command refuses."""
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "photos"):
        (tmp_path / folder).mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    for folder, count in (("tones", 8), ("both", 4)):
        write_sounds(tmp_path / folder, count)
    picture(0, 0).save(tmp_path / "both" / "cat" / "cover.png")
    for name, settings in (("wave", {"feature_extractor_type": "Wave2Vec"}), ("mels", {"num_mels": 16})):
        fields = RECIPE | {"dataset": "tones", "feature_extractor": EXTRACTOR | settings}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(fields))
    (tmp_path / "rows.csv").write_text("text\nthe cat\n")
    (tmp_path / "fields.csv").write_text("picture,kind\na.png,cat\n")
    (tmp_path / "rows.npy").write_bytes(b"\x93NUMPY")
    for suffix in ("parquet", "jsonl", "csv"):
        (tmp_path / f"cut.{suffix}").write_bytes(b"PAR1\0 and, no more\n1,2,3")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train nowhere.yaml", "`recipe` must be a readable YAML file, but 'nowhere.yaml' is not"),
        ("train .", "`recipe` must be a YAML file, but '.' is a folder: name data by `dataset`."),
        ("train fields.csv --out run", "must hold fields by name, but...: name data by `dataset`."),
        ("train rows.npy --out run", "must be a YAML file, but...: name data by `dataset`."),
        ("train --dataset ./nowhere/at/all", "`dataset` must be a folder, a table, the Hub id of a dataset"),
        ("train --backbone /no/such", "must be a model's folder or Hub id, but '/no/such' is not: there is no"),
        ("train --num-bits 12", "`num_bits` must be a positive multiple of 8, but got 12."),
        ("train --method itq --dry-run", "must be given for itq, which trains none, unless data are features."),
        ("train --method itq --dry-run --dataset photos", "`backbone` must be given for itq, which trains none"),
        ("train --out run --dataset tones", "`backbone` must be given to train on sounds, or a recipe such as"),
        ("train --out run --dataset tones --image-column image", "`dataset` must hold"),
        ("train --out run wave.yaml", "`feature_extractor_type` must be a class of transformers, such as AST"),
        ("train --out run mels.yaml", "`num_mels` is no field of `feature_extractor`; did you mean `num_mel_bins`?"),
        ("evaluate ./not/at/all", "CRH model's folder or Hub id, but './not/at/all' is not: there is no such"),
        ("features ./nowhere/at/all . --out features", "`backbone` must be the folder or Hub id of"),
        ("demo --data-dir .", "`data_dir` must be given with emoji only, but got '.' with fashion_mnist."),
        ("encode ./nowhere/at/all . --out codes", "`checkpoint` must be a CRH model's folder or Hub id"),
        ("encode MODEL photoz/of/2026", "`dataset` must be a folder, a table, the Hub id of a dataset, or one of the"),
        ("encode MODEL empty", "`dataset` must hold images, sounds or tables, but the folder 'empty' holds none."),
        ("encode MODEL rows.csv", "One of `image_column`, `audio_column`, `text_column` and `features_column` must"),
        ("encode MODEL rows.csv --text-column text", "`text_column` must be left out, since the model reads images"),
        ("encode MODEL photos --label-column kind", "`label_column` must be one of ['image'], but got 'kind'."),
        ("encode MODEL photos --out rows.csv", "`out` must be a folder, but 'rows.csv' is a file."),
        ("encode MODEL photos", "bad.png is not: no known image format; `--skip-bad` (`skip_bad=True`) leaves such"),
        ("encode MODEL cut.parquet", "that can be read, but 'cut.parquet' is not: "),
        ("encode MODEL cut.jsonl", "that can be read, but 'cut.jsonl' is not: "),
        ("encode MODEL cut.csv", "that can be read, but 'cut.csv' is not: "),
        ("encode MODEL tones", "`source` must hold images, since the model reads images and not sounds."),
        ("encode MODEL both", "must be named for a folder of both...`--audio-column audio` only the sounds."),
        ("encode MODEL photos --engine onnx --dtype float32", "`dtype` must be left out with `engine` 'onnx', which"),
        ("encode MODEL photos --engine onnx --compile", "`compile` must be left out with `engine` 'onnx', which"),
        ("encode MODEL photos --engine cuda", "is not one of 'torch', 'onnx'"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(crh, tiny_checkpoint, place, command, message):
    before = sorted(place.rglob("*"))
    ended = crh(*command.replace("MODEL", f"{tiny_checkpoint} --out codes").split())  # the last `--out` counts
    said = refusal(ended)
    assert all(part in said for part in message.split("..."))
    assert len(ended[2].strip().splitlines()) == 1 or "--engine cuda" in command
    assert sorted(place.rglob("*")) == before
