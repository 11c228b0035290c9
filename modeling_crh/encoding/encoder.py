"""Encoder: the one path from images, sounds, texts or features to hash logits and codes."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data.open_source import OpenedSource, Row
from modeling_crh.data.rows import Kind
from modeling_crh.encoding.inputs import InputBatch, Processor, input_batches, kind_of, model_inputs
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.encoding.shards import CodeShards
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.processes import choose_workers, own_state
from modeling_crh.runtime.terminal import progress_bar, say
from modeling_crh.sounds import forward_evenly

DType = Literal["auto", "float32", "bfloat16", "float16"]
"""Precision of a model: `auto` is `bfloat16` where the hardware is fast at it, and `float32` elsewhere."""


class Encoder:
    """A trained model with its processor, on the device of this process.

    Args:
        model: Trained model; it is put into evaluation mode and moved to the device.
        processor: Image processor, feature extractor or tokenizer of the model; None for features.
        batch_size: Number of items that go through the model at a time.
        num_workers: Number of processes that decode items; None lets `choose_workers` choose.
        dtype: Precision to compute in; None keeps that of the model.
        compiled: Whether to compile the model, see `place_model`.

    Example:
        >>> from modeling_crh import DEFAULT_CHECKPOINT
        >>> Encoder.load(DEFAULT_CHECKPOINT).packed([np.zeros((28, 28), np.uint8)]).shape
        (1, 8)
    """

    def __init__(
        self,
        model: CRHModel,
        processor: Processor,
        *,
        batch_size: int = 64,
        num_workers: int | None = None,
        dtype: DType | None = None,
        compiled: bool = False,
    ) -> None:
        self.model, self.processor = model, processor
        self.batch_size, self.num_workers = batch_size, num_workers
        self.reads: Kind = kind_of(model)
        place_model(self.model.train(False), dtype, compiled=compiled)

    @classmethod
    def load(cls, name: str | Path, *, num_bits: int | None = None, **settings: Any) -> "Encoder":
        """Load a trained model with its processor.

        Args:
            name: Folder of a run or a checkpoint, or Hub id.
            num_bits: Number of first bits of the codes, one of the model's `prefix_bits`; None takes all.
            **settings: The other arguments of `Encoder`.

        Raises:
            ValueError: If there is no such checkpoint, it is damaged, or is not trained for codes of `num_bits` bits.
        """
        return cls(*load_checkpoint(name, num_bits), **settings)

    @property
    def num_bits(self) -> int:
        """Number of bits of a code, K."""
        return self.model.config.num_bits

    @property
    def dtype(self) -> str:
        """Precision of the model, such as `float32`."""
        return str(self.model.dtype).removeprefix("torch.")

    def hash_logits(
        self, items: Sequence[Any], *, names: Sequence[str] | None = None, desc: str = "Encoding"
    ) -> Tensor:
        """Compute the hash logits of items in memory, `(N, K)` float32 on the CPU.

        Args:
            items: N images as paths, URLs, bytes, PIL images or arrays of pixels; or N sounds as `read_sound` takes
                them; or N texts; or N feature vectors.
            names: Names of the N items in messages; None names paths, texts and positions.
            desc: Label of the progress bar.

        Raises:
            ValueError: If an item cannot be read, or is of another kind than the model reads.
        """
        if isinstance(items, str | bytes | Path):
            raise ValueError(f"`items` must be a list, but got one {type(items).__name__}: put it into a list.")
        if names is None:
            names = [_name(item, number) for number, item in enumerate(items)]
        rows = [Row(number, name, None, item) for number, (name, item) in enumerate(zip(names, items, strict=True))]
        parts = []
        with progress_bar(total=len(rows), desc=desc, unit="item") as bar:
            for batch in self.batches([(0, iter(rows))], skip_bad=None, num_rows=len(rows)):
                parts.append(self.batch_logits(batch))
                bar.update(len(batch.rows))
        return torch.cat(parts) if parts else torch.empty(0, self.num_bits)

    def packed(self, items: Sequence[Any]) -> NDArray[np.uint8]:
        """Compute packed codes of items in memory, `(N, K / 8)`; see `hash_logits`."""
        return cast(NDArray[np.uint8], pack_codes(binarize(self.hash_logits(items))).numpy())

    def batches(
        self, shards: Iterable[tuple[int, Iterator[Row]]], *, skip_bad: bool | None = False, num_rows: int | None = None
    ) -> Iterator[InputBatch]:
        """Yield batches of rows, prepared for the model; see `input_batches`.

        Args:
            shards: Numbers and rows of shards.
            skip_bad: Treatment of unreadable rows, see `input_batches`.
            num_rows: Number of all rows, if known; up to two batches are prepared without worker processes.
        """
        is_small = num_rows is not None and num_rows <= 2 * self.batch_size
        return input_batches(
            shards,
            self.reads,
            self.processor,
            batch_size=self.batch_size,
            num_workers=0 if is_small else choose_workers(self.model.main_input_name, self.num_workers),
            skip_bad=skip_bad,
            pin_memory=self.model.device.type == "cuda",
        )

    def begin(self, source: OpenedSource, shards: CodeShards) -> None:
        """Prepare to encode a source into a folder that no other run writes to; torch has nothing to prepare."""

    def batch_logits(self, batch: InputBatch) -> Tensor:
        """Compute the hash logits of a batch, `(N, K)` float32 on the CPU.

        Raises:
            ValueError: If the batch has a fault.
            OSError: If the operating system could not read one of its rows.
        """
        if batch.fault is not None:
            raise batch.fault
        if not batch.rows:
            return torch.empty(0, self.num_bits)
        return next(run_batches(self.model, [batch.inputs]))


def place_model(model: PreTrainedModel, dtype: DType | None = None, *, compiled: bool = False) -> None:
    """Move a model to the device of this process, and give it its precision; `auto` says what it has chosen.

    Args:
        model: Model in evaluation mode.
        dtype: Precision; None keeps that of the model.
        compiled: Whether to compile the model with its first batch, which takes half a minute or more: worth it for
            many thousands of items. The codes differ by as few bits as those of another precision.

    Raises:
        ValueError: If there is no C++ compiler, which torch needs to compile for a CPU.
    """
    device = own_state().device
    if dtype == "auto":
        dtype = "bfloat16" if multiplies_bfloat16(device) else "float32"
        if dtype == "bfloat16":
            hardware = "processor" if device.type == "cpu" else "GPU"
            say(f"Computing in bfloat16, floats of 16 bits that this {hardware} is fast at.")
    nn.Module.to(model, device, None if dtype is None else getattr(torch, dtype))
    if compiled:
        compiler = os.environ.get("CXX", "g++")
        if device.type == "cpu" and shutil.which(compiler) is None:
            raise ValueError(f"`compile` needs a C++ compiler on a CPU, but there is no {compiler}.")
        model.compile()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself: a GPU from Ampere on, AMX or AVX512-BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def run_batches(
    model: PreTrainedModel,
    batches: Iterable[dict[str, Tensor]],
    forward: Callable[..., Tensor] | None = None,
    *,
    desc: str | None = None,
) -> Iterator[Tensor]:
    """Run batches of inputs through a model, without gradients.

    Args:
        model: Model in evaluation mode; inputs are moved to its device and precision.
        batches: Batches of inputs by name, each `(N, ...)`; labels are ignored.
        forward: Function that computes the output; None computes hash logits.
        desc: Label of the progress bar; None shows none.

    Yields:
        The output of each batch, float32 on the CPU.
    """
    call = forward if forward is not None else lambda **inputs: model(**inputs).hash_logits
    bar = batches if desc is None else progress_bar(batches, desc=desc, unit="batch")
    for batch in bar:
        inputs = model_inputs(batch, model)
        with torch.inference_mode():
            output = forward_evenly(call, model, inputs) if "input_values" in inputs else call(**inputs)
            yield output.float().cpu()


def _name(item: Any, number: int) -> str:
    """Name an item in a message: its shortened path or text, or its number from 0."""
    return (str(item).strip() if isinstance(item, str | Path) else "")[:300] or f"item {number}"
