from functools import partial

import pytest
from datasets import Dataset
from tiny_inputs import plain_tokenizer

from modeling_crh.data import prepare_dataset
from modeling_crh.encoding.labelled_items import TextDataset

WORDS = ["[PAD]", "[UNK]", "a", "cat", "sat", "down"]


@pytest.fixture
def make_tokenizer():
    """A tokenizer of four words, which takes six tokens."""
    return partial(plain_tokenizer, WORDS, model_max_length=6)


def table_of(texts):
    rows = Dataset.from_dict({"text": texts, "label": [str(row) for row in range(len(texts))]})
    return prepare_dataset(rows, text_column="text")


def test_the_texts_of_a_batch_are_padded_to_the_longest_of_them(make_tokenizer):
    texts = TextDataset(table_of(["a cat", "a cat sat down", "dog"]), make_tokenizer())
    inputs = texts.inputs([0, 2])
    assert inputs["input_ids"].tolist() == [[2, 3], [1, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert texts.inputs([1, 0])["input_ids"].tolist() == [[2, 3, 4, 5], [2, 3, 0, 0]]
    assert texts[1]["labels"].item() == 1


def test_a_text_is_cut_to_what_the_model_takes(make_tokenizer):
    table = table_of(["cat " * 9, "sat"])
    assert TextDataset(table, make_tokenizer())[0]["input_ids"].tolist() == [3] * 6


def test_a_missing_text_is_an_error_that_names_its_row(make_tokenizer):
    with pytest.raises(ValueError, match="`text` must be a string, but row 1 has None"):
        TextDataset(table_of(["a", None]), make_tokenizer())
    with pytest.raises(ValueError, match="`text` must be a string, but row 0 has 7"):
        TextDataset(table_of([7, 8]), make_tokenizer())


def test_a_tokenizer_that_cannot_pad_is_an_error(make_tokenizer):
    with pytest.raises(ValueError, match="`tokenizer` must have a padding token, but has none"):
        TextDataset(table_of(["a", "cat"]), make_tokenizer(pad_token=None))


def test_a_table_without_texts_is_an_error(make_tokenizer):
    with pytest.raises(ValueError, match=r"`dataset` must have a column `text`, but has \['label'\]"):
        TextDataset(table_of(["a", "cat"]).remove_columns("text"), make_tokenizer())
