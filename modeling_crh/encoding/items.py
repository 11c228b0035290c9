"""Codes of a whole dataset in memory, with its labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from modeling_crh.codes import binarize
from modeling_crh.data import LabelledDataset
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.processing import model_inputs
from modeling_crh.progress_bar import progress_bar


@dataclass(frozen=True)
class EncodedItems:
    """Codes and labels of a dataset.

    Attributes:
        codes: `(N, K)` int8, every entry -1 or +1.
        labels: `(N,)` int64, or `(N, C)` of 0 and 1.
        label_names: Of the C classes.
    """

    codes: Tensor
    labels: Tensor
    label_names: list[str]


def encode_batches(
    model: CRHModel, items: LabelledDataset, *, batch_size: int = 256, num_workers: int = 0
) -> Iterator[Tensor]:
    """Codes of the items in their order, a batch at a time, on the model's device, with a progress bar.

    Args:
        model: Put into evaluation mode.
        items: Not augmented.
        batch_size: Items at a time.
        num_workers: Processes that prepare them; 0 does so in this one.

    Yields:
        `(N, K)` int8 on the CPU, every entry -1 or +1.
    """
    model.eval()  # type: ignore[no-untyped-call]
    loader: DataLoader[dict[str, Tensor]] = DataLoader(items, batch_size=batch_size, num_workers=num_workers)
    for batch in progress_bar(loader, desc="Encoding", unit="batch"):
        with torch.inference_mode():
            output = model(**model_inputs(batch, model))
        yield binarize(output.hash_logits).cpu()


def encode_items(
    model: CRHModel, items: LabelledDataset, *, batch_size: int = 256, num_workers: int = 0
) -> EncodedItems:
    """All codes at once, with the labels of the items. See `encode_batches`."""
    codes = torch.cat(list(encode_batches(model, items, batch_size=batch_size, num_workers=num_workers)))
    return EncodedItems(codes, items.labels, items.label_names)
