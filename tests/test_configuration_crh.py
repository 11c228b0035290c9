import json

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, ViTConfig

from modeling_crh import CRHConfig
from modeling_crh.losses import default_scale

HEAD = {"backbone_config": None, "num_features": 4, "num_labels": 100}
BACKBONES = ["vit", "dinov2", "resnet", "convnext", "bert"]


def test_the_defaults_are_those_of_the_paper():
    config = CRHConfig(**HEAD)
    assert (config.num_bits, config.codebook_size, config.head_dim, config.num_heads) == (64, 200, 8, 8)
    assert config.codebook_shape == (8, 200, 8)
    assert CRHConfig(**HEAD | {"num_bits": 24, "num_labels": 196}).codebook_shape == (2, 392, 12)
    assert config.scale == default_scale(100)
    assert (config.margin, config.quantization_weight, config.hash_head) == (0.2, 0.1, "linear")
    assert (config.problem_type, config.codebook_draws) == ("single_label_classification", 1)
    assert isinstance(CRHConfig(num_labels=100).backbone_config, ViTConfig)


def test_multi_label_data_has_no_quantization_loss_unless_asked_for():
    multi = HEAD | {"problem_type": "multi_label_classification"}
    assert CRHConfig(**multi).quantization_weight == 0
    assert CRHConfig(**multi, quantization_weight=0.3).quantization_weight == 0.3
    assert CRHConfig(**HEAD, quantization_weight=0).quantization_weight == 0


def test_what_is_given_is_not_replaced():
    config = CRHConfig(**HEAD, num_bits=48, codebook_size=150, head_dim=12, scale=3, margin=0)
    assert (config.codebook_shape, config.scale, config.margin) == ((4, 150, 12), 3, 0)
    config = CRHConfig(backbone_config=None, num_features=4, id2label={0: "cat", 1: "dog", 2: "owl"})
    assert (config.num_labels, config.codebook_size) == (3, 6)


def test_shared_words_are_all_words_of_a_few_bits():
    config = CRHConfig(**HEAD | {"num_labels": 1611}, num_bits=48, codebook="shared")
    assert (config.codebook_shape, config.word_capacity) == ((12, 16, 4), 101)
    config = CRHConfig(**HEAD, num_bits=16, codebook="shared", head_dim=2, shared_room=1)
    assert (config.codebook_shape, config.word_capacity) == ((8, 4, 2), 25)
    assert CRHConfig.from_dict(config.to_dict()).codebook_shape == (8, 4, 2)
    assert CRHConfig(**HEAD).word_capacity == 1


def test_the_scale_of_the_code_length_is_never_below_that_of_the_paper():
    assert CRHConfig(**HEAD | {"num_labels": 35}, num_bits=64, scale="num_bits").scale == 8
    assert CRHConfig(**HEAD | {"num_labels": 1611}, num_bits=64, scale="num_bits").scale == default_scale(1611)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_may_be_given_as_a_config_or_as_its_dict(tiny_backbone, name):
    backbone = tiny_backbone(name)
    by_dict = CRHConfig(backbone_config=backbone.to_dict(), num_labels=3)
    assert type(by_dict.backbone_config) is type(backbone)
    assert by_dict.to_dict() == CRHConfig(backbone_config=backbone, num_labels=3).to_dict()


@pytest.mark.parametrize("name", [None, *BACKBONES])
def test_a_saved_config_comes_back_the_same(tmp_path, tiny_backbone, name):
    inputs = {"backbone_config": tiny_backbone(name)} if name else {"backbone_config": None, "num_features": 4}
    config = CRHConfig(**inputs, id2label={0: "a", 1: "b"}, num_bits=24, margin=0.3, codebook_seed=5, hash_head="mlp")
    config.hash_head_batch_norm = True
    config.save_pretrained(tmp_path)
    for loaded in (CRHConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is CRHConfig
        saved, found = config.to_dict(), loaded.to_dict()
        assert {key for key in saved | found if saved.get(key) != found.get(key)} <= {"_name_or_path", "architectures"}
        assert type(loaded.backbone_config) is type(config.backbone_config)


def test_keys_that_another_version_of_transformers_saved_are_let_through(tmp_path):
    CRHConfig(**HEAD).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(saved | {"of_some_later_version": 1}))
    assert CRHConfig.from_pretrained(tmp_path).num_bits == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_bits": 12}, "`num_bits` must be a positive multiple of 8, but got 12"),
        ({"num_bits": -8}, "`num_bits` must be a positive multiple of 8, but got -8"),
        ({"num_bits": 8, "num_labels": 200}, "`num_bits` must be at least 16 for M=400 codewords"),
        ({"num_labels": 1}, "`num_labels` must be at least 2, but got 1"),
        ({"num_labels": "3"}, "`num_labels` must be an integer, at most 10000000, but got '3'"),
        ({"num_labels": 10**8}, "`num_labels` must be an integer, at most 10000000, but got 100000000"),
        ({"codebook_size": 99}, "`codebook_size` must be at least C=100, but got 99"),
        ({"head_dim": 12}, "`head_dim` must divide K=64, but got 12"),
        ({"head_dim": 4}, r"`head_dim` must give 2\^d words, at least M=200, but got 4, which gives 16"),
        ({"codebook": "shared", "codebook_size": 99}, r"`codebook_size` must be None or 2\^d=16 where .* but got 99"),
        (
            {"codebook": "shared", "head_dim": 16},
            "`head_dim` must be from 1 to 8 where `codebook` is 'shared', but got 16",
        ),
        ({"codebook": "shared", "shared_room": 0.9}, "`shared_room` must be at least 1, but got 0.9"),
        ({"num_features": None}, "`num_features` must be given where `backbone_config` is None, .* got None"),
        ({"num_features": 0}, "`num_features` must be at least 1, but got 0"),
        ({"backbone_config": {"model_type": "vit"}}, "`num_features` must be given .* and only there, but got 4"),
        (
            {"backbone_config": {"hidden_size": 8}, "num_features": None},
            r"`backbone_config` must name its `model_type` \(such as 'vit'\), but got .* keys \['hidden_size'\]",
        ),
        ({"problem_type": "regression"}, "`problem_type` must be 'single_label_class.* but got 'regression'"),
        *(({name: 0}, f"`{name}` must be at least 1,") for name in ("codebook_draws", "hash_head_hidden_size")),
        *(({name: -1}, f"`{name}` must be at least 0,") for name in ("codebook_seed", "quantization_weight")),
        ({"initializer_range": float("nan")}, "`initializer_range` must be at least 0, but got nan"),
        ({"scale": 0}, "`scale` must be positive, and finite, but got 0"),
        ({"hash_head_dropout": 1.0}, r"`hash_head_dropout` must lie in \[0, 1\), but got 1.0"),
        *(
            ({"prefix_bits": bits}, rf"`prefix_bits` must be ascending .* below K=64, but got \{bits}")
            for bits in ([12], [32, 16], [16, 16], [64], [0, 16], [-8])
        ),
        ({"num_bit": 64}, "`num_bit` is no field of CRHConfig; did you mean `num_bits`"),
        ({"zzz": 1}, r"`zzz` is no field of CRHConfig\.$"),
    ],
)
def test_a_field_that_breaks_its_rule_is_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        CRHConfig(**HEAD | fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_bits", value) for value in ("64", 64.0, True)),
        *(("margin", "0.2"), ("scale", "1e-3"), ("pooling", "max")),
        *(("hash_head", "deep"), ("num_features", "4"), ("backbone_config", "vit")),
    ],
)
def test_a_field_of_another_type_is_an_error_that_names_it(name, value):
    with pytest.raises((StrictDataclassError, ValueError), match=f"['`]{name}['`]"):
        CRHConfig(**HEAD | {name: value})


def test_a_saved_config_names_its_code_and_no_path_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "vit").mkdir(parents=True)
    for name, kept in (("org/vit", "org/vit"), (str(tmp_path / "vit"), None), ("models/vit", None), ("", None)):
        backbone = ViTConfig()
        backbone._name_or_path = name
        CRHConfig(backbone_config=backbone, num_labels=3).save_pretrained(tmp_path / "saved")
        saved = json.loads((tmp_path / "saved" / "config.json").read_text())
        assert saved["backbone_config"].get("_name_or_path") == kept
    assert saved["auto_map"] == {"AutoConfig": "configuration_crh.CRHConfig", "AutoModel": "modeling_crh.CRHModel"}
    assert saved["custom_pipelines"]["crh-hashing"]["impl"] == "pipeline_crh.CRHPipeline"
    loaded = CRHConfig.from_pretrained(tmp_path / "saved")
    assert list(loaded.custom_pipelines) == ["crh-hashing"]  # for `pipeline` to find the name of the task
    assert "crh-hashing" not in loaded.custom_pipelines  # which the library answers for, and not the folder
    assert loaded.to_dict()["custom_pipelines"] == saved["custom_pipelines"]
