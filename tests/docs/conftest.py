"""A folder in which the examples of README.md and docs/ run: pictures, tiny backbones and a trained run."""

import contextlib
import shutil

import pytest
import torch
from tiny_data import picture, sound, sound_bytes, write_pictures
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.encoding import load_checkpoint
from modeling_crh.export import export_onnx
from modeling_crh.training import choose_recipe, train

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
SOUND = {"num_conv_pos_embeddings": 16, "conv_dim": [16], "conv_kernel": [10], "conv_stride": [5]}
VIT = "google/vit-base-patch16-224-in21k"
DINO = "facebook/dinov2-small"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, text_checkpoint):
    """Folder with everything that the examples name: a backbone's Hub id is a folder here, which comes first."""
    root = tmp_path_factory.mktemp("prepared")
    with contextlib.chdir(root):
        write_pictures(root / "photos", count=12)
        for number, name in enumerate(("a.jpg", "b.jpg", "a.png", "b.png", "query.jpg")):
            picture(number % 3, 20 + number).save(name)
        (root / "query.wav").write_bytes(sound_bytes(sound(0, seconds=0.5)))
        size = {"height": 16, "width": 16}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            ViTModel(ViTConfig(**TINY, intermediate_size=32)).save_pretrained(VIT)
            ViTImageProcessor(size=size).save_pretrained(VIT)
            Dinov2Model(Dinov2Config(**TINY, mlp_ratio=2)).save_pretrained(DINO)
            BitImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(DINO)
            sounds = Wav2Vec2Config(**{**TINY, **SOUND}, num_feat_extract_layers=1, intermediate_size=32)
            CRHModel(CRHConfig(backbone_config=sounds, num_labels=3)).save_pretrained("runs/recordings/model")
            Wav2Vec2FeatureExtractor().save_pretrained("runs/recordings/model")
        shutil.copytree(text_checkpoint, "runs/reviews/model")
        train(choose_recipe(dataset="photos", backbone=VIT, training={"num_train_epochs": 1}), "runs/photos")
        model, processor = load_checkpoint("runs/photos")
        export_onnx(model, "model.onnx", processor=processor)
    return root


@pytest.fixture
def workplace(prepared, tmp_path, monkeypatch):
    """A copy of that folder, as the working directory."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path
