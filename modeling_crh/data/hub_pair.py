"""Training and test set of a dataset on the Hub."""

from collections.abc import Sequence

import datasets
from datasets import ClassLabel, Dataset

from modeling_crh.data.columns import label_names as names_of
from modeling_crh.data.prepare import prepare_dataset


def load_hub_pair(
    hub_id: str,
    *,
    image_column: str = "image",
    label_column: str = "label",
    label_names: Sequence[str] | None = None,
) -> tuple[Dataset, Dataset]:
    """Load the splits `train` and `test`, prepared with the same classes.

    Args:
        hub_id: Of a dataset with one class a row.
        image_column: Name of its column of images.
        label_column: Name of its column of labels.
        label_names: Official names in the order of the ids, which replace those on the Hub: uoft-cs/cifar100 calls the
            crab "cra". By default those on the Hub.

    Returns:
        Both splits, with the columns `image` and `label`.

    Raises:
        ValueError: If a column is missing or a label is out of range.
    """
    splits = datasets.load_dataset(hub_id)
    train, test = splits["train"], splits["test"]
    if label_names is not None:
        official = ClassLabel(names=list(label_names))
        train, test = (split.cast_column(label_column, official) for split in (train, test))
    train = prepare_dataset(train, image_column=image_column, label_column=label_column)
    test = prepare_dataset(test, image_column=image_column, label_column=label_column, label_names=names_of(train))
    return train, test
