"""Kinds of input to fuzz: each prepares its files once, and returns a function that tries one damaged input."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from datasets import Dataset
from fuzz_images import declare_size, sample_images
from fuzz_mutations import damage_bytes, damage_value, random_value
from transformers import ViTConfig, ViTImageProcessor

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.data import prepare_dataset
from modeling_crh.data.rows import read_value
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.images import UnreadableImageError, read_image
from modeling_crh.losses import crh_loss
from modeling_crh.search import HammingIndex, index_codes
from modeling_crh.training.recipe import DEMO_RECIPE, FEATURES_RECIPE, Recipe

LABELS: dict[str, Any] = {"num_labels": 3, "num_bits": 16}

Case = Callable[[np.random.Generator], Any]

BACKBONE: dict[str, Any] = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 8,
    "patch_size": 4,
}


def images(folder: Path) -> Case:
    """Files of images, read from a path and as a row of data, with the same end."""
    samples = sample_images()
    path = folder / "image"

    def read(generator: np.random.Generator) -> None:
        content = samples[int(generator.integers(0, len(samples)))]
        if generator.random() < 0.1:
            content = declare_size(content, *(int(side) for side in generator.integers(0, 2**24, 2)))
        if generator.random() < 0.95:
            content = damage_bytes(content, generator)
        path.write_bytes(content)
        row = read_value("image", {"bytes": content, "path": None}, "row 0")
        try:
            pixels = read_image(path)
        except UnreadableImageError:
            if isinstance(row, torch.Tensor):
                raise AssertionError("a row takes what `read_image` refuses") from None
            raise
        if not isinstance(row, torch.Tensor) or not np.array_equal(row.permute(1, 2, 0).numpy(), pixels):
            raise AssertionError("`read_image` and a row of data do not agree")

    return read


def _indexes(folder: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    packed = generator.integers(0, 256, (300, 4), dtype=np.uint8)
    paths = []
    for kind in ("flat", "ivf"):
        names = [f"item {row}" for row in range(300)]
        paths.append(folder / f"{kind}.crh")
        HammingIndex(packed, names, labels=[["a", "b"]] * 300, paths=names, kind=kind).save(paths[-1])
    return paths


def index_files(folder: Path) -> Case:
    """Files of indexes: any change is refused."""
    contents = [path.read_bytes() for path in _indexes(folder)]
    target = folder / "damaged.crh"

    def load(generator: np.random.Generator) -> None:
        content = contents[int(generator.integers(0, len(contents)))]
        damaged = damage_bytes(content, generator)
        target.write_bytes(damaged)
        HammingIndex.load(target)
        if damaged != content:
            raise AssertionError("a damaged index was taken")

    return load


def forged_index_files(folder: Path, kind: str) -> Case:
    """Files of indexes of one kind that were damaged before their checksum was made."""
    (content,) = (path.read_bytes() for path in _indexes(folder) if path.stem == kind)
    target = folder / "forged.crh"

    def load(generator: np.random.Generator) -> None:
        body = content[44:]
        (length,) = struct.unpack("<I", body[:4])
        header = json.loads(body[4 : 4 + length])
        if generator.random() < 0.3:
            damaged = json.dumps(damage_value(header, generator)).encode()
            body = struct.pack("<I", len(damaged)) + damaged + body[4 + length :]
        else:  # one of its parts
            sizes = list(header["parts"].values())
            chosen = int(generator.integers(0, len(sizes)))
            start = 4 + length + sum(sizes[:chosen])
            end = start + sizes[chosen]
            body = body[:start] + damage_bytes(body[start:end], generator, keep_length=True) + body[end:]
        target.write_bytes(content[:12] + hashlib.sha256(body).digest() + body)
        index = HammingIndex.load(target)
        index.search(index.packed[:3], k=5)
        index.search_radius(index.packed[:1], 3)
        index.records([0, len(index) - 1])

    return load


def configs(folder: Path) -> Case:
    """Fields of `CRHConfig`."""
    fields = CRHConfig(backbone_config=BACKBONE, **LABELS).to_dict()
    for name in ("auto_map", "custom_pipelines", "transformers_version", "model_type"):
        fields.pop(name, None)
    fields["backbone_config"] = BACKBONE
    own = {name: fields[name] for name in fields if name in CRHConfig.__annotations__ or name == "id2label"}

    def build(generator: np.random.Generator) -> None:
        damaged = damage_value(own, generator)
        if isinstance(damaged, dict):
            CRHConfig(**{str(name): value for name, value in damaged.items()})

    return build


def checkpoints(folder: Path) -> Case:
    """Files of a checkpoint."""
    source, target = folder / "checkpoint", folder / "damaged"
    torch.manual_seed(0)
    backbone = ViTConfig(**{name: value for name, value in BACKBONE.items() if name != "model_type"})
    CRHModel(CRHConfig(backbone_config=backbone, **LABELS)).save_pretrained(source)
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(source)
    shutil.copytree(source, target)
    names = ("config.json", "model.safetensors", "preprocessor_config.json")

    def load(generator: np.random.Generator) -> None:
        name = names[int(generator.integers(0, 3))]
        content = (source / name).read_bytes()
        if name.endswith(".json") and generator.random() < 0.7:
            damaged = json.dumps(damage_value(json.loads(content), generator)).encode()
        else:
            damaged = damage_bytes(content, generator)
        (target / name).write_bytes(damaged)
        try:
            load_checkpoint(target)
        finally:
            (target / name).write_bytes(content)

    return load


def recipes(folder: Path) -> Case:
    """Recipes in YAML."""
    texts = [DEMO_RECIPE.read_text(), FEATURES_RECIPE.read_text(), "a: &a [*a]\n", "[" * 3000, _many_names()]
    path = folder / "recipe.yaml"

    def load(generator: np.random.Generator) -> None:
        text = texts[int(generator.choice(len(texts), p=[0.4, 0.4, 0.05, 0.05, 0.1]))]
        if generator.random() < 0.6 and text in texts[:2]:
            path.write_text(yaml.safe_dump(damage_value(yaml.safe_load(text), generator), allow_unicode=True))
        else:
            path.write_bytes(damage_bytes(text.encode(), generator))
        Recipe.load(path)

    return load


def _many_names() -> str:
    """A few lines of YAML that stand for a thousand million values."""
    lines = ["model:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 10)}]" for row in range(1, 9)]
    return "\n".join([*lines, "dataset: x", "backbone: x", ""])


def code_files(folder: Path) -> Case:
    """Parquet files of codes: changed bytes, and columns of another kind."""
    generator = np.random.default_rng(0)
    rows = [generator.bytes(4) for _ in range(50)]
    columns: dict[str, Any] = {
        "id": pa.array([f"item {row}" for row in range(50)]),
        "path": pa.array([f"{row}.png" for row in range(50)]),
        "code": pa.array(rows, pa.binary(4)),
        "label": pa.array([["a"], []] * 25),
    }
    plain = pa.table(columns).replace_schema_metadata({"model": "org/model", "num_bits": "32"})
    path = folder / "codes.parquet"
    pq.write_table(plain, path)
    content = path.read_bytes()

    def load(generator: np.random.Generator) -> None:
        if generator.random() < 0.3:
            names = list(columns)
            name = names[int(generator.integers(0, 4))]
            changed = dict(columns) | {name: _other_column(generator)}
            metadata = {"model": "org/model", "num_bits": str(random_value(generator))}
            pq.write_table(pa.table(changed).replace_schema_metadata(metadata), path)
        else:
            path.write_bytes(damage_bytes(content, generator))
        index = index_codes(path)
        index.search(index.packed[:1], k=3)

    return load


def _other_column(generator: np.random.Generator) -> pa.Array:
    made = (
        pa.nulls(50),
        pa.array(range(50)),
        pa.array([0.5] * 50),
        pa.array([None, "x"] * 25),
        pa.array([[1, None]] * 50),
        pa.array([b"1234"] * 50),
        pa.array([b"1"] * 50, pa.binary(1)),
        pa.array([None, b"12"] * 25, pa.binary(2)),
        pa.array([{"a": 1}] * 50),
        pa.array(["same"] * 50),
        pa.array([True] * 50),
        pa.array(["x", "y"] * 25).dictionary_encode(),
    )
    return made[int(generator.integers(0, len(made)))]


def labels(folder: Path) -> Case:
    """Columns of labels, and batches of them."""

    def prepare(generator: np.random.Generator) -> None:
        count = int(generator.integers(1, 6))
        values = [
            random_value(generator) if generator.random() < 0.3 else int(generator.integers(0, 3)) for _ in range(count)
        ]
        if generator.random() < 0.4:
            values = [[value] for value in values]
        try:
            rows = Dataset.from_dict({"image": ["a.png"] * count, "label": values})
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError):
            return  # no column at all
        prepare_dataset(rows)

    def compute(generator: np.random.Generator) -> None:
        shape = [int(side) for side in generator.integers(0, 5, int(generator.integers(0, 4)))]
        kinds = (torch.int64, torch.int32, torch.float32, torch.bool, torch.uint8)
        batch = torch.from_numpy(generator.integers(-2, 5, shape)).to(kinds[int(generator.integers(0, 5))])
        loss = crh_loss(torch.zeros(4, 8), batch, torch.ones(3, 8, dtype=torch.int8), scale=1.0)
        if not loss.isfinite():
            raise AssertionError("the loss is not finite")

    return lambda generator: (prepare if generator.random() < 0.3 else compute)(generator)
