import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_backbones import save_dual_encoder
from tiny_commands import done, refusal
from tiny_inputs import assert_same_state
from transformers import AutoTokenizer

from modeling_crh import CRHModel
from modeling_crh.encoding import Encoder, load_checkpoint

sentence_transformers = pytest.importorskip("sentence_transformers")

from modeling_crh.export.sentence_transformers_export import export_sentence_transformers  # noqa: E402

GUIDE = Path(__file__).parents[2] / "docs" / "neighbours" / "sentence-transformers.md"
TEXTS = ["the cat sat", "a dog ran on and on", "under the mat", "tree", "then " * 60, "the dog slept under a tree"]


def codes_of(folder, texts=TEXTS):
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts, precision="ubinary")


def shuffled_norms(model):
    """Give the batch norms of a head other numbers than those that they start with."""
    generator = torch.Generator().manual_seed(0)
    for norm in (part for part in model.hash_head.modules() if isinstance(part, torch.nn.BatchNorm1d)):
        for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            values.copy_(torch.rand(values.shape, generator=generator) + 0.1)
    return model


@pytest.mark.parametrize(
    "head", [{}, {"hash_head_batch_norm": True}, {"hash_head": "mlp", "hash_head_hidden_size": 24}]
)
@pytest.mark.parametrize("pooling", [None, "cls", "last"])
def test_a_folder_gives_the_packed_codes_of_the_model(
    tiny_backbone, tiny_model, text_checkpoint, tmp_path, head, pooling
):
    backbone, tokenizer = tiny_backbone("bert"), AutoTokenizer.from_pretrained(text_checkpoint)
    backbone.initializer_range = 0.5
    if head.get("hash_head") == "mlp":
        head = head | {"hash_head_batch_norm": pooling == "cls", "hash_head_dropout": 0.5}
    model = shuffled_norms(tiny_model(backbone, num_bits=64, initializer_range=1.0, pooling=pooling, **head))
    before = copy.deepcopy(model)
    folder = export_sentence_transformers(model, tmp_path / "st", tokenizer=tokenizer)
    expected = Encoder(model, tokenizer).packed(TEXTS)
    assert len(np.unique(expected, axis=0)) >= 5
    np.testing.assert_array_equal(codes_of(folder), expected)
    assert_same_state(model, before)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_prompt_comes_before_every_text_in_the_folder_too(text_checkpoint, tmp_path):
    model, tokenizer = load_checkpoint(text_checkpoint)
    without = Encoder(model, tokenizer).packed(TEXTS)
    tokenizer.init_kwargs["prompt"] = "the dog "
    expected = Encoder(model, tokenizer).packed(TEXTS)
    assert not np.array_equal(expected, without)
    folder = export_sentence_transformers(model, tmp_path / "st", tokenizer=tokenizer)
    np.testing.assert_array_equal(codes_of(folder), expected)


def test_the_command_writes_a_folder_with_a_card_that_runs(crh, text_checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "st"
    summary = done(crh("export", text_checkpoint, "--to", "sentence-transformers", "--out", folder, "--json"))
    assert summary == {"folder": str(folder), "format": "sentence-transformers", "num_bits": 64}
    np.testing.assert_array_equal(codes_of(folder), Encoder.load(text_checkpoint).packed(TEXTS))
    for place, page, start in ((folder, folder / "README.md", "```python\n"), (tmp_path, GUIDE, "```py\n")):
        monkeypatch.chdir(place)
        found = {}
        exec(page.read_text().partition(start)[2].partition("```")[0].replace('"reviews"', '"st"'), found)
        assert found["packed"].shape == (2, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "`precision` must be left out for sentence-transformers, but got 'int8'"),
        (["--pixel-values"], "`pixel_values` must be left out for sentence-transformers"),
        (["--calibration", "."], "`calibration` must be left out for sentence-transformers"),
    ],
)
def test_options_of_another_format_are_an_error(crh, text_checkpoint, tmp_path, options, message):
    data = ("export", text_checkpoint, "--to", "sentence-transformers", "--out", tmp_path / "st")
    assert message in refusal(crh(*data, *options))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_sentence_transformers_has_no_modules_for_is_an_error(
    tiny_model, tiny_checkpoint, text_checkpoint, tmp_path
):
    model, processor = load_checkpoint(tiny_checkpoint)
    with pytest.raises(ValueError, match="`model` must read texts for sentence-transformers, but reads `pixel_values`"):
        export_sentence_transformers(model, tmp_path / "st", tokenizer=processor)
    clip = CRHModel.from_backbone(str(save_dual_encoder(tmp_path / "clip")), num_labels=3, num_bits=16, tower="text")
    with pytest.raises(ValueError, match="but clip is the text tower of a dual encoder"):
        export_sentence_transformers(clip, tmp_path / "st", tokenizer=processor)
    texts, tokenizer = load_checkpoint(text_checkpoint)
    (tmp_path / "st").mkdir()
    (tmp_path / "st" / "mine").touch()
    with pytest.raises(ValueError, match="`folder` must be new or empty"):
        export_sentence_transformers(texts, tmp_path / "st", tokenizer=tokenizer)


def test_nothing_is_written_if_the_codes_are_others(text_checkpoint, tmp_path, monkeypatch):
    model, tokenizer = load_checkpoint(text_checkpoint)
    monkeypatch.setattr("modeling_crh.export.sentence_transformers_export.token_pooling", lambda backbone: "cls")
    with pytest.raises(ValueError, match="must give the same codes under sentence-transformers as under torch"):
        export_sentence_transformers(model, tmp_path / "st", tokenizer=tokenizer)
    assert list(tmp_path.iterdir()) == []
