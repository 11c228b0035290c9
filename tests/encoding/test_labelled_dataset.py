import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from torch.utils.data import DataLoader
from transformers import Wav2Vec2FeatureExtractor

from modeling_crh.encoding.items import labelled_dataset
from modeling_crh.encoding.labelled_items import LabelledDataset

CLASSES = ClassLabel(names=["ant", "bee", "cow"])


class Numbers(LabelledDataset):
    """Inputs that tell their row and the epoch."""

    def inputs(self, indices):
        return {"row": torch.tensor(indices), "epoch": torch.full((len(indices),), self.epoch)}


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
