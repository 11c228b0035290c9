import numpy as np
import PIL.Image
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List
from tiny_inputs import plain_tokenizer
from torch.utils.data import DataLoader
from transformers import ViTImageProcessor, Wav2Vec2FeatureExtractor

from modeling_crh.data import prepare_dataset
from modeling_crh.encoding.items import labelled_dataset
from modeling_crh.encoding.labelled_items import FeatureDataset, LabelledDataset, TextDataset, sample_draws

CLASSES = ClassLabel(names=["ant", "bee", "cow"])
WORDS = ["[PAD]", "[UNK]", "a", "cat", "sat", "down"]


class Numbers(LabelledDataset):
    """Inputs that tell their row and the epoch."""

    def inputs(self, rows, samples=None):
        return {"row": torch.tensor(rows), "epoch": torch.full((len(rows),), self.epoch)}


def numbers_of(labels, feature=CLASSES):
    return Numbers(Dataset.from_dict({"label": labels}, features=Features({"label": feature})))


def test_a_sample_is_the_inputs_of_its_row_and_its_label():
    numbers = numbers_of([2, 0, 1])
    assert len(numbers) == 3
    assert {name: value.item() for name, value in numbers[1].items()} == {"row": 1, "epoch": 0, "labels": 0}
    assert [sample["labels"].item() for sample in numbers.__getitems__([2, 0])] == [1, 2]
    assert (numbers.label_names, numbers.num_labels, numbers.is_multi_label) == (["ant", "bee", "cow"], 3, False)
    assert numbers.labels.dtype == torch.int64


def test_lists_of_labels_are_multi_hot():
    numbers = numbers_of([[0, 2], []], List(CLASSES))
    assert numbers.is_multi_label
    assert numbers[0]["labels"].tolist() == [1, 0, 1]
    assert numbers[1]["labels"].tolist() == [0, 0, 0]
    assert numbers.labels.dtype == torch.float32


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_gives_every_row_in_its_order(num_workers):
    batches = list(DataLoader(numbers_of([0, 1, 2, 1, 0]), batch_size=2, num_workers=num_workers))
    assert [batch["row"].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [batch["labels"].tolist() for batch in batches] == [[0, 1], [2, 1], [0]]


@pytest.mark.parametrize("index", [-1, 2])
def test_a_row_that_is_not_there_is_an_error(index):
    with pytest.raises(IndexError, match=f"`index` must be from 0 to N-1=1, but got {index}"):
        numbers_of([0, 1])[index]


IMAGES = Dataset.from_dict({"image": [None], "label": [0]})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Numbers(DatasetDict()), r"must be one datasets\.Dataset, such as a split, but got DatasetDict"),
        (lambda: Numbers([{"label": 0}]), r"must be one datasets\.Dataset, such as a split, but got list"),
        (lambda: Numbers(IMAGES), "`dataset` must have a column `label` of ClassLabel"),
        (lambda: Numbers(IMAGES.select_columns("image")), "`dataset` must have a column `label` of ClassLabel"),
        (lambda: Numbers(IMAGES.select([])), "must hold at least one row"),
        (lambda: labelled_dataset(IMAGES, Wav2Vec2FeatureExtractor()), "must hold sounds, which .*, but holds images"),
        (lambda: numbers_of([-1, -1]).balance(seed=0), "`balanced` must be left out for rows without any label"),
        (lambda: numbers_of([0]).set_epoch(-1), "`epoch` must be a whole number, 0 or larger, but got -1"),
        (lambda: numbers_of([0]).set_epoch(1.5), "`epoch` must be a whole number, 0 or larger, but got 1.5"),
        (lambda: numbers_of([0]).set_epoch(True), "`epoch` must be a whole number, 0 or larger, but got True"),
        (lambda: numbers_of([0]).set_epoch(None), "`epoch` must be a whole number, 0 or larger, but got None"),
    ],
)
def test_what_is_no_prepared_split_or_no_epoch_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def rows_of(items, epoch):
    items.set_epoch(epoch)
    return [int(sample["row"]) for sample in items.__getitems__(range(len(items)))]


def test_balanced_rows_make_every_class_as_likely_and_are_those_of_seed_and_epoch():
    numbers = numbers_of([0] * 90 + [1] * 9 + [2] + [-1] * 5).balance(seed=3)
    epochs = [rows_of(numbers, epoch) for epoch in range(20)]
    assert epochs[0] != epochs[1]
    assert rows_of(numbers, 0) == epochs[0]
    rows = np.array(epochs).ravel()
    shares = [(rows < 90).mean(), ((rows >= 90) & (rows < 99)).mean(), (rows == 99).mean()]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    assert rows.max() == 99  # rows without a label are never drawn
    numbers.set_epoch(0)
    for batch in DataLoader(numbers, batch_size=105, num_workers=1):
        assert batch["row"].tolist() == epochs[0]
        assert torch.equal(batch["labels"], numbers.labels[batch["row"]])


def test_a_row_of_several_labels_is_as_likely_as_the_mean_of_its_classes():
    numbers = numbers_of([[0]] * 8 + [[0, 1]] * 2, List(CLASSES)).balance(seed=0)
    rows = np.array([rows_of(numbers, epoch) for epoch in range(300)])
    likely = np.array([1 / 10] * 8 + [(1 / 10 + 1 / 2) / 2] * 2)
    assert np.bincount(rows.ravel()) / rows.size == pytest.approx(likely / likely.sum(), abs=0.02)


def test_a_row_that_is_drawn_twice_is_augmented_in_two_ways():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    images = [PIL.Image.fromarray(image) for image in pixels]
    split = prepare_dataset(Dataset.from_dict({"image": images, "label": ["a", "b"]}))
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    items = labelled_dataset(split, processor, augment="standard").balance(seed=0)
    pairs = [(items.set_epoch(epoch), *items.__getitems__([0, 1]))[1:] for epoch in range(20)]
    twice = [(first, second) for first, second in pairs if first["labels"] == second["labels"]]
    assert twice
    assert not any(torch.equal(first["pixel_values"], second["pixel_values"]) for first, second in twice)


def features_of(rows):
    labelled = Dataset.from_dict({"features": rows, "label": list("abcd")[: len(rows)]})
    return prepare_dataset(labelled, features_column="features")


@pytest.fixture
def views():
    """Four rows of three views of two numbers, drawn from a seed."""
    return np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)


def test_rows_come_as_they_are_stored():
    rows = FeatureDataset(features_of([[1.0, 2.0], [3.0, 4.5]]))
    assert rows[1]["features"].tolist() == [3.0, 4.5]
    assert rows[1]["labels"].item() == 1
    assert rows.inputs([1, 0, 1])["features"].tolist() == [[3.0, 4.5], [1.0, 2.0], [3.0, 4.5]]
    assert rows.inputs([0])["features"].dtype == torch.float32


def test_whole_numbers_are_features_too():
    assert FeatureDataset(features_of([[1, 2], [3, 4]]))[0]["features"].tolist() == [1.0, 2.0]


def test_a_row_of_several_views_gives_the_one_that_seed_epoch_and_row_choose(views):
    rows = FeatureDataset(features_of(views.tolist()), seed=5)
    seen = set()
    for epoch in range(20):
        rows.set_epoch(epoch)
        for row in range(4):
            view = int(sample_draws(5, epoch, row)[0] * 3)
            assert rows[row]["features"].tolist() == views[row, view].tolist()
            seen.add((row, view))
    assert len(seen) == 12


def test_the_first_view_is_that_of_evaluation_in_every_epoch(views):
    rows = FeatureDataset(features_of(views.tolist()), first_view=True)
    for epoch in range(5):
        rows.set_epoch(epoch)
        assert torch.equal(rows.inputs(range(4))["features"], torch.from_numpy(views[:, 0]))


def test_a_single_view_is_the_same_as_none(views):
    single, plain = (FeatureDataset(features_of(rows.tolist())) for rows in (views[:, :1], views[:, 0]))
    assert torch.equal(single.inputs(range(4))["features"], plain.inputs(range(4))["features"])
    assert single.inputs(range(4))["features"].shape == (4, 2)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[1.0], [2.0, 3.0]], "`features` must hold numbers of one shape in every row, but do not"),
        ([["x"], ["y"]], "`features` must hold numbers of one shape in every row, but do not"),
        ([1.0, 2.0], r"`features` must hold \(F,\) or \(V, F\) numbers a row, but are \(2,\) in all"),
        ([[], []], r"`features` must hold \(F,\) or \(V, F\) numbers a row, but are \(2, 0\) in all"),
        ([[[[1.0]]], [[[2.0]]]], r"numbers a row, but are \(2, 1, 1, 1\) in all"),
        ([[1.0, 2.0], [3.0, float("nan")]], "`features` must be finite, but row 1 is not"),
        ([[float("inf")], [1.0]], "`features` must be finite, but row 0 is not"),
        ([[1.0], None], "`features` must"),
    ],
)
def test_what_is_no_table_of_numbers_is_an_error(features, message):
    with pytest.raises(ValueError, match=message):
        FeatureDataset(features_of(features))


@pytest.mark.parametrize(
    ("columns", "seed", "message"),
    [
        (["features", "label"], -1, "`seed` must be a whole number, 0 or larger, but got -1"),
        (["features", "label"], 1.5, "`seed` must be a whole number, 0 or larger, but got 1.5"),
        (["features", "label"], None, "`seed` must be a whole number, 0 or larger, but got None"),
        (["label"], 0, r"`dataset` must have a column `features`, but has \['label'\]"),
    ],
)
def test_what_is_no_seed_or_has_no_features_is_an_error(columns, seed, message):
    with pytest.raises(ValueError, match=message):
        FeatureDataset(features_of([[1.0], [2.0]]).select_columns(columns), seed=seed)


def texts_of(*texts, columns=("text", "label"), **settings):
    """Texts read by a tokenizer of four words, which takes six tokens."""
    rows = Dataset.from_dict({"text": texts, "label": [str(row) for row in range(len(texts))]})
    tokenizer = plain_tokenizer(WORDS, model_max_length=6, **settings)
    return TextDataset(prepare_dataset(rows, text_column="text").select_columns(list(columns)), tokenizer)


def test_the_texts_of_a_batch_are_padded_to_the_longest_of_them():
    texts = texts_of("a cat", "a cat sat down", "dog")
    inputs = texts.inputs([0, 2])
    assert inputs["input_ids"].tolist() == [[2, 3], [1, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert texts.inputs([1, 0])["input_ids"].tolist() == [[2, 3, 4, 5], [2, 3, 0, 0]]
    assert texts[1]["labels"].item() == 1


def test_a_text_is_cut_to_what_the_model_takes():
    assert texts_of("cat " * 9, "sat")[0]["input_ids"].tolist() == [3] * 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: texts_of("a", None), "`text` must be a string, but row 1 has None"),
        (lambda: texts_of(7, 8), "`text` must be a string, but row 0 has 7"),
        (lambda: texts_of("a", "cat", pad_token=None), "`tokenizer` must have a padding token, but has none"),
        (lambda: texts_of("a", "cat", columns=["label"]), r"`dataset` must have a column `text`, but has \['label'\]"),
    ],
)
def test_what_is_no_table_of_texts_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
