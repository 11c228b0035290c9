import json

import numpy as np
import pytest
import torch
from tiny_backbones import WORDS, save_dual_encoder, save_timm
from tiny_runs import go_on, same_state, stop_run
from transformers import TimmWrapperImageProcessor, pipeline

from modeling_crh import CRHModel
from modeling_crh.backbones import embed
from modeling_crh.encoding import Encoder, load_backbone
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import train

TIMM = {
    "test_resnet": None,
    "test_efficientnet": None,
    "test_vit": {"img_size": 32},
    "mobilenetv3_small_050": None,
    "mobilenetv4_conv_small_035": None,
    "efficientvit_b0": {"widths": [4, 8, 16, 16, 16], "head_widths": [32, 32]},
}
OPTIONS = ["--epochs", 1, "--num-bits", 16, "--batch-size", 16]


@pytest.mark.parametrize(("architecture", "model_args"), TIMM.items())
def test_a_timm_folder_makes_a_model_that_comes_back_the_same(architecture, model_args, tmp_path, capfd):
    folder = save_timm(tmp_path / "timm", architecture, model_args)
    capfd.readouterr()
    model = CRHModel.from_backbone(str(folder), num_labels=3, num_bits=16)
    assert capfd.readouterr() == ("", "")
    model.save_pretrained(tmp_path / "saved")
    assert same_state(model, CRHModel.from_pretrained(tmp_path / "saved"))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = model.backbone.timm_model(pixels)
        assert torch.equal(embed(model.backbone, {"pixel_values": pixels})[0], theirs)


def test_the_codes_by_timms_own_processor_are_those_by_the_one_that_is_saved(image_folder, tmp_path):
    folder, paths = save_timm(tmp_path / "timm", "test_resnet"), sorted(image_folder.glob("*/*.png"))
    model = CRHModel.from_backbone(str(folder), num_labels=3, num_bits=16, initializer_range=1.0)
    timms, saved = TimmWrapperImageProcessor.from_pretrained(folder), load_backbone(folder)[1]
    expected = Encoder(model, saved).packed(paths)
    assert len({code.tobytes() for code in expected}) > 1
    hashing = pipeline("crh-hashing", model=model, image_processor=timms)
    assert np.array_equal([hashing(str(path))["code"] for path in paths], expected)


@pytest.mark.slow
def test_a_run_of_a_timm_backbone_is_resumed_exactly(image_folder, tmp_path):
    folder = save_timm(tmp_path / "timm", "test_resnet")
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "use_cpu": True}
    fields = {"dataset": str(image_folder), "backbone": str(folder), "model": {"num_bits": 16}, "training": training}
    recipe = Recipe.from_dict(fields)
    whole = train(recipe, tmp_path / "whole")
    stop_run(recipe, tmp_path / "run", 4)
    assert same_state(go_on(recipe, tmp_path / "run").model, whole.model)


@pytest.fixture
def labelled_texts(tmp_path):
    """A table of 30 texts of 3 to 19 words, in three classes."""
    generator, file = np.random.default_rng(0), tmp_path / "texts.csv"
    rows = [(" ".join(generator.choice(WORDS[row % 3 :: 3], 3 + row % 17)), row % 3) for row in range(30)]
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return file, rows[0][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "tower"),
    [("timm", None), ("clip", "vision"), ("clip", "text"), ("siglip", "vision"), ("siglip", "text")],
)
def test_a_pretrained_backbone_is_trained_searched_and_exported(
    crh, kind, tower, image_folder, labelled_texts, tmp_path
):
    run, codes, index = (tmp_path / name for name in ("run", "codes", "index.crh"))
    folder = save_timm(tmp_path / kind, "test_resnet") if tower is None else save_dual_encoder(tmp_path / kind, kind)
    chosen = [] if tower is None else ["--tower", tower]
    source = [labelled_texts[0], "--text-column", "text"] if tower == "text" else [image_folder]
    query = ["--text", labelled_texts[1]] if tower == "text" else [image_folder / "bright" / "00.png"]
    for command in (
        ["train", "--dataset", *source, "--backbone", folder, *chosen, *OPTIONS, "--out", run],
        ["evaluate", run],
        ["encode", run, *source, "--out", codes],
        ["index", codes, "--out", index],
        ["features", folder, *source, *chosen, "--out", tmp_path / "features"],
        ["export", run, "--out", tmp_path / "run.onnx"],
        ["search", index, *query, "--model", run, "--json"],
    ):
        code, output, errors = crh(*command)
        assert code == 0, errors
    assert json.loads(output)["results"][0]["hits"][0]["distance"] == 0
    assert Recipe.load(run / "recipe.yaml").model == {"num_bits": 16} | ({"tower": tower} if tower else {})


@pytest.mark.parametrize(("tower", "held"), [("vision", "images"), ("text", "texts")])
def test_data_for_another_tower_are_refused_with_the_option_that_chooses_it(
    crh, tower, held, image_folder, labelled_texts, tmp_path
):
    folder = save_dual_encoder(tmp_path / "clip")
    source = [image_folder] if tower == "vision" else [labelled_texts[0], "--text-column", "text"]
    wrong = {"vision": "text", "text": "vision"}[tower]
    sentence = f"`tower` must be '{tower}' for data that hold {held}, but is '{wrong}'; `--tower {tower}` chooses it."
    for command in (["train", "--dataset", *source, "--backbone", folder], ["features", folder, *source]):
        code, output, errors = crh(*command, "--tower", wrong, "--out", tmp_path / "out")
        assert (code, output, errors.splitlines()[-1]) == (2, "", f"Error: {sentence}")
    assert not (tmp_path / "out").exists()


def test_a_run_is_no_backbone_and_its_model_is_named(crh, tiny_checkpoint, image_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(tiny_checkpoint)
    code, output, errors = crh("train", "--dataset", image_folder, "--backbone", tmp_path / "run", "--dry-run")
    assert (code, output) == (2, "")
    assert "crh is a CRH model itself; load it by `CRHModel.from_pretrained`." in " ".join(errors.split())
