"""CRHConfig: the configuration of a `CRHModel`."""

import difflib
import math
import re
from dataclasses import field, fields
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, ViTConfig

from .codebook import MOST_SHARED_BITS, SHARED_HEAD_DIM, check_prefixes, choose_head_dim, word_capacity
from .losses import default_scale

# Names of the code files beside a saved config, for machines without this library.
_AUTO_MAP = {"AutoConfig": "configuration_crh.CRHConfig", "AutoModel": "modeling_crh.CRHModel"}
_CUSTOM_PIPELINES = {"crh-hashing": {"impl": "pipeline_crh.CRHPipeline", "pt": ["AutoModel"], "type": "multimodal"}}

MOST_LABELS = 10_000_000
"""Largest number of classes of a config: transformers makes a name for each."""

# Fields to the least value that they take where they are set.
_LEAST = {"num_labels": 2, "initializer_range": 0, "margin": -2}  # a cosine differs from another by 2 at most
_LEAST |= dict.fromkeys("num_features codebook_draws dropout_masks hash_head_hidden_size shared_room".split(), 1)
_LEAST |= dict.fromkeys("codebook_seed quantization_weight bit_weight pair_weight prefix_weight".split(), 0)
_PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")

# Keys that transformers itself hands to a config beside its fields.
_TRANSFORMERS_KEYS = {
    *("attn_implementation", "auto_map", "custom_pipelines", "experts_implementation", "model_type"),
    *("name_or_path", "num_labels", "output_attentions", "quantization_config", "torch_dtype"),
}


class _RegisteredPipelines(dict[str, Any]):
    """The `custom_pipelines` of a saved config whose tasks the imported library has registered with transformers.

    `pipeline` finds the name of the task among the keys. It then asks `in` before it would run the code of the
    repository, and takes the registered class instead.
    """

    def __contains__(self, task: object) -> bool:
        return False


def is_hub_id(name: object) -> bool:
    """Whether a name, such as `org/model`, can be a repository on the Hub and is no path on this machine.

    Example:
        >>> [is_hub_id(name) for name in ("org/model", "bert-base", "/data/model", "./model", "a/b/c", "")]
        [True, True, False, False, False, False]
    """
    shaped = isinstance(name, str) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None
    return shaped and not Path(str(name)).exists()


@strict
class CRHConfig(PreTrainedConfig):
    """Configuration of a `CRHModel`: backbone, hash head, codebook and loss. Defaults are the paper's.

    Args:
        backbone_config: Config of any model that `AutoModel` can build, or its dict with a `model_type`. The default
            is a ViT. None means no backbone: the model then reads stored `features`.
        num_features: Width of the stored features, required without a backbone. With one it is the width of the
            backbone's vectors, which the model finds out.
        tower: Tower of a dual encoder such as CLIP that is the backbone: `"vision"`, `"text"` or `"audio"`. None means
            vision, or audio for one of sounds and texts.
        pooling: How the backbone's output becomes one vector. None is the way of the backbone's authors: the embedding
            of a dual encoder, with its projection; a pooled output that is no dense layer; the first token of images
            with a token for the whole image; the last token of decoders; else the mean. `"pooler"` takes the pooled
            output, of a dual encoder's tower without its projection, `"cls"` the first token, `"mean"` the mean over
            tokens, patches or frames without padding, and `"last"` the last token without padding.
        num_bits: Number of bits of a code, K, a multiple of 8.
        prefix_bits: Numbers of first bits of a code, ascending, that are trained to be good codes by themselves:
            multiples of 8 and of `head_dim` below K. None trains the whole code alone, as in the paper.
        prefix_weight: Weight of the loss of each prefix beside that of the whole code.
        codebook: `"own"` for random codewords of which each belongs to one class, as in the paper; or `"shared"` for
            all 2^d words of d bits, of which each is held by up to `word_capacity` classes.
        codebook_size: Number of codewords of each head, M. None means 2 C, or 2^d where words are shared.
        head_dim: Number of bits of each head, d: a divisor of K with 2^d at least M. None means `choose_head_dim`, the
            paper's rule, or 4 where words are shared, and then it is at most 8.
        shared_room: Room of the words of a head, as a multiple of C, where words are shared; from 1 up.
        codebook_draws: Number of random codebooks to draw; the one whose closest centers lie furthest apart is kept.
        codebook_seed: Seed of those draws.
        fixed_centers: Whether the centers are those of another model, with whose codes this model's can be compared;
            training must not move them.
        hash_head: `"linear"` as in the paper, or `"mlp"`: linear, batch norm, ReLU, dropout, linear.
        hash_head_hidden_size: Width of the hidden layer of `"mlp"`.
        hash_head_dropout: Dropout probability in `"mlp"`, from 0 to below 1.
        dropout_masks: Dropout masks that a training step draws for each item, see `MultiSampleDropout`; 1 in the paper.
        hash_head_batch_norm: End the hash head in a linear layer without bias and a batch norm, as OrthoHash does.
        margin: Margin m of Eq. 1.
        scale: Scale s of Eq. 1. None means sqrt(2) ln(C - 1), the paper's value (for two classes, that of three).
            `"num_bits"` means the larger of that and sqrt(K), which is better for few classes and long codes.
        quantization_weight: Weight lambda of Eq. 4. None means 0.1 for single-label and 0 for multi-label data.
        bit_weight: Weight of `bit_loss`, 0 in the paper. `"num_labels"` means 64 / C, and 1 at most.
        pair_weight: Weight of `pair_loss`, 0 in the paper. `"multi_label"` means 3 for multi-label data, else 0.
        proxy_share: First share of a training that pulls codes to free class vectors, see `Proxies`; 0 in the paper.
        initializer_range: Standard deviation of the initial weights of the hash head.
        num_labels: Number of classes, C, from 2 to `MOST_LABELS`; or give `id2label`.
        problem_type: `"single_label_classification"` (the default) or `"multi_label_classification"`.

    Raises:
        ValueError: If a field is unknown or has a value that its rule does not allow.

    Example:
        >>> config = CRHConfig(backbone_config=None, num_features=512, num_labels=100)
        >>> config.codebook_size, config.head_dim, config.num_heads
        (200, 8, 8)
        >>> config = CRHConfig(backbone_config=None, num_features=512, num_labels=100, codebook="shared")
        >>> config.codebook_size, config.head_dim, config.num_heads, config.word_capacity
        (16, 4, 16, 7)
    """

    model_type = "crh"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012 - declared so by transformers

    backbone_config: dict[str, Any] | PreTrainedConfig | None = field(default_factory=ViTConfig)
    num_features: int | None = None
    tower: Literal["vision", "text", "audio"] | None = None
    pooling: Literal["pooler", "cls", "mean", "last"] | None = None
    num_bits: int = 64
    prefix_bits: list[int] | None = None
    prefix_weight: float | int = 0.5
    codebook: Literal["own", "shared"] = "own"
    codebook_size: int | None = None
    head_dim: int | None = None
    shared_room: float | int = 1.0
    codebook_draws: int = 1
    codebook_seed: int = 0
    fixed_centers: bool = False
    hash_head: Literal["linear", "mlp"] = "linear"
    hash_head_hidden_size: int = 1024
    hash_head_dropout: float | int = 0.0
    dropout_masks: int = 1
    hash_head_batch_norm: bool = False
    margin: float | int = 0.2
    scale: float | int | Literal["num_bits"] | None = None
    quantization_weight: float | int | None = None
    bit_weight: float | int | Literal["num_labels"] = 0.0
    pair_weight: float | int | Literal["multi_label"] = 0.0
    proxy_share: float | int = 0.0
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the fields, and compute those that are None."""
        self._refuse_unknown_keys(kwargs)
        self._read_backbone_config()
        if not isinstance(num_labels := kwargs.get("num_labels", 2), Integral) or int(num_labels) > MOST_LABELS:
            raise ValueError(f"`num_labels` must be an integer, at most {MOST_LABELS}, but got {num_labels!r}.")
        self._check_files(kwargs)
        self._check_label_names()
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self._check_ranges()
        self._choose_codebook(num_labels := cast(int, self.num_labels))
        if not isinstance(self.scale, float | int):
            self.scale = max(default_scale(num_labels), 0.0 if self.scale is None else math.sqrt(self.num_bits))
        if self.bit_weight == "num_labels":
            self.bit_weight = min(1.0, 64 / num_labels)
        if self.pair_weight == "multi_label":
            self.pair_weight = 3.0 if self.problem_type == _PROBLEM_TYPES[1] else 0.0
        if self.quantization_weight is None:
            self.quantization_weight = 0.1 if self.problem_type == _PROBLEM_TYPES[0] else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The fields as they are saved: with the names of the code files, and without paths of this machine."""
        values: dict[str, Any] = super().to_dict()
        values |= {"auto_map": dict(_AUTO_MAP), "custom_pipelines": {**_CUSTOM_PIPELINES}}
        backbone = values["backbone_config"]
        if backbone is not None and not is_hub_id(backbone.get("_name_or_path")):
            backbone.pop("_name_or_path", None)
        return values

    @property
    def codebook_shape(self) -> tuple[int, int, int]:
        """Shape of the codebook, (H, M, d)."""
        return self.num_bits // cast(int, self.head_dim), cast(int, self.codebook_size), cast(int, self.head_dim)

    @property
    def word_capacity(self) -> int:
        """Largest number of classes that a word of a head may be held by: 1, or that of `codebook.word_capacity`."""
        if self.codebook == "own":
            return 1
        return word_capacity(cast(int, self.num_labels), cast(int, self.head_dim), self.shared_room)

    @property
    def lengths(self) -> list[int]:
        """Numbers of first bits that are codes by themselves, ascending; the last is K."""
        return [*(self.prefix_bits or ()), self.num_bits]

    @property
    def num_heads(self) -> int:
        """Number of heads, H = K / d."""
        return self.codebook_shape[0]

    def _check_files(self, kwargs: dict[str, Any]) -> None:
        """Refuse weights that are no safetensors, and a repository's code where the library itself is imported."""
        if (weights := kwargs.get("transformers_weights")) is not None and not str(weights).endswith(
            (".safetensors", ".safetensors.index.json")
        ):
            raise ValueError(f"`transformers_weights` must name a safetensors file, but got {weights!r}.")
        if "custom_pipelines" in kwargs and not __name__.startswith("transformers_modules."):
            kwargs["custom_pipelines"] = _RegisteredPipelines(kwargs["custom_pipelines"])

    def _check_label_names(self) -> None:
        """Check the names of the classes and sort them by their ids."""
        for name in ("id2label", "label2id"):
            if (value := getattr(self, name)) is not None and not isinstance(value, dict):
                raise ValueError(f"`{name}` must be a dict, but got {value!r:.80}.")
        if self.id2label is None:
            return
        ids = [int(key) if str(key).isdecimal() else -1 for key in self.id2label]
        if sorted(ids) != list(range(len(ids))):
            raise ValueError(f"`id2label` must have the keys 0 to C-1, but got {list(self.id2label)!r:.80}.")
        self.id2label = dict(sorted(zip(ids, self.id2label.values(), strict=True), key=lambda item: item[0]))

    def _refuse_unknown_keys(self, kwargs: dict[str, Any]) -> None:
        if self.transformers_version is not None:
            return  # read from a saved config, to which transformers may have added keys of its own
        known = {entry.name for entry in fields(self)} | _TRANSFORMERS_KEYS
        for key in kwargs:
            if key not in known and not key.startswith("_"):
                raise ValueError(f"`{key}` is no field of CRHConfig{_suggestion(key, known)}")

    def _read_backbone_config(self) -> None:
        if isinstance(self.backbone_config, dict):
            if (model_type := self.backbone_config.get("model_type")) is None:
                found = f"a dict with the keys {sorted(self.backbone_config)}"
                raise ValueError(f"`backbone_config` must name its `model_type` (such as 'vit'), but got {found}.")
            if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
                found = f"{model_type!r}{_suggestion(str(model_type), set(CONFIG_MAPPING))}"
                raise ValueError(f"`backbone_config` must have a `model_type` of transformers, but got {found}")
            if self.transformers_version is None:  # or it was saved, and may hold keys of transformers' own
                _refuse_misspelt_keys(self.backbone_config, model_type)
            self.backbone_config = AutoConfig.for_model(**self.backbone_config)
        if self.backbone_config is None and self.tower is not None:
            raise ValueError(f"`tower` must be None where `backbone_config` is, but got {self.tower!r}.")
        is_wrong = self.transformers_version is None and self.num_features is not None  # a saved config holds it
        if self.num_features is None if self.backbone_config is None else is_wrong:
            rule = "must be given where `backbone_config` is None, and only there"
            raise ValueError(f"`num_features` {rule}, but got {self.num_features}.")

    def _check_ranges(self) -> None:
        for name, least in _LEAST.items():
            if isinstance(value := getattr(self, name), float | int) and not least <= value < math.inf:
                rule = "finite" if value >= least else f"at least {least}"
                raise ValueError(f"`{name}` must be {rule}, but got {value}.")
        if self.num_bits < 8 or self.num_bits % 8:
            raise ValueError(f"`num_bits` must be a positive multiple of 8, but got {self.num_bits}.")
        if self.problem_type is None:
            self.problem_type = "single_label_classification"
        if self.problem_type not in _PROBLEM_TYPES:
            allowed = " or ".join(map(repr, _PROBLEM_TYPES))
            raise ValueError(f"`problem_type` must be {allowed}, but got {self.problem_type!r}.")
        if isinstance(self.scale, float | int) and not 0 < self.scale < math.inf:
            raise ValueError(f"`scale` must be positive, and finite, but got {self.scale}.")
        for name in ("hash_head_dropout", "proxy_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must lie in [0, 1), but got {getattr(self, name)}.")

    def _choose_codebook(self, num_labels: int) -> None:
        if is_shared := self.codebook == "shared":
            self.head_dim = head_dim = SHARED_HEAD_DIM if self.head_dim is None else self.head_dim
            if not 1 <= head_dim <= MOST_SHARED_BITS:
                rule = f"from 1 to {MOST_SHARED_BITS} where `codebook` is 'shared'"
                raise ValueError(f"`head_dim` must be {rule}, but got {head_dim}.")
            if self.codebook_size not in (None, 2**head_dim):
                rule = f"None or 2^d={2**head_dim} where `codebook` is 'shared'"
                raise ValueError(f"`codebook_size` must be {rule}, but got {self.codebook_size}.")
        if self.codebook_size is None:
            self.codebook_size = 2 ** cast(int, self.head_dim) if is_shared else 2 * num_labels
        if not is_shared and self.codebook_size < num_labels:
            raise ValueError(f"`codebook_size` must be at least C={num_labels}, but got {self.codebook_size}.")
        if self.head_dim is None:
            self.head_dim = choose_head_dim(self.num_bits, self.codebook_size)
        if self.head_dim < 1 or self.num_bits % self.head_dim:
            raise ValueError(f"`head_dim` must divide K={self.num_bits}, but got {self.head_dim}.")
        if (self.codebook_size - 1).bit_length() > self.head_dim:
            found = f"{self.head_dim}, which gives {2**self.head_dim}"
            raise ValueError(f"`head_dim` must give 2^d words, at least M={self.codebook_size}, but got {found}.")
        check_prefixes(self.prefix_bits or (), self.num_bits, self.head_dim)


def _refuse_misspelt_keys(backbone: dict[str, Any], model_type: str) -> None:
    """Refuse a key of a backbone that is almost one of its fields; transformers keeps whatever is unknown."""
    config_class = CONFIG_MAPPING[model_type]
    known = {*dir(config_class), *config_class.attribute_map, *_TRANSFORMERS_KEYS}
    known |= {entry.name for entry in fields(config_class)}
    for key in map(str, backbone):
        hint = _suggestion(key, known, cutoff=0.8)
        if key not in known and hint != "." and not key.startswith("_"):
            raise ValueError(f"`{key}` is no field of `backbone_config`{hint}")


def _suggestion(key: str, known: set[str], cutoff: float = 0.6) -> str:
    """End a sentence about an unknown key with the known key that is nearest to it, if one is near."""
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=cutoff)
    return f"; did you mean `{close[0]}`?" if close else "."
