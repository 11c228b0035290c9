"""The manifest of a folder of codes: the model and source of the codes, and whether the folder is complete."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.dataclasses import type_validator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from modeling_crh.encoding.inputs import Processor
from modeling_crh.encoding.loading import find_revision
from modeling_crh.runtime.atomic_files import write_json

RECORD_NAME = ".encoding.json"  # `load_dataset` passes over names that start with a dot


@dataclass(frozen=True)
class EncodingRecord:
    """Everything that codes depend on.

    Attributes:
        model: Name of the model.
        revision: Commit of the model on the Hub, or digest of the weights of one in a folder.
        weights: Digest of the model's weights and processor.
        num_bits: Number of bits of a code, K.
        source: Name of the source.
        source_version: Digest that changes with the source.
        options: Data options by name.
        shard_size: Number of source rows per shard.
        num_shards: Number of shards of the whole source; None until all are written.
        prefix_bits: Numbers of first bits that are codes by themselves, see `CRHConfig`.
        dtype: Precision that the codes were computed in; `int8` is that of ONNX Runtime.
    """

    model: str
    revision: str
    weights: str
    num_bits: int
    source: str
    source_version: str
    options: dict[str, str]
    shard_size: int
    num_shards: int | None = None
    prefix_bits: list[int] = field(default_factory=list)
    dtype: str = "float32"

    @property
    def engine(self) -> str:
        """Engine that computes the codes, `torch` or `onnx`."""
        return "onnx" if self.dtype == "int8" else "torch"

    @classmethod
    def read(cls, folder: Path) -> "EncodingRecord | None":
        """Read the record of a folder; None if there is none.

        Raises:
            ValueError: If the record cannot be read.
        """
        file = folder / RECORD_NAME
        if not file.is_file():
            return None
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if "columns" in values:  # the name in version 0.1.0
                values["options"] = values.pop("columns")
            for entry in fields(cls):
                if entry.name in values:
                    type_validator(entry.name, values[entry.name], entry.type)
            return cls(**values)
        except (ValueError, TypeError, RecursionError) as error:  # TypeError: other fields than these, or other types
            raise ValueError(f"{file} must be what `crh encode` wrote, but cannot be read: {error}.") from error

    def write(self, folder: Path) -> None:
        """Write the record into a folder, atomically; an older one is replaced."""
        write_json(folder / RECORD_NAME, asdict(self))

    def check_same(self, begun: "EncodingRecord", folder: Path) -> None:
        """Check that a run may continue a folder of codes; a copy of the same model under another name may.

        Raises:
            ValueError: If this run would compute other codes.
        """
        rule = f"as it was when {str(folder)!r} was begun"
        for name, was, now, is_same in (
            ("num_bits", begun.num_bits, self.num_bits, self.num_bits == begun.num_bits),
            ("engine", begun.engine, self.engine, self.engine == begun.engine),
            ("dtype", begun.dtype, self.dtype, self.dtype == begun.dtype),
            ("checkpoint", begun.model, self.model, self.weights == begun.weights),
            ("source", begun.source, self.source, self.source == begun.source),
            ("source", begun.source, self.source, self.source_version == begun.source_version),
        ):
            if not is_same:
                got = "has changed since" if was == now else f"got {now!r}"
                raise ValueError(f"`{name}` must be {was!r} {rule}, but {got}; another run needs another `out`.")
        old, new = ({"shard_size": record.shard_size, **record.options} for record in (begun, self))
        for name in old | new:
            if old.get(name) != new.get(name):
                raise ValueError(
                    f"`{name}` must be {old.get(name)!r}, {rule}, but got {new.get(name)!r}; another run needs another "
                    "`out`."
                )


def model_fields(model: PreTrainedModel, processor: Processor, name: str) -> dict[str, Any]:
    """Compute `model`, `revision`, `weights`, `num_bits` and `prefix_bits` of an `EncodingRecord`."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    if isinstance(processor, PreTrainedTokenizerBase):
        digest.update(repr((sorted(processor.get_vocab().items()), processor.model_max_length)).encode())
        digest.update(processor.init_kwargs.get("prompt", "").encode())
    else:
        digest.update(repr(processor).encode())
    facts = {"weights": digest.hexdigest(), "num_bits": model.config.num_bits}
    facts["prefix_bits"] = list(model.config.prefix_bits or ())
    return {"model": name, "revision": find_revision(name)} | facts
