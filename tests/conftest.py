"""What many tests share: models small enough to be made anew in every test, and a way to run a command line."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    ConvNextConfig,
    Dinov2Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ViTConfig,
    ViTImageProcessor,
)

from modeling_crh import CRHConfig, CRHModel, cli

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
    words = Tokenizer(models.WordLevel({word: row for row, word in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    )
    tokenizer.save_pretrained(folder)
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
