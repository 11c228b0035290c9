import dataclasses
import json
import re

import pytest
import yaml
from transformers import CLIPConfig, TrainingArguments

from modeling_crh import CRHConfig
from modeling_crh.data.benchmarks import BENCHMARKS
from modeling_crh.hub import run_record
from modeling_crh.hub.cards import MARK, is_written, model_card
from modeling_crh.hub.run_record import OWN_DATA, PICTURES, RunRecord, public_config, public_recipe, read_run
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.recipe import Recipe


@pytest.mark.parametrize(
    ("backbone", "tag", "words"),
    [
        ("vit", "image-feature-extraction", "images"),
        ("bert", "feature-extraction", "texts"),
        (None, None, "stored features"),
    ],
)
def test_the_tag_and_the_words_are_those_of_what_the_model_reads(tiny_model, backbone, tag, words):
    card = model_card(tiny_model(backbone, num_bits=32), "org/name", RunRecord())
    assert (card.data.pipeline_tag, card.data.library_name) == (tag, "transformers")
    assert f"Codes of 32 bits for {words}, learned from labels:" in card.text
    (example,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    compile(example, "example", "exec")
    assert '"org/name", trust_remote_code=True' in example
    assert ("crh export org/name --to sentence-transformers" in card.text) == (backbone == "bert")


def test_a_run_is_told_in_metadata_and_in_words(tiny_model, tmp_path):
    run = RunRecord(
        figures={"map": 0.5, "recall_at_5": 0.25, "queries": 1000, "database": 6000},
        recipe={"dataset": "cifar10", "protocol": "disjoint", "backbone": "org/vit", "method": "csq"},
        history=[{"eval_map": 0.75, "epoch": 2.0}, {"eval_map": 0.5, "epoch": 3.0}, {"loss": 1.0}],
        pictures={name: tmp_path / name for name in PICTURES},
    )
    model = tiny_model(num_labels=2, id2label={0: "a `b`\n", 1: "c"})
    card = model_card(model, "org/name", run, license="mit", revision="v2", tags=["cars", "hashing"])
    data = yaml.safe_load(card.content.split("---\n")[1])
    assert (data["base_model"], data["datasets"], data["license"]) == ("org/vit", ["uoft-cs/cifar10"], "mit")
    assert data["tags"] == ["hashing", "binary-codes", "modeling-crh", "cars"]
    (index,) = data["model-index"]
    (result,) = index["results"]
    assert result["dataset"] == {"name": "CIFAR-10", "type": "uoft-cs/cifar10", "split": "query"}
    assert {row["type"]: row["value"] for row in result["metrics"]} == {"map": 0.5, "recall_at_5": 0.25}
    texts = ["by `csq`", "Training started from `org/vit`", "](contact_sheet.png)", "](precision_recall.png)"]
    texts += ["Measured on CIFAR-10, split `query`: 1,000 queries, each against 6,000 items"]
    texts += ["| Recall@5 | 0.2500 | Share of all relevant items", "protocol: disjoint", 'revision="v2", ']
    texts += ["Epoch 2 was the best on the validation split, with an mAP of 0.7500", "`a 'b'`, `c`"]
    assert [text for text in [*texts, "The licence of the model is `mit`"] if text not in card.text] == []
    assert "holds the items of the training" not in card.text


def test_what_is_not_known_is_not_made_up(tiny_model):
    card = model_card(tiny_model(None), "org/name", RunRecord())
    assert not {"license", "base_model", "datasets", "model-index", "pipeline_tag"} & set(card.data.to_dict())
    for text in ("No figures were recorded", "Nothing was recorded", "No licence was stated"):
        assert text in card.text


@pytest.mark.parametrize(
    ("card", "written"),
    [
        (None, False),
        ("", False),
        ("---\nlicense: mit\n---\n", False),
        ("---\nlicense: mit\n---\n\n# Cars\n", True),
        ("# Cars\n", True),
        (f"---\nlicense: mit\n---\n# Cars\n{MARK}\n", False),
        ("---\na: b\n---\nThis model card has been automatically generated.", False),
        ("---\na: b\n---\nSee https://huggingface.co/docs/hub/spaces-config-reference", False),
    ],
)
def test_a_card_with_a_text_that_no_library_wrote_was_written_by_somebody(card, written):
    assert is_written(card) == written


def test_a_public_recipe_names_no_path_no_account_and_no_secret():
    training = {"learning_rate": 0.1, "an_option_of_a_later_version": "ada", "hub_token": "hf_secret"}
    training |= {"hub_model_id": "ada/x", "push_to_hub": True, "run_name": "ada", "logging_dir": "logs"}
    training |= {"deepspeed": "~/deepspeed.json", "report_to": ["tensorboard", "C:\\ada"]}
    stays = {"model": {"num_bits": 32, "backbone_config": {"model_type": "vit", "_name_or_path": "org/vit"}}}
    stays |= {"augmentation": "light"}
    recipe = {"dataset": "pictures/of/ada", "data_dir": "/home/ada/data", "backbone": "/home/ada/vit"}
    recipe |= {"allow_urls": ["pictures.ada.example"], "comment": "of Ada's shop", "training": training}
    public = {"dataset": OWN_DATA, "training": {"learning_rate": 0.1, "report_to": ["tensorboard"]}}
    assert public_recipe(recipe | stays) == public | stays


@pytest.mark.parametrize(
    ("recipe", "public"),
    [
        ({"lora": {"rank": 4, "target_modules": ["q", "/ada/x"], "ada": "x"}}, {"rank": 4, "target_modules": ["q"]}),
        ({"lora": {"rank": {"/home/ada": 1, "q": 2}}}, {"rank": {"q": 2}}),
        ({"augmentation": {"flip": 0.5, "ada": "x"}}, {"flip": 0.5}),
        ({"augmentation": [{"ada": "x"}]}, None),
        ({"method_settings": {"margin": 1, "token": "ada"}}, {"margin": 1}),
        ({"image_processor": {"size": {"height": 8}, "do_resize": True, "token": "ada"}}, ...),
        ({"feature_extractor": {"feature_extractor_type": "ASTFeatureExtractor", "token": "ada"}}, ...),
        ({"training": {"lr_scheduler_kwargs": {"token": "ada"}, "max_steps": 5}}, {"max_steps": 5}),
        ({"training": ["ada"]}, None),
        ({"model": "ada"}, None),
        ({"model": {"backbone_config": "ada"}}, {}),
        ({"model": {"backbone_config": {"model_type": "clip", "text_config": {"width": 8, "token": "ada"}}}}, ...),
        ({"dataset": ["ada"]}, OWN_DATA),
    ],
    ids=str,
)
def test_what_stands_deeper_in_a_recipe_is_listed_or_a_number(recipe, public):
    found = public_recipe(recipe)
    assert "ada" not in json.dumps(found)
    (name,) = recipe
    assert len(found[name]) > 0 if public is ... else found.get(name) == public


def test_what_is_public_already_stays():
    recipe = Recipe.from_dict({"dataset": "cifar10", "backbone": "org/vit", "training": {"num_train_epochs": 3}})
    dumped = yaml.safe_load(recipe.dump())
    assert Recipe.from_dict(public_recipe(dumped)) == recipe


def test_settings_of_this_library_and_names_of_its_benchmarks_are_public():
    assert set(run_record.BENCHMARKS) == set(BENCHMARKS)
    own, inherited = (
        {entry.name for entry in dataclasses.fields(kind)} for kind in (CRHTrainingArguments, TrainingArguments)
    )
    recipe = {"model": {name: 1 for name in CRHConfig.__annotations__}, "training": dict.fromkeys(own - inherited, 1)}
    assert public_recipe(recipe) == recipe


def test_a_public_config_has_the_fields_of_its_classes_alone(tmp_path):
    config = CRHConfig(backbone_config=CLIPConfig(vision_config={"hidden_size": 36}), num_labels=3)
    config.note = config.backbone_config.note = config.backbone_config.vision_config.note = "of Ada's shop"
    config.backbone_config.vision_config._name_or_path = "ada-vit"
    config.backbone_config.text_config._name_or_path = "org/bert"
    config.backbone_config.tries = [1, 2]
    config.save_pretrained(tmp_path)
    public = public_config(json.loads((tmp_path / "config.json").read_text()), CRHConfig)
    assert "ada" not in json.dumps(public).lower()
    assert public["backbone_config"]["text_config"]["_name_or_path"] == "org/bert"
    assert public["backbone_config"]["tries"] == [1, 2]
    (tmp_path / "config.json").write_text(json.dumps(public))
    assert CRHConfig.from_pretrained(tmp_path).to_dict()["backbone_config"]["vision_config"]["hidden_size"] == 36


@pytest.mark.parametrize("name", ["vit-of-ada", "../vit", "/home/ada/vit"])
def test_a_name_without_an_owner_is_no_base_model(name, tiny_model):
    model = tiny_model("vit")
    model.config.backbone_config._name_or_path = name
    card = model_card(model, "org/name", RunRecord(recipe=public_recipe({"backbone": name, "dataset": "cifar10"})))
    assert "base_model" not in card.data.to_dict()
    assert "ada" not in str(card)


def test_a_folder_named_like_a_backbone_on_the_hub_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "vit").mkdir(parents=True)
    assert public_recipe({"backbone": "org/vit"}) == {}
    assert public_recipe({"backbone": "org/resnet"}) == {"backbone": "org/resnet"}


def test_a_record_that_was_saved_is_read_again_with_numbers_under_plain_names_alone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    assert read_run(one) == RunRecord(history=[])
    RunRecord(figures={"map": 0.5}, split="validation").save(one)  # which are not those of queries
    assert list(one.iterdir()) == []
    (one / "contact_sheet.png").write_bytes(b"picture")
    figures = {"map": 0.5, "worst": float("nan"), "name": "x", "/home/ada": 1, "<b>x</b>": 2, "precision@5": 3}
    (one / "figures.json").write_text(json.dumps(figures))
    (one / "history.json").write_text('[{"eval_map": 0.5, "run": "ada", "epoch": 1}]')
    (one / "recipe.yaml").write_text("dataset: cifar10\n")
    assert read_run(one).pictures == {}  # it shows images of the data
    record = read_run(one, with_pictures=True)
    (two / "model").mkdir(parents=True)
    record.save(two)
    again = read_run(two / "model", with_pictures=True)
    assert (again.figures, again.history, again.recipe) == (record.figures, record.history, record.recipe)
    assert (again.figures, again.history) == ({"map": 0.5, "precision@5": 3}, [{"eval_map": 0.5, "epoch": 1}])
    assert again.pictures["contact_sheet.png"].read_bytes() == b"picture"


def test_no_name_of_a_class_changes_the_form_of_a_card_or_the_direction_of_reading(tiny_model):
    names = dict(enumerate(["]] \n---\nlicense: x\n---", "\u202e`<b>{{ 7 * 7 }}\x1b[2J", "\u2028---\x00"]))
    card = model_card(tiny_model(None, id2label=names, label2id={}), "org/name", RunRecord())
    assert card.data.to_dict().get("license") is None
    assert "(`]] --- license: x ---`, `\ufffd'<b>{{ 7 * 7 }}\ufffd[2J`, `---\ufffd`)" in card.text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("figures.json", "{"), ("figures.json", "[1]"), ("history.json", "[1]"), ("history.json", "[" * 2000)),
        *(("recipe.yaml", "a: ["), ("recipe.yaml", "lora: &a {x: *a}"), ("recipe.yaml", "[" * 2000)),
    ],
    ids=range(7),
)
def test_a_damaged_file_and_a_folder_that_is_not_there_are_errors(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="`run` must hold complete files, but"):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="`run` must be a folder, but got"):
        read_run(tmp_path / "nowhere")
