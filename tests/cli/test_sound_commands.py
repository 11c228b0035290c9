import pytest
import yaml
from tiny_commands import done, refusal
from tiny_data import write_sounds
from transformers import pipeline

from modeling_crh.data import open_source
from modeling_crh.hub.cards import model_card
from modeling_crh.hub.run_record import RunRecord

EXTRACTOR = {"num_mel_bins": 16, "max_length": 16}
BACKBONE = {"model_type": "audio-spectrogram-transformer", "hidden_size": 16, "num_hidden_layers": 1}
BACKBONE |= {"num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}
BACKBONE |= {"frequency_stride": 8, "time_stride": 8} | EXTRACTOR
EXTRACTOR |= {"feature_extractor_type": "ASTFeatureExtractor", "sampling_rate": 8000}
RECIPE = {
    "feature_extractor": EXTRACTOR,
    "model": {"num_bits": 16, "backbone_config": BACKBONE},
    "training": {"num_train_epochs": 2, "per_device_train_batch_size": 8, "use_cpu": True},
}


@pytest.mark.slow
def test_a_model_of_sound_is_trained_evaluated_encoded_with_and_searched(crh, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = write_sounds(tmp_path / "tones", 8)
    (tmp_path / "sound.yaml").write_text(yaml.safe_dump(RECIPE | {"dataset": str(tmp_path / "tones")}))
    trained = crh("train", "sound.yaml", "--out", "run", "--json")
    figures = done(trained)
    assert "sounds of 3 classes, 17 train" in trained[2]
    done(crh("evaluate", "run", "--json"))
    done(crh("encode", "run", "tones", "--out", "codes"))
    done(crh("index", "codes", "--out", "tones.crh", "--model", "run"))
    search = ["search", "tones.crh", str(files[3]), "--model", "run", "--html", "page.html", "--json"]
    (found,) = done(crh(*search))["results"]
    assert found["hits"][0]["distance"] == 0
    assert pipeline("crh-hashing", model="run/model")(str(files[3]), code_format="hex")["code"] == found["code"]
    done(crh("features", "run", "tones", "--out", "features"))
    assert open_source("features", features_column="features").num_rows == 24
    said = refusal(crh("export", "run", "--out", "codes.onnx"))
    assert "`model` must read images, texts or features to be exported, but reads `input_values`." in said
    model = pipeline("crh-hashing", model="run/model").model
    card = model_card(model, "ada/tones", RunRecord(figures={"map": figures["map"]}))
    assert (card.data.pipeline_tag, card.data.eval_results[0].task_name) == ("feature-extraction", "Audio retrieval")
    assert "sounds" in card.text
