"""Fixtures of many tests: tiny models, checkpoints, images and datasets, and a way to run a command line."""

import gzip
import random
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset
from hypothesis import settings
from loopback_http import serve
from tiny_inputs import plain_tokenizer
from transformers import (
    BertConfig,
    ConvNextConfig,
    Dinov2Config,
    PreTrainedConfig,
    ResNetConfig,
    ViTConfig,
    ViTImageProcessor,
)

from modeling_crh import CRHConfig, CRHModel, cli
from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.data.columns import canonical_features

_TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_IMAGE = {"image_size": 16, "patch_size": 8}
_CONVOLUTIONS = {"hidden_sizes": [8, 16], "depths": [1, 1]}
_BACKBONES = {
    "vit": lambda: ViTConfig(**_TRANSFORMER, **_IMAGE, intermediate_size=32),
    "dinov2": lambda: Dinov2Config(**_TRANSFORMER, **_IMAGE, mlp_ratio=2),
    "resnet": lambda: ResNetConfig(**_CONVOLUTIONS, embedding_size=8, layer_type="basic"),
    "convnext": lambda: ConvNextConfig(**_CONVOLUTIONS, num_stages=2),
    "bert": lambda: BertConfig(**_TRANSFORMER, intermediate_size=32, vocab_size=50, max_position_embeddings=32),
}


# The same cases in every run; `pytest --hypothesis-profile=default` tries others.
settings.register_profile("repeatable", derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Seed all that draws at random, so that a test draws the same numbers whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `--dtype auto` be float32, so that the codes of tests do not depend on the machine."""
    monkeypatch.setattr("modeling_crh.encoding.encoder.multiplies_bfloat16", lambda device: False)


@pytest.fixture(scope="session")
def tiny_backbone() -> Callable[[str], PreTrainedConfig]:
    """Give the config of a backbone for images of 16 x 16 pixels, or of `"bert"` for 50 tokens."""
    return lambda name: _BACKBONES[name]()


@pytest.fixture(scope="session")
def tiny_model(tiny_backbone: Callable[[str], PreTrainedConfig]) -> Callable[..., CRHModel]:
    """Give a seeded model of 3 classes and 16 bits in evaluation mode; None stands for 4 stored features."""

    def make(backbone: str | PreTrainedConfig | None = "vit", seed: int = 0, **fields: object) -> CRHModel:
        fields = {"num_labels": 3, "num_bits": 16} | fields
        if backbone is None:
            config = CRHConfig(backbone_config=None, num_features=4, **fields)
        else:
            backbone = tiny_backbone(backbone) if isinstance(backbone, str) else backbone
            config = CRHConfig(backbone_config=backbone, **fields)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CRHModel(config).eval()

    return make


@pytest.fixture(scope="session")
def telling_model(
    tiny_backbone: Callable[[str], PreTrainedConfig], tiny_model: Callable[..., CRHModel]
) -> Callable[[], CRHModel]:
    """Give a ViT with dropout whose random weights are large enough to give random images different codes."""
    backbone = tiny_backbone("vit")
    backbone.initializer_range = backbone.hidden_dropout_prob = 0.5
    return lambda: tiny_model(backbone, initializer_range=1.0)


@pytest.fixture(scope="session")
def tiny_checkpoint(telling_model: Callable[[], CRHModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of such a ViT and its image processor."""
    folder = tmp_path_factory.mktemp("checkpoint")
    telling_model().save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_checkpoint(
    tiny_backbone: Callable[[str], PreTrainedConfig],
    tiny_model: Callable[..., CRHModel],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of a BERT whose codes of 64 bits tell texts apart, and of its tokenizer of fifteen words."""
    folder = tmp_path_factory.mktemp("texts")
    backbone = tiny_backbone("bert")
    backbone.initializer_range = 0.5
    tiny_model(backbone, num_bits=64, initializer_range=1.0).save_pretrained(folder)
    names = ["[PAD]", "[UNK]", *"the a cat dog sat ran on under mat tree and then slept".split()]
    plain_tokenizer(names, model_max_length=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 3 classes with 20 images of 16 x 16 pixels each, easy to tell apart."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    means = {"bright": np.full((16, 16), 200), "dark": np.full((16, 16), 50), "striped": np.tile([40, 210], (16, 8))}
    for name, mean in means.items():
        (folder / name).mkdir()
        for number in range(20):
            noise = generator.integers(-30, 31, size=(16, 16))
            PIL.Image.fromarray((mean + noise).astype(np.uint8)).save(folder / name / f"{number:02d}.png")
    return folder


@pytest.fixture
def crh(capfd, monkeypatch):
    """Run a command line in this process; gives its exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["crh", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output, errors = capfd.readouterr()
        return ended.value.code or 0, output, errors

    return run


@pytest.fixture
def write_image():
    """Write a random RGB image of 8 x 10 pixels, in the format of the file's suffix."""

    def write(path, seed=0, mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def gray_dataset():
    """Twelve 28 x 28 images of three classes; with `multi_label`, row 0 has none and the others one or two."""

    def make(multi_label=False):
        pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
        labels = [sorted({row % 3, row % 2})[: row % 5] for row in range(12)] if multi_label else [0, 1, 2] * 4
        features = canonical_features(["a", "b", "c"], multi_label=multi_label)
        return Dataset.from_dict({"image": [encode_png(image) for image in pixels], "label": labels}, features=features)

    return make


def idx_bytes(array):
    header = (0x0800 + array.ndim).to_bytes(4, "big") + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """The four official files in small: 40 training and 20 test images, class = row % 10, pixels = row."""
    for prefix, num_images in [("train", 40), ("t10k", 20)]:
        rows = np.arange(num_images, dtype=np.uint8)
        images = np.broadcast_to(rows[:, None, None], (num_images, 28, 28))
        for kind, array in [("images-idx3", images), ("labels-idx1", rows % 10)]:
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return tmp_path


@pytest.fixture
def hub_replica(tmp_path, monkeypatch):
    """Write splits as the parquet files of a Hub repository, and give the folder that stands for its id."""

    def make(**splits):
        replica = tmp_path / "hub"
        (replica / "data").mkdir(parents=True)
        for name, dataset in splits.items():
            dataset.to_parquet(replica / "data" / f"{name}-00000-of-00001.parquet")
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        return str(replica)

    return make


@pytest.fixture
def server(tmp_path, monkeypatch):
    """`tmp_path` over HTTP, see `loopback_http.Handler`; its address is `url`."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()  # the next one reads the environment again
    with serve(tmp_path) as http:
        yield http
    huggingface_hub.close_session()


@pytest.fixture
def png():
    """Bytes of an 8 x 8 image of one shade of gray."""
    return lambda shade: encode_png(np.full((8, 8, 3), shade, dtype=np.uint8))
