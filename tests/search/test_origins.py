"""Codes of different models, weights or precisions: what may be searched, appended and compared."""

import os
import shutil

import numpy as np
import pytest
import torch

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.search import HammingIndex
from modeling_crh.search.code_files import CodeSettings, check_same_origin, read_codes
from modeling_crh.search.queries import load_encoder

DIGESTS = "sha256:0123456789abcdef", "sha256:fedcba9876543210"


def save_model(folder, seed, **fields):
    torch.manual_seed(seed)
    model = CRHModel(CRHConfig(backbone_config=None, num_features=4, num_labels=3, num_bits=16, **fields))
    model.save_pretrained(folder)
    return model


@pytest.fixture
def made_by(tmp_path):
    """A model, and an index that records it as the maker of its codes."""
    save_model(tmp_path / "model", seed=0)
    revision = _revision(tmp_path / "model")
    return HammingIndex(np.zeros((2, 2), np.uint8), model=str(tmp_path / "model"), revision=revision)


def _revision(folder):
    from modeling_crh.encoding.loading import find_revision

    return find_revision(str(folder))


def test_a_folder_with_the_weights_of_the_index_is_its_model_wherever_it_lies(made_by, tmp_path, monkeypatch):
    shutil.move(tmp_path / "model", tmp_path / "moved")
    assert load_encoder(made_by, str(tmp_path / "moved")).model.config.num_bits == 16
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    load_encoder(made_by, os.path.join("..", "moved"))


def test_a_model_with_the_same_centers_does_not_hide_that_the_maker_was_trained_again(made_by, tmp_path):
    save_model(tmp_path / "other", seed=1, fixed_centers=True)
    load_encoder(made_by, str(tmp_path / "other"))
    save_model(tmp_path / "model", seed=2)
    with pytest.raises(ValueError, match=r"`model` must have the weights that made .* but '.*model' has others since"):
        load_encoder(made_by, str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("found", "expected", "message"),
    [
        (("a", "", "float32"), ("b", "", "float32"), "the model of the table, 'b', but got 'a'"),
        (("a", "", "bfloat16"), ("a", "", "float32"), "the dtype of the table, 'float32', but got 'bfloat16'"),
        (
            ("a", DIGESTS[0], ""),
            ("a", DIGESTS[1], ""),
            "be made by the weights of 'a' that made the codes of the table",
        ),
        (("a", DIGESTS[0], ""), ("b", DIGESTS[1], ""), "the model of the table, 'b', but got 'a'"),
    ],
)
def test_codes_of_another_origin_are_refused(found, expected, message):
    with pytest.raises(ValueError, match=f"`codes` must have {message}|`codes` must {message}"):
        check_same_origin("codes", CodeSettings(16, *found), CodeSettings(16, *expected), "the table")


def test_codes_of_one_model_under_two_names_and_of_two_commits_are_taken(capsys):
    folders = [CodeSettings(16, name, DIGESTS[0], "float32") for name in ("runs/a", "../runs/a")]
    check_same_origin("codes", *folders, "the table")
    check_same_origin("codes", CodeSettings(16, "org/a"), CodeSettings(16, "org/a", "main", "float32"), "the table")
    assert capsys.readouterr().err == ""
    commits = [CodeSettings(16, "org/a", commit) for commit in ("1234567890", "abcdef1234")]
    check_same_origin("codes", *commits, "the table")
    assert "two commits of org/a, 1234567 and abcdef1: encode again" in capsys.readouterr().err


def test_another_name_keeps_the_digest_of_weights_that_are_the_same(tmp_path, write_codes):
    save_model(tmp_path / "model", seed=0)
    revision = _revision(tmp_path / "model")
    write_codes(tmp_path / "a.parquet", metadata={"model": "runs/gone", "revision": revision, "num_bits": "32"})
    for name, expected in ((str(tmp_path / "model"), revision), ("org/elsewhere", "")):
        assert read_codes(tmp_path / "a.parquet", name)[0].revision == expected
