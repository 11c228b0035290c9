"""A table of texts as what a training loop reads."""

from collections.abc import Sequence

from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from modeling_crh.data.labelled_dataset import LabelledDataset


class TextDataset(LabelledDataset):
    """Map-style dataset of tokens and `labels`; the texts of a batch are padded to the longest of them.

    Args:
        dataset: Columns `text` and `label`.
        tokenizer: Of the checkpoint; it must be able to pad.
        max_length: Tokens to keep of a text. None stands for as many as the tokenizer says that its model takes.

    Raises:
        ValueError: If `dataset` is empty, a text is missing, or the tokenizer has no padding token.
    """

    def __init__(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None = None) -> None:
        super().__init__(dataset)
        if "text" not in dataset.column_names:
            raise ValueError(f"`dataset` must have a column `text`, but has {dataset.column_names}.")
        if tokenizer.pad_token is None:
            raise ValueError("`tokenizer` must have a padding token, but has none.")
        self._texts: list[str] = list(dataset["text"])
        for row, text in enumerate(self._texts):
            if not isinstance(text, str):
                raise ValueError(f"`text` must be a string, but row {row} has {text!r}.")
        self._tokenizer = tokenizer
        self._max_length = max_length

    def inputs(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and what else the tokenizer gives, each `(len(indices), T)`."""
        texts = [self._texts[index] for index in indices]
        return dict(
            self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt")
        )
