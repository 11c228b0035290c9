"""Models on the Hub; collected by test_hub.py, in whose process the Hub is a loopback one."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from tiny_backbones import save_timm
from tiny_commands import done, refusal
from tiny_inputs import CODE_FILES, assert_same_state
from tiny_runs import IMAGES, VIT, tiny_trainer
from transformers import AutoImageProcessor, AutoModel, ViTConfig, ViTImageProcessor, ViTModel, pipeline

from modeling_crh import CRHModel
from modeling_crh.codes import pack_codes
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.hub.cards import MARK
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import train

FILES = {".gitattributes", "README.md", "config.json", "model.safetensors", *CODE_FILES}
OF_THE_RUN = {"history.json", "recipe.yaml", "preprocessor_config.json"}
FIGURES = {"map": 0.8125, "map_lower": 0.75, "map_upper": 0.875, "precision_at_10": 0.5, "queries": 40, "database": 60}
SECRET = "hf_secret"


@pytest.fixture(scope="module")
def run_folder(tiny_checkpoint, tmp_path_factory):
    """A run's folder as `crh train` and `crh demo` leave it, full of what is nobody's business."""
    folder = tmp_path_factory.mktemp("of-ada") / "run"
    shutil.copytree(tiny_checkpoint, folder)
    training = {"num_train_epochs": 2, "hub_token": SECRET, "hub_model_id": "of-ada/x", "run_name": "of-ada"}
    fields = {"dataset": str(folder.parent / "cars"), "backbone": str(folder.parent / "vit"), "training": training}
    (folder / "recipe.yaml").write_text(Recipe.from_dict(fields).dump())
    (folder / "figures.json").write_text(json.dumps(FIGURES))
    history = [{"eval_map": 0.5, "epoch": 1.0}, {"eval_map": 0.75, "epoch": 2.0}]
    (folder / "history.json").write_text(json.dumps(history))
    (folder / "training_args.bin").write_bytes(b"pickle")
    for name in ("contact_sheet.png", "precision_recall.png"):
        PIL.Image.new("RGB", (8, 8)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 16, 3), dtype=np.uint8)
    return [PIL.Image.fromarray(row) for row in pixels]


def hex_codes(model, inputs, **settings):
    return [row["code"] for row in pipeline("crh-hashing", model=str(model), code_format="hex", **settings)(inputs)]


def test_push_puts_all_of_a_run_on_the_hub_and_nothing_of_the_machine(crh, run_folder, remote_files):
    summary = done(crh("push", run_folder, "ada/tiny", "--license", "apache-2.0", "--json"))
    assert (summary["repo"], summary["type"], summary["revision"]) == ("ada/tiny", "model", "main")
    files = remote_files("ada/tiny")
    assert set(files) == FILES | OF_THE_RUN | {"figures.json", "precision_recall.png"}
    for name, content in files.items():
        for private in ("of-ada", str(Path.home()), str(run_folder.parents[1]), SECRET, "_name_or_path"):
            assert name.endswith(".py") or private.encode() not in content, (name, private)
    recipe = yaml.safe_load(files["recipe.yaml"])
    assert (recipe["dataset"], recipe["training"]) == ("your-data", {"num_train_epochs": 2})
    assert Recipe.from_dict({"backbone": "org/vit"} | recipe).model == {}

    card = ModelCard.load("ada/tiny")
    card.validate()
    assert card.data.license == "apache-2.0"
    told = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert told == {name: value for name, value in FIGURES.items() if name not in ("queries", "database")}
    for text in ("40 queries, each against 60", "num_train_epochs: 2", "mAP of 0.7500", "your-data"):
        assert text in card.text
    assert "contact_sheet" not in card.text
    done(crh("push", run_folder, "ada/shown", "--with-pictures"))  # which show images of the data
    assert "contact_sheet.png" in remote_files("ada/shown")
    assert "](contact_sheet.png)" in ModelCard.load("ada/shown").text


def test_the_imported_library_needs_no_trust(crh, run_folder, images):
    crh("push", run_folder, "ada/tiny")
    expected = pipeline("crh-hashing", model=str(run_folder), code_format="hex")(images)
    for settings in ({"task": "crh-hashing"}, {}, {"trust_remote_code": True}):
        hashing = pipeline(**settings, model="ada/tiny", code_format="hex")
        assert type(hashing).__module__ == "modeling_crh.pipeline_crh"
        assert hashing(images) == expected
    assert type(AutoModel.from_pretrained("ada/tiny")) is CRHModel
    assert load_checkpoint("ada/tiny")[1].size["height"] == 16


@pytest.fixture
def cases(run_folder, text_checkpoint, tiny_model, images, tmp_path):
    """Three repositories, and what their codes are here."""
    paths = [str(tmp_path / f"{number}.png") for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    texts = ["the cat sat on the mat", "a dog", "cat"]
    CRHModel.from_pretrained(run_folder).push_to_hub("ada/tiny", run=run_folder)
    CRHModel.from_pretrained(text_checkpoint).push_to_hub("ada/texts")
    model = tiny_model(None)
    model.push_to_hub("ada/features")
    features = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    codes = [row.tobytes().hex() for row in pack_codes(model.encode(features=features)).numpy()]
    found = [{"repo": "ada/features", "kind": "features", "inputs": features.tolist(), "codes": codes}]
    for repo, folder, inputs in (("ada/tiny", run_folder, paths), ("ada/texts", text_checkpoint, texts)):
        found.append({"repo": repo, "kind": "pipeline", "inputs": inputs, "codes": hex_codes(folder, inputs)})
    return found


def test_without_the_package_the_codes_are_the_same_bits_and_a_saved_copy_works_as_well(cases, tmp_path):
    asked = {"site_packages": sysconfig.get_paths()["purelib"], "folder": str(tmp_path), "cases": cases}
    command = [sys.executable, "-I", "-S", Path(__file__).with_name("without_package.py")]
    ended = subprocess.run(command, input=json.dumps(asked), cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    for case, answer in zip(cases, json.loads(ended.stdout.splitlines()[-1]), strict=True):
        assert answer["codes"] == dict.fromkeys(answer["codes"], case["codes"]), case["repo"]
        assert "trust_remote_code=True" in answer["untrusted"]
        assert "differ in" in answer["example"]
        assert answer["files of the model alone"] == sorted([*CODE_FILES, "config.json", "model.safetensors"])
    # what the other side has saved is at home here too
    assert hex_codes(tmp_path / "ada-tiny-again", cases[1]["inputs"]) == cases[1]["codes"]


def test_what_was_loaded_from_the_hub_is_pushed_again_and_names_what_it_comes_from(run_folder, api, images):
    CRHModel.from_pretrained(run_folder).push_to_hub("ada/tiny")
    pipeline("crh-hashing", model="ada/tiny").push_to_hub("ada/again", tags=["cars"])
    config = json.loads(Path(api.hf_hub_download("ada/again", "config.json")).read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_crh.CRHModel"
    assert "cars" in ModelCard.load("ada/again").data.tags
    assert hex_codes("ada/tiny", images) == hex_codes("ada/again", images)


def test_a_card_that_somebody_has_written_stays_and_ours_is_written_anew(tiny_model, api):
    model = tiny_model(None)
    model.push_to_hub("ada/card")
    for text, kept in (("---\nlicense: mit\n---\n# By hand\n", True), ("---\nlicense: mit\n---\n", False)):
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id="ada/card")
        model.push_to_hub("ada/card")
        card = ModelCard.load("ada/card")
        assert card.data.license == "mit"
        assert ("By hand" in card.text, MARK in card.text) == (kept, not kept)


def test_a_branch_is_made_for_a_revision_and_the_main_one_stays(crh, run_folder, api):
    crh("push", run_folder, "ada/branches")
    before = api.repo_info("ada/branches").sha
    pushed = done(crh("push", run_folder, "ada/branches", "--revision", "v2", "--json"))
    assert pushed["commit"] == api.repo_info("ada/branches", revision="v2").sha != before
    assert api.repo_info("ada/branches").sha == before
    example = Path(api.hf_hub_download("ada/branches", "README.md", revision="v2")).read_text()
    assert re.search(r'model="ada/branches", revision="v2", trust_remote_code=True', example)
    assert CRHModel.from_pretrained("ada/branches", revision="v2").config.num_bits == 16


def test_the_trainer_pushes_the_model_and_no_pickle(tmp_path, remote_files):
    settings = {"push_to_hub": True, "hub_model_id": "ada/trained", "hub_private_repo": True, "save_strategy": "epoch"}
    trainer = tiny_trainer(tmp_path, eval_strategy="epoch", **settings)
    trainer.train()
    assert set(remote_files("ada/trained")) > FILES  # from the last save
    trainer.push_to_hub()
    files = remote_files("ada/trained")
    assert set(files) == FILES | {"history.json", "recipe.yaml"}
    assert not any(str(tmp_path).encode() in content for content in files.values())
    assert_same_state(CRHModel.from_pretrained("ada/trained"), trainer.model)
    card = ModelCard.load("ada/trained")
    card.validate()
    best = max(row["eval_map"] for row in trainer.state.log_history if "eval_map" in row)
    (told,) = [result for result in card.data.eval_results if result.metric_type == "map"]
    assert (told.metric_value, told.dataset_split) == (best, "validation")


def test_a_lora_run_is_pushed_merged_or_as_its_adapter_and_gives_the_same_codes(crh, tmp_path, image_folder, api):
    torch.manual_seed(0)
    ViTModel(ViTConfig(**VIT | {"image_size": 16}), add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True).save_pretrained(tmp_path / "vit")
    api.create_repo("ada/vit")
    api.upload_folder(folder_path=tmp_path / "vit", repo_id="ada/vit")
    fields = {"dataset": str(image_folder), "model": {"num_bits": 16}, "lora": {"rank": 2}}
    for backbone in ("ada/vit", str(tmp_path / "vit")):
        recipe = Recipe.from_dict(fields | {"backbone": backbone, "training": IMAGES["training"]})
        train(recipe, tmp_path / backbone.replace("/", "-"))
    run = tmp_path / "ada-vit"
    expected = CRHModel.from_pretrained(run / "model")
    for options, repo, files in (
        ([], "ada/merged", FILES),
        (["--adapter"], "ada/adapter", {".gitattributes", "README.md", "config.json", "adapter.safetensors"}),
        ([], "ada/adapter", FILES),
    ):
        done(crh("push", run, repo, *options))
        assert set(api.list_repo_files(repo)) == files | OF_THE_RUN
        loaded, processor = load_checkpoint(repo)
        assert processor is not None
        assert_same_state(loaded, expected)
        card = ModelCard.load(repo)
        card.validate()
        assert card.data.base_model == "ada/vit"
        assert ("LoRA adapter of `ada/vit`" in card.text) == bool(options)
    said = refusal(crh("push", tmp_path / str(tmp_path / "vit").replace("/", "-"), "ada/local", "--adapter"))
    assert "`adapter` must have a base on the Hub, such as 'org/name'" in said


def test_a_model_without_its_processor_is_not_pushed(tiny_model, api):
    with pytest.raises(ValueError, match="`processor` must be the model's image processor or tokenizer: none was"):
        tiny_model("vit").push_to_hub("ada/blind")
    assert not api.repo_exists("ada/blind")


def test_a_private_timm_backbone_is_loaded_by_its_token_and_pushed_with_a_processor_that_others_can_load(
    tmp_path, api, images, capfd
):
    api.create_repo("ada/timm", private=True)
    api.upload_folder(folder_path=save_timm(tmp_path / "timm", "test_resnet"), repo_id="ada/timm")
    with pytest.raises(OSError, match=r"ada/timm|401|Invalid"):
        CRHModel.from_backbone("ada/timm", num_labels=3, num_bits=16, token="hf_nobody")
    capfd.readouterr()
    model = CRHModel.from_backbone("ada/timm", num_labels=3, num_bits=16, token="hf_ada")
    assert capfd.readouterr() == ("", "")
    offline = CRHModel.from_backbone("ada/timm", num_labels=3, num_bits=16, local_files_only=True)
    assert torch.equal(offline.backbone.timm_model.conv1[0].weight, model.backbone.timm_model.conv1[0].weight)
    model.push_to_hub("ada/of-timm")
    _, processor = load_checkpoint("ada/of-timm")
    assert type(processor).__name__ == "CLIPImageProcessor"
    model.save_pretrained(tmp_path / "model")
    timms = AutoImageProcessor.from_pretrained("ada/timm")
    assert hex_codes(tmp_path / "model", images, image_processor=timms) == hex_codes("ada/of-timm", images)
