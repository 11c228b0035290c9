import json

import numpy as np
import onnxruntime
import PIL.Image
import pyarrow.parquet as pq
import pytest
import torch
from tiny_backbones import WORDS, save_dual_encoder, save_timm
from tiny_runs import StopAt, same_state
from transformers import TimmWrapperImageProcessor, pipeline

from modeling_crh import CRHModel
from modeling_crh.backbones import embed
from modeling_crh.encoding import Encoder
from modeling_crh.export.graph import CodesGraph
from modeling_crh.training import build as assembly
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


def packed_in(folder):
    code = pq.read_table(folder).sort_by("path")["code"].to_pylist()
    return np.stack([np.frombuffer(row, np.uint8) for row in code])


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


@pytest.mark.slow
def test_a_timm_backbone_goes_through_every_command_with_the_same_pixels(crh, image_folder, tmp_path):
    folder, run = save_timm(tmp_path / "timm", "test_resnet"), tmp_path / "run"
    code, _, errors = crh("train", "--dataset", image_folder, "--backbone", folder, *OPTIONS, "--out", run)
    assert code == 0, errors
    paths = sorted(image_folder.glob("*/*.png"))
    encoder = Encoder.load(run)
    expected = encoder.packed(paths)
    timms = TimmWrapperImageProcessor.from_pretrained(folder)
    pixels = timms([PIL.Image.open(path).convert("RGB") for path in paths])["pixel_values"]
    with torch.no_grad():
        by_hand = encoder.model(pixel_values=pixels).hash_logits
    ours = encoder.hash_logits(paths)
    assert (ours - by_hand).abs().max() < 0.02 * by_hand.abs().max()  # of timm's own pixels
    for settings in ({"model": str(run / "model")}, {"model": encoder.model, "image_processor": timms}):
        hashing = pipeline("crh-hashing", **settings)
        assert np.array_equal([hashing(str(path))["code"] for path in paths], expected)
    assert crh("encode", run, image_folder, "--out", tmp_path / "codes")[0] == 0
    assert np.array_equal(packed_in(tmp_path / "codes"), expected)
    assert crh("index", tmp_path / "codes", "--out", tmp_path / "index.crh")[0] == 0
    code, output, errors = crh("search", tmp_path / "index.crh", paths[0], "--model", run, "--json")
    assert code == 0, errors
    assert json.loads(output)["results"][0]["hits"][0]["distance"] == 0
    assert crh("evaluate", run)[0] == 0
    assert crh("features", folder, image_folder, "--out", tmp_path / "features")[0] == 0
    assert crh("export", run, "--out", tmp_path / "run.onnx")[0] == 0
    graph, session = CodesGraph(encoder.model, encoder.processor), onnxruntime.InferenceSession(tmp_path / "run.onnx")
    assert np.array_equal(session.run(["packed"], graph.read_images(paths, encoder.processor))[0], expected)


@pytest.mark.slow
def test_a_run_of_a_timm_backbone_is_resumed_exactly(image_folder, tmp_path, monkeypatch):
    folder = save_timm(tmp_path / "timm", "test_resnet")
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "use_cpu": True}
    fields = {"dataset": str(image_folder), "backbone": str(folder), "model": {"num_bits": 16}, "training": training}
    recipe = Recipe.from_dict(fields)
    whole = train(recipe, tmp_path / "whole")

    class Stopped(assembly.CRHTrainer):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.add_callback(StopAt(4))

    with monkeypatch.context() as patch:
        patch.setattr(assembly, "CRHTrainer", Stopped)
        with pytest.raises(InterruptedError):
            train(recipe, tmp_path / "run")
    assert same_state(train(recipe, tmp_path / "run", resume=True).model, whole.model)


@pytest.fixture
def labelled_texts(tmp_path):
    """A table of 30 texts of 3 to 19 words, in three classes."""
    generator, file = np.random.default_rng(0), tmp_path / "texts.csv"
    rows = [(" ".join(generator.choice(WORDS[row % 3 :: 3], 3 + row % 17)), row % 3) for row in range(30)]
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return file, rows[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_tower_of_a_dual_encoder_is_trained_searched_and_exported(
    crh, kind, tower, image_folder, labelled_texts, tmp_path
):
    folder, run, codes = save_dual_encoder(tmp_path / kind, kind), tmp_path / "run", tmp_path / "codes"
    table, text = labelled_texts
    source = [image_folder] if tower == "vision" else [table, "--text-column", "text"]
    query = [image_folder / "bright" / "00.png"] if tower == "vision" else ["--text", text]
    for command in (
        ["train", "--dataset", *source, "--backbone", folder, "--tower", tower, *OPTIONS, "--out", run],
        ["evaluate", run],
        ["encode", run, *source, "--out", codes],
        ["index", codes, "--out", tmp_path / "index.crh"],
        ["features", folder, *source, "--tower", tower, "--out", tmp_path / "features"],
        ["export", run, "--out", tmp_path / "run.onnx"],
        ["search", tmp_path / "index.crh", *query, "--model", run, "--json"],
    ):
        code, output, errors = crh(*command)
        assert code == 0, errors
    assert json.loads(output)["results"][0]["hits"][0]["distance"] == 0
    assert Recipe.load(run / "recipe.yaml").model == {"num_bits": 16, "tower": tower}


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
