import re

import pytest
import yaml

from modeling_crh.hub.cards import MARK, PICTURES, RunRecord, is_written, model_card

KINDS = {
    "pixel_values": ("image-feature-extraction", "images"),
    "input_ids": ("feature-extraction", "texts"),
    "features": (None, "stored features"),
}


BACKBONES = {"pixel_values": "vit", "input_ids": "bert", "features": None}


@pytest.mark.parametrize("main_input_name", KINDS)
def test_the_tag_and_the_words_are_those_of_what_the_model_reads(tiny_model, main_input_name):
    card = model_card(tiny_model(BACKBONES[main_input_name], num_bits=32), "org/name", RunRecord())
    tag, words = KINDS[main_input_name]
    assert (card.data.pipeline_tag, card.data.library_name) == (tag, "transformers")
    assert f"Codes of 32 bits for {words}, learned from labels:" in card.text
    (example,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    compile(example, "example", "exec")
    assert '"org/name", trust_remote_code=True' in example


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
    for text in (
        "by `csq`",
        "Training started from `org/vit`",
        "Measured on CIFAR-10, split `query`: 1,000 queries, each against 6,000 items",
        "| Recall@5 | 0.2500 | Share of all relevant items",
        "](contact_sheet.png)",
        "](precision_recall.png)",
        "Epoch 2 was the best on the validation split, with an mAP of 0.7500",
        "protocol: disjoint",
        'revision="v2", ',
        "`a 'b'`, `c`",
        "The licence of the model is `mit`",
    ):
        assert text in card.text, text
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
