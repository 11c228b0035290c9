import json

import pytest
import yaml
from tiny_data import picture, sound, sound_bytes, write_sounds
from transformers import pipeline

from modeling_crh.data import open_source
from modeling_crh.hub.cards import model_card
from modeling_crh.hub.run_record import RunRecord

RECIPE = {
    "feature_extractor": {
        "feature_extractor_type": "ASTFeatureExtractor",
        "sampling_rate": 8000,
        "num_mel_bins": 16,
        "max_length": 16,
    },
    "model": {
        "num_bits": 16,
        "backbone_config": {
            "model_type": "audio-spectrogram-transformer",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "num_mel_bins": 16,
            "max_length": 16,
            "patch_size": 8,
            "frequency_stride": 8,
            "time_stride": 8,
        },
    },
    "training": {"num_train_epochs": 2, "per_device_train_batch_size": 8, "use_cpu": True},
}


@pytest.mark.slow
def test_a_model_of_sound_is_trained_evaluated_encoded_with_and_searched(crh, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = write_sounds(tmp_path / "tones", 8)
    (tmp_path / "sound.yaml").write_text(yaml.safe_dump(RECIPE | {"dataset": str(tmp_path / "tones")}))
    code, output, errors = crh("train", "sound.yaml", "--out", "run", "--json")
    assert code == 0, errors
    assert "sounds of 3 classes, 17 train" in errors
    figures = json.loads(output)
    assert crh("evaluate", "run", "--json")[0] == 0
    assert crh("encode", "run", "tones", "--out", "codes")[0] == 0
    assert crh("index", "codes", "--out", "tones.crh", "--model", "run")[0] == 0
    code, output, errors = crh("search", "tones.crh", str(files[3]), "--model", "run", "--html", "page.html", "--json")
    assert code == 0, errors
    (found,) = json.loads(output)["results"]
    assert found["hits"][0]["distance"] == 0
    assert pipeline("crh-hashing", model="run/model")(str(files[3]), code_format="hex")["code"] == found["code"]
    code, _, errors = crh("features", "run", "tones", "--out", "features")
    assert code == 0, errors
    assert open_source("features", features_column="features").num_rows == 24
    code, _, errors = crh("export", "run", "--out", "codes.onnx")
    assert code != 0
    assert "`model` must read images, texts or features to be exported, but reads `input_values`." in errors
    model = pipeline("crh-hashing", model="run/model").model
    card = model_card(model, "ada/tones", RunRecord(figures={"map": figures["map"]}))
    assert (card.data.pipeline_tag, card.data.eval_results[0].task_name) == ("feature-extraction", "Audio retrieval")
    assert "sounds" in card.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "`backbone` must be given to train on sounds, or a recipe such as training/recipes/audio.yaml."),
        (["--image-column", "image"], "`dataset` must hold"),
    ],
)
def test_sounds_without_a_model_of_sound_are_an_error(crh, tmp_path, options, message):
    write_sounds(tmp_path / "tones")
    code, _, errors = crh("train", "--dataset", tmp_path / "tones", "--out", tmp_path / "run", *options)
    assert code != 0
    assert message in errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"feature_extractor_type": "Wave2Vec"},
            "`feature_extractor_type` must be a class of transformers, such as AST",
        ),
        ({"num_mels": 16}, "`num_mels` is no field of `feature_extractor`; did you mean `num_mel_bins`?"),
    ],
)
def test_a_feature_extractor_that_does_not_exist_is_an_error(crh, tmp_path, settings, message):
    write_sounds(tmp_path / "tones", 8)
    fields = RECIPE | {"dataset": str(tmp_path / "tones"), "feature_extractor": RECIPE["feature_extractor"] | settings}
    (tmp_path / "sound.yaml").write_text(yaml.safe_dump(fields))
    code, _, errors = crh("train", tmp_path / "sound.yaml", "--out", tmp_path / "run")
    assert code != 0
    assert message in errors


def test_a_model_of_images_says_that_it_reads_no_sounds(crh, tmp_path, tiny_checkpoint):
    write_sounds(tmp_path / "tones")
    code, _, errors = crh("encode", tiny_checkpoint, tmp_path / "tones", "--out", tmp_path / "codes")
    assert code != 0
    assert "`source` must hold images, since the model reads images and not sounds." in errors
    (tmp_path / "photo.png").write_bytes(sound_bytes(sound(0)))
    picture(0, 0).save(tmp_path / "tones" / "cat" / "cover.png")
    errors = crh("encode", tiny_checkpoint, tmp_path / "tones", "--out", "x")[2]
    assert "must be named for a folder of both" in errors
    assert "`--image-column image` reads only the images, `--audio-column audio` only the sounds." in errors
