import numpy as np
import PIL.Image
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from torch.utils.data import DataLoader
from transformers import ViTImageProcessor, Wav2Vec2FeatureExtractor

from modeling_crh.data import prepare_dataset
from modeling_crh.encoding.items import labelled_dataset
from modeling_crh.encoding.labelled_items import LabelledDataset

CLASSES = ClassLabel(names=["ant", "bee", "cow"])


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


@pytest.mark.parametrize("epoch", [-1, 1.5, True, None])
def test_what_is_no_epoch_is_an_error(epoch):
    with pytest.raises(ValueError, match=f"`epoch` must be a whole number, 0 or larger, but got {epoch}"):
        numbers_of([0]).set_epoch(epoch)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_row_that_is_not_there_is_an_error(index):
    with pytest.raises(IndexError, match=f"`index` must be from 0 to N-1=1, but got {index}"):
        numbers_of([0, 1])[index]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (DatasetDict(), r"`dataset` must be one datasets\.Dataset, such as a split, but got DatasetDict"),
        ([{"label": 0}], r"`dataset` must be one datasets\.Dataset, such as a split, but got list"),
        (Dataset.from_dict({"label": [0]}), "`dataset` must have a column `label` of ClassLabel"),
        (Dataset.from_dict({"text": ["a"]}), "`dataset` must have a column `label` of ClassLabel"),
        (Dataset.from_dict({"label": []}, features=Features({"label": Value("int64")})), "must hold at least one row"),
    ],
)
def test_what_is_no_prepared_split_is_an_error(dataset, message):
    with pytest.raises(ValueError, match=message):
        Numbers(dataset)


def test_a_model_of_another_kind_than_the_data_is_an_error():
    with pytest.raises(ValueError, match="`dataset` must hold sounds, which the model reads, but holds images"):
        labelled_dataset(Dataset.from_dict({"image": [None], "label": [0]}), Wav2Vec2FeatureExtractor())


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
    for epoch in range(20):
        items.set_epoch(epoch)
        first, second = items.__getitems__([0, 1])
        if first["labels"] == second["labels"]:
            break
    assert first["labels"] == second["labels"]
    assert not torch.equal(first["pixel_values"], second["pixel_values"])


def test_rows_without_any_label_cannot_be_balanced():
    with pytest.raises(ValueError, match="`balanced` must be left out for rows without any label"):
        numbers_of([-1, -1]).balance(seed=0)
