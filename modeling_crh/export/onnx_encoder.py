"""Encode a source on the CPU by ONNX Runtime in int8, by a graph that is kept beside the codes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modeling_crh.export.onnx_export import cpu_session, exported_graph, refused_by_onnxruntime

# isort: split
# The import above says what installs the packages that it needs, if one is missing.
from modeling_crh.codes import unpack_codes
from modeling_crh.data.open_source import OpenedSource
from modeling_crh.data.rows import PLURALS
from modeling_crh.encoding.encoder import Encoder
from modeling_crh.encoding.inputs import InputBatch, Processor, input_batches
from modeling_crh.encoding.manifest import EncodingRecord
from modeling_crh.encoding.shards import CodeShards
from modeling_crh.export.graph import Batch, CodesGraph
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.runtime.processes import own_state
from modeling_crh.runtime.terminal import say

CALIBRATION_ITEMS = 128


class OnnxEncoder(Encoder):
    """Encoder of `encode_source` that computes in int8 by ONNX Runtime, on the CPU.

    Items of the source, see `OpenedSource.spread`, give the ranges of activations. The graph lies in the folder of the
    codes, so that a run which goes on computes the same bits. With the first batch the share of bits that are those of
    torch in float32 is said.

    Args:
        model: Trained model of images, texts or features.
        processor: Image processor or tokenizer of the model; None for features.
        **settings: `batch_size` and `num_workers`, see `Encoder`.

    Raises:
        ValueError: If the model reads sound, or its processor makes images of several sizes.
    """

    def __init__(self, model: CRHModel, processor: Processor, **settings: Any) -> None:
        super().__init__(model, processor, dtype="float32", **settings)
        self._graph = CodesGraph(model, processor, pixel_values=self.reads == "image")
        self._session: Any = None
        self._is_compared = False

    @property
    def dtype(self) -> str:
        """Precision of the graph, `int8`."""
        return "int8"

    def begin(self, source: OpenedSource, shards: CodeShards) -> None:
        """Load the graph of a folder, which the first process makes from items of the source if there is none.

        Raises:
            ValueError: If the graph is damaged, or missing beside codes that it made; or if it cannot be made.
        """
        file, state = graph_path(shards.folder, shards.record), own_state()
        if state.is_main_process and not file.exists():
            if shards.done():
                raise ValueError(f"`out` must hold the graph that made its codes, but {str(file)!r} is missing.")
            self._write(source, file)
        state.wait_for_everyone()
        with refused_by_onnxruntime(f"`out` must hold the graph as it was written, but {str(file)!r} cannot be read"):
            self._session = cpu_session(file.read_bytes(), torch.get_num_threads())

    def batch_logits(self, batch: InputBatch) -> Tensor:
        """Compute the codes of a batch, as hash logits of -1 and +1, `(N, K)` float32.

        Raises:
            ValueError: If the batch has a fault, or `begin` was not called.
            OSError: If the operating system could not read one of its rows.
        """
        if batch.fault is not None or not batch.rows:
            return super().batch_logits(batch)
        if self._session is None:
            raise ValueError("`encoder` must be used by `encode_source`, which gives it a graph, but has none.")
        packed = self._session.run(["packed"], self._feed(batch))[0]
        codes = unpack_codes(torch.from_numpy(packed)).float()
        if not self._is_compared:
            self._is_compared = True
            equal = ((super().batch_logits(batch) >= 0) == (codes > 0)).float().mean().item()
            say(f"Computing in int8 by ONNX Runtime: {equal:.2%} of the bits of the first batch are those of float32.")
        return codes

    def _feed(self, batch: InputBatch) -> Batch:
        """Take the inputs of the graph from a batch."""
        return {name: batch.inputs[name].numpy() for name in self._graph.input_names}

    def _write(self, source: OpenedSource, file: Path) -> None:
        """Make the graph of a source, and write it atomically."""
        say(f"Making a graph in int8, with ranges of {CALIBRATION_ITEMS} items of the source.")
        shards = [(0, source.spread(CALIBRATION_ITEMS))]
        batches = []
        # one item at a time: for calibration, onnxruntime keeps the activations of a batch, 200 MB an item of a ViT-S
        for batch in input_batches(shards, self.reads, self.processor, batch_size=1, skip_bad=True):
            if batch.fault is not None:
                raise batch.fault
            batches += [self._feed(batch)] if batch.rows else []
        if not batches:
            raise ValueError(
                f"`source` must hold {PLURALS[self.reads]} that can be read, to take ranges from, but none of "
                f"{CALIBRATION_ITEMS} can be."
            )
        try:
            exported = exported_graph(self._graph, "int8", batches)
        except ValueError as error:
            raise ValueError(f"`engine` must be 'torch' for this model, which cannot be exported: {error}") from error
        with whole_file(file) as partial:
            partial.write_bytes(exported.SerializeToString())


def graph_path(folder: Path, record: EncodingRecord) -> Path:
    """Return the path of the graph in a folder of codes; another model or source has another one."""
    facts = json.dumps([record.weights, record.source, record.source_version, record.options], sort_keys=True)
    return folder / f".int8-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.onnx"
