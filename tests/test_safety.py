"""Tests of safety: no pickle of a model is read or written, and no code is trusted unasked."""

import ast
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, ViTModel, pipeline

import modeling_crh
from modeling_crh import CRHConfig, CRHModel
from modeling_crh.encoding import load_backbone, load_checkpoint

PACKAGE = Path(modeling_crh.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.fixture
def pickled(tiny_checkpoint, tmp_path):
    """A checkpoint whose weights are a pickle."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "pickled")
    torch.save(CRHModel.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_checkpoint_of_pickles_is_refused_in_one_sentence(pickled):
    with pytest.raises(ValueError, match=r"`checkpoint` must be .* is not: Error no file named model\.safetensors"):
        load_checkpoint(pickled)
    for load in (CRHModel, AutoModel):
        with pytest.raises(OSError, match=r"no file named model\.safetensors"):
            load.from_pretrained(pickled)
    with pytest.raises(ValueError, match="`use_safetensors` must be True, but got False"):
        CRHModel.from_pretrained(pickled, use_safetensors=False)


def test_a_backbone_of_pickles_is_refused(tiny_backbone, tmp_path):
    backbone = ViTModel(tiny_backbone("vit"))
    backbone.config.save_pretrained(tmp_path)
    torch.save(backbone.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        CRHModel.from_backbone(str(tmp_path), num_labels=3)
    with pytest.raises((OSError, ValueError), match=r"no file named model\.safetensors"):
        load_backbone(str(tmp_path))


def test_a_config_that_points_at_a_pickle_is_refused():
    saved = CRHConfig(backbone_config=None, num_features=4, num_labels=3).to_dict()
    for name in ("weights.bin", "weights.pt"):
        with pytest.raises(ValueError, match=f"`transformers_weights` must name a safetensors file, but got '{name}'"):
            CRHConfig.from_dict(saved | {"transformers_weights": name})


def test_no_source_reads_or_writes_a_pickle_or_trusts_by_itself():
    assert len(SOURCES) > 50
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(names), file
            if isinstance(node, ast.Call):
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert "trust_remote_code" not in keywords, file
                assert ast.unparse(node.func) != "torch.save", file
                assert ast.unparse(node.func) != "torch.load" or keywords["weights_only"] == "True", file


def test_code_in_a_folder_is_not_run_by_the_imported_library(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "trap")
    for file in folder.glob("*.py"):
        file.write_text("raise AssertionError('this code was run')\n")
    for settings in ({}, {"trust_remote_code": True}):  # its own code answers for its own models
        assert type(AutoModel.from_pretrained(folder, **settings)) is CRHModel
        assert pipeline("crh-hashing", model=str(folder), **settings).model.config.num_bits == 16
    load_checkpoint(folder)
