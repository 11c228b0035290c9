"""What a CRH model is made of."""

import difflib
import math
import re
from dataclasses import field, fields
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, ViTConfig

from .codebook import choose_head_dim
from .losses import default_scale

# What stands for the Auto classes and for `pipeline` where this library is not imported: files beside the config.
_AUTO_MAP = {"AutoConfig": "configuration_crh.CRHConfig", "AutoModel": "modeling_crh.CRHModel"}
_CUSTOM_PIPELINES = {"crh-hashing": {"impl": "pipeline_crh.CRHPipeline", "pt": ["AutoModel"], "type": "multimodal"}}

MOST_LABELS = 10_000_000
"""Classes that a config may have."""

# What transformers itself hands to a config beside the fields.
_TRANSFORMERS_KEYS = {
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "experts_implementation",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "quantization_config",
    "torch_dtype",
}


class _RegisteredPipelines(dict[str, Any]):
    """Tasks of a saved config that the imported library has registered with transformers.

    `pipeline` finds the task's name among the keys, and then takes the registered class, since it asks `in` before it
    would take the code of the repository.
    """

    def __contains__(self, task: object) -> bool:
        return False


def is_hub_id(name: object) -> bool:
    """Whether a name is of the Hub, such as `org/model`, and no path on this machine.

    Example:
        >>> [is_hub_id(name) for name in ("org/model", "bert-base", "/data/model", "./model", "a/b/c", "")]
        [True, True, False, False, False, False]
    """
    shaped = isinstance(name, str) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None
    return shaped and not Path(str(name)).exists()


@strict
class CRHConfig(PreTrainedConfig):
    """Backbone, hash head, codebook and loss of a `CRHModel`. Defaults are the paper's wherever it names one.

    Args:
        backbone_config: Config of any model that `AutoModel` can build, or its dict with a `model_type`. Left out, it
            is a ViT; None stands for no backbone, and the model then reads stored `features`.
        num_features: Width of the stored features; only without a backbone, and then required.
        pooling: How the backbone's output becomes one vector: `"pooler"`, its own pooled output; `"cls"`, the first
            token; `"mean"`, the mean over tokens or positions, without padding. None takes the pooler where the
            backbone has one (ViT's dense tanh layer is none), and otherwise the mean of texts and the cls of images.
        num_bits: K, the bits of a code, a multiple of 8.
        codebook_size: M, codewords of each head. None stands for 2 C.
        head_dim: d, bits of each head, a divisor of K with 2^d at least M. None follows the paper's rule, which is
            `choose_head_dim`.
        codebook_draws: Of how many random draws the one with the furthest apart centers is kept.
        codebook_seed: Seed of those draws.
        hash_head: `"linear"` as in the paper, or `"mlp"`: linear, batch norm, ReLU, dropout, linear.
        hash_head_hidden_size: Width of the MLP's hidden layer.
        hash_head_dropout: Share of the hidden units dropped in training.
        hash_head_batch_norm: End the hash head in a batch norm of the K outputs, before which the linear layer has no
            bias; what OrthoHash does.
        margin: m of Eq. 1.
        scale: s of Eq. 1. None stands for the paper's sqrt(2) ln(C - 1), and for two classes the scale of three;
            `"num_bits"` for the larger of that and sqrt(K), which is better for few classes and long codes.
        quantization_weight: lambda of Eq. 4. None stands for 0.1 with single-label and 0 with multi-label data.
        initializer_range: Standard deviation of the hash head's first weights.
        num_labels: C, from 2 to `MOST_LABELS`; or give `id2label`.
        problem_type: `"single_label_classification"` (the default) or `"multi_label_classification"`.

    Raises:
        ValueError: If a field breaks its rule or is unknown.

    Example:
        >>> config = CRHConfig(backbone_config=None, num_features=512, num_labels=100)
        >>> config.codebook_size, config.head_dim, config.num_heads
        (200, 8, 8)
    """

    model_type = "crh"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012 - transformers' own way to say so

    backbone_config: dict[str, Any] | PreTrainedConfig | None = field(default_factory=ViTConfig)
    num_features: int | None = None
    pooling: Literal["pooler", "cls", "mean"] | None = None
    num_bits: int = 64
    codebook_size: int | None = None
    head_dim: int | None = None
    codebook_draws: int = 1
    codebook_seed: int = 0
    hash_head: Literal["linear", "mlp"] = "linear"
    hash_head_hidden_size: int = 1024
    hash_head_dropout: float | int = 0.0
    hash_head_batch_norm: bool = False
    margin: float | int = 0.2
    scale: float | int | Literal["num_bits"] | None = None
    quantization_weight: float | int | None = None
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse what cannot work, and fill in what follows from the rest."""
        self._refuse_unknown_keys(kwargs)
        self._read_backbone_config()
        if not isinstance(kwargs.get("num_labels", 2), Integral):
            raise ValueError(f"`num_labels` must be an integer, but got {kwargs['num_labels']!r}.")
        if kwargs.get("num_labels", 2) > MOST_LABELS:  # transformers makes a name for each, until memory ends
            raise ValueError(f"`num_labels` must be at most {MOST_LABELS}, but got {kwargs['num_labels']}.")
        self._check_files(kwargs)
        self._check_label_names()
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self._check_ranges()
        if self.problem_type is None:
            self.problem_type = "single_label_classification"
        num_labels = cast(int, self.num_labels)
        self._choose_codebook(num_labels)
        if self.scale is None:
            self.scale = default_scale(num_labels)
        elif self.scale == "num_bits":
            self.scale = max(default_scale(num_labels), math.sqrt(self.num_bits))
        if self.quantization_weight is None:
            self.quantization_weight = 0.1 if self.problem_type == "single_label_classification" else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The fields as they are saved: with the names of the code beside them, and without a path of this machine."""
        values: dict[str, Any] = super().to_dict()
        values |= {"auto_map": dict(_AUTO_MAP), "custom_pipelines": {**_CUSTOM_PIPELINES}}
        backbone = values["backbone_config"]
        if backbone is not None and not is_hub_id(backbone.get("_name_or_path")):
            backbone.pop("_name_or_path", None)
        return values

    @property
    def codebook_shape(self) -> tuple[int, int, int]:
        """H, M and d, where H = K / d."""
        head_dim = cast(int, self.head_dim)
        return self.num_bits // head_dim, cast(int, self.codebook_size), head_dim

    @property
    def num_heads(self) -> int:
        """H = K / d."""
        return self.codebook_shape[0]

    def _check_files(self, kwargs: dict[str, Any]) -> None:
        """Weights come from safetensors alone; code of a repository is for where this class is of a repository too."""
        weights = kwargs.get("transformers_weights")
        if weights is not None and not str(weights).endswith((".safetensors", ".safetensors.index.json")):
            raise ValueError(f"`transformers_weights` must name a safetensors file, but got {weights!r}.")
        if "custom_pipelines" in kwargs and not __name__.startswith("transformers_modules."):
            kwargs["custom_pipelines"] = _RegisteredPipelines(kwargs["custom_pipelines"])

    def _check_label_names(self) -> None:
        """The names of the classes, in the order of their ids, by which the rest of the library reads them."""
        for name in ("id2label", "label2id"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, dict):
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
                close = difflib.get_close_matches(key, sorted(known), n=1)
                hint = f"; did you mean `{close[0]}`?" if close else "."
                raise ValueError(f"`{key}` is no field of CRHConfig{hint}")

    def _read_backbone_config(self) -> None:
        if isinstance(self.backbone_config, dict):
            if "model_type" not in self.backbone_config:
                raise ValueError(
                    "`backbone_config` must name its `model_type` (such as 'vit'), but got a dict with the keys "
                    f"{sorted(self.backbone_config)}."
                )
            model_type = self.backbone_config["model_type"]
            if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
                close = difflib.get_close_matches(str(model_type), list(CONFIG_MAPPING.keys()), n=1)
                hint = f"; did you mean {close[0]!r}?" if close else "."
                raise ValueError(
                    f"`backbone_config` must have a `model_type` of transformers, but got {model_type!r}{hint}"
                )
            if self.transformers_version is None:  # or it was saved, and may hold keys of transformers' own
                self._refuse_typos_of_the_backbone(self.backbone_config)
            self.backbone_config = AutoConfig.for_model(**self.backbone_config)
        if self.backbone_config is None and self.num_features is None:
            raise ValueError("`num_features` must be given where `backbone_config` is None, but got None.")
        if self.backbone_config is not None and self.num_features is not None:
            raise ValueError(
                "`num_features` must be None where there is a backbone, which has its own width, but got "
                f"{self.num_features}."
            )

    def _refuse_typos_of_the_backbone(self, values: dict[str, Any]) -> None:
        config_class = CONFIG_MAPPING[values["model_type"]]
        known = {*dir(config_class), *config_class.attribute_map, *_TRANSFORMERS_KEYS}
        known |= {entry.name for entry in fields(config_class)}
        for key in values:
            close = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.8)
            if key not in known and close and not str(key).startswith("_"):
                raise ValueError(f"`{key}` is no field of `backbone_config`; did you mean `{close[0]}`?")

    def _check_ranges(self) -> None:
        if cast(int, self.num_labels) < 2:
            raise ValueError(
                f"`num_labels` must be at least 2, or there is nothing to learn, but got {self.num_labels}."
            )
        if self.num_bits < 8 or self.num_bits % 8:
            raise ValueError(f"`num_bits` must be a positive multiple of 8, but got {self.num_bits}.")
        if self.problem_type not in (None, "single_label_classification", "multi_label_classification"):
            raise ValueError(
                "`problem_type` must be 'single_label_classification' or 'multi_label_classification', but got "
                f"{self.problem_type!r}."
            )
        for name in ("num_features", "codebook_draws", "hash_head_hidden_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, but got {value}.")
        for name in ("codebook_seed", "quantization_weight", "initializer_range"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"`{name}` must not be negative, but got {value}.")
        if isinstance(self.scale, float | int) and not self.scale > 0:
            raise ValueError(f"`scale` must be positive, but got {self.scale}.")
        if not 0 <= self.hash_head_dropout < 1:
            raise ValueError(f"`hash_head_dropout` must lie in [0, 1), but got {self.hash_head_dropout}.")

    def _choose_codebook(self, num_labels: int) -> None:
        if self.codebook_size is None:
            self.codebook_size = 2 * num_labels
        if self.codebook_size < num_labels:
            raise ValueError(f"`codebook_size` must be at least C={num_labels}, but got {self.codebook_size}.")
        if self.head_dim is None:
            self.head_dim = choose_head_dim(self.num_bits, self.codebook_size)
        if self.head_dim < 1 or self.num_bits % self.head_dim:
            raise ValueError(f"`head_dim` must divide K={self.num_bits}, but got {self.head_dim}.")
        if (self.codebook_size - 1).bit_length() > self.head_dim:
            raise ValueError(
                f"`head_dim` must give 2^d words, at least M={self.codebook_size}, but got {self.head_dim}, "
                f"which gives {2**self.head_dim}."
            )
