"""Recipe: all settings of a training run, as one YAML file."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import yaml
from huggingface_hub.dataclasses import type_validator
from transformers import PreTrainedConfig, ViTImageProcessor

from modeling_crh.checks import check_keys, check_whole
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.data import DataSource, Division
from modeling_crh.encoding import Augmentation
from modeling_crh.hub.run_record import RecipeLoader
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.fine_tuning import LoraSettings
from modeling_crh.training.objectives import METHODS, OBJECTIVES, UNTRAINED

_SECTIONS: dict[str, set[str]] = {
    "lora": {*LoraSettings.__dataclass_fields__},
    "model": {*CRHConfig.__dataclass_fields__} - {*PreTrainedConfig.__dataclass_fields__, "fixed_centers"},
    "training": {*CRHTrainingArguments.__dataclass_fields__},
    "image_processor": {*get_type_hints(ViTImageProcessor.valid_kwargs)},
    "augmentation": {*Augmentation.__dataclass_fields__},
}
"""Fields of the sections of a recipe."""

RECIPE_NAME = "recipe.yaml"
DEMO_RECIPE = Path(__file__).parents[1] / "demo" / "fashion_mnist.yaml"
"""Default recipe of `crh train`, for the bundled sample; it trains in minutes on a CPU."""

FEATURES_RECIPE = Path(__file__).parent / "features.yaml"
"""Default recipe of `crh train` for stored features, which trains a head on them."""

MODEL_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "best": {
        "codebook": "shared",
        "hash_head_batch_norm": True,
        "scale": "num_bits",
        "quantization_weight": 0.0,
        "bit_weight": "num_labels",
        "pair_weight": "multi_label",
        "proxy_share": 0.2,
        "dropout_masks": 4,
    },
}
"""Defaults of `model` in a recipe: those of the paper, and those that measured best, see docs/experiments.md."""

_CODES = "codebook codebook_size codebook_draws codebook_seed head_dim shared_room prefix_bits"
_LOSS = "margin scale quantization_weight bit_weight pair_weight prefix_weight proxy_share"
_OF_CRH_ALONE = {
    "model": [*_CODES.split(), *_LOSS.split()],
    "training": ["reassignment", "soft_statistics", "reassign_every_epoch_until", "reassign_every"],
}
"""Fields of a recipe's sections that only CRH reads."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Division, DataSource):
    """Settings of a run: the fields of `DataSource`, `Division` and these. `Recipe.load` reads them from YAML.

    Args:
        dataset: A benchmark, a folder of images or sounds, tables, a saved dataset, or the Hub id of a dataset.
        backbone: Hub id or folder of a pretrained backbone; None needs a `backbone_config` in `model`.
        freeze_backbone: Whether to train only the hash head.
        unfreeze_last: Number of last blocks of the backbone to train with the hash head, see `unfreeze_last`.
        lora: Fields of `LoraSettings`, to train LoRA weights with the hash head; None trains none.
        model: Fields of `CRHConfig`; labels come from the data.
        image_processor: Fields of a `ViTImageProcessor`, such as `size`; None takes the backbone's own.
        feature_extractor: Fields of a feature extractor of sound, with its class as `feature_extractor_type`.
        augmentation: Image augmentation of training items: the name of one of `PRESETS`, or settings.
        balanced: Whether to draw the training rows of each epoch so that every class is as likely as any other.
        training: Fields of `CRHTrainingArguments`.
        preset: Defaults of `model` for CRH: `"paper"`, those of `CRHConfig`, or `"best"`, see `MODEL_PRESETS`.
        centers_from: Hub id or folder of a model trained by CRH. The new model takes its classes, matched by name, and
            its centers, which never move, so that the codes of both can be compared.
        method: `crh`, a rival of `modeling_crh.training.objectives`, or your own `Objective` as `module:Class`.
        method_settings: Settings of a rival, such as `margin`; settings of CRH belong to `model` and `training`.

    Raises:
        ValueError: If a field is missing, unknown, of another type or contradicts another field; or if a number is
            written as text, as YAML reads `1e-3`.
    """

    dataset: str = field()
    backbone: str | None = None
    freeze_backbone: bool = False
    unfreeze_last: int | None = None
    lora: dict[str, Any] | None = None
    model: dict[str, Any] = field(default_factory=dict)
    image_processor: dict[str, Any] | None = None
    feature_extractor: dict[str, Any] | None = None
    augmentation: str | dict[str, Any] = "light"
    balanced: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    preset: Literal["paper", "best"] = "paper"
    centers_from: str | None = None
    method: str = "crh"
    method_settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            _check_type(entry.name, value := getattr(self, entry.name))
            if isinstance(value, dict):
                _refuse_numbers_as_text(value, entry.name)
        super().__post_init__()
        for name in ("backbone", "centers_from"):  # relative, `models/vit` would be a Hub id seen from elsewhere
            if (value := getattr(self, name)) and Path(value).is_dir():
                object.__setattr__(self, name, str(Path(value).absolute()))
        check_whole("seed", self.seed, least=0)
        self._check_backbone()
        self._check_fine_tuning()
        self._check_method()
        self._refuse("training", ("seed", "output_dir"), ": the run has one of its own.")
        self._refuse("model", ("num_labels", "id2label", "label2id", "problem_type"), ": labels come from the data.")
        for section, known in _SECTIONS.items():
            if isinstance(value := getattr(self, section), dict):
                check_keys(f"`{section}`", value, known)
        if self.lora is not None:
            LoraSettings(**self.lora)

    def _refuse(self, section: str, names: Iterable[str], reason: str) -> None:
        for name in names:
            if name in getattr(self, section):
                raise ValueError(f"`{name}` must not stand under `{section}`{reason}")

    def _check_method(self) -> None:
        if ":" not in self.method:  # the user's own objective is imported only when it is built
            if self.method not in METHODS:
                raise ValueError(
                    f"`method` must be one of {', '.join(METHODS)}, or an objective of your own as `module:Class`, "
                    f"but got {self.method!r}."
                )
            known = OBJECTIVES[self.method].setting_names() if self.method in OBJECTIVES else set()
            if self.method_settings and not known:
                raise ValueError(f"`method_settings` must be left out for {self.method}, which has none.")
            check_keys("`method_settings`", self.method_settings, known)
        if self.method == "crh":
            moves = self.training.get("reassignment", "none")
            if self.centers_from is not None and moves != "none":
                raise ValueError(f"`reassignment` must be 'none' with `centers_from`, but got {moves!r}.")
            return
        for name, is_given in (("centers_from", self.centers_from is not None), ("preset", self.preset != "paper")):
            if is_given:
                raise ValueError(f"`{name}` must be left out for {self.method}: it is CRH's alone.")
        for section, names in _OF_CRH_ALONE.items():
            self._refuse(section, names, f" for {self.method}: it is CRH's alone.")
        if self.method in UNTRAINED:
            if self.balanced:
                raise ValueError(f"`balanced` must be left out for {self.method}, which trains nothing.")
            for name, only in (("hash_head", "linear"), ("hash_head_batch_norm", False)):
                if self.model.get(name, only) != only:
                    raise ValueError(f"`{name}` must be {only!r} for {self.method}, but got {self.model[name]!r}.")

    def _check_backbone(self) -> None:
        config = self.model.get("backbone_config")
        if self.features_column is not None:
            if self.text_column is not None or self.backbone is not None or config is not None:
                raise ValueError("`features_column` must stand alone: features need no backbone and are no text.")
            return
        if (self.backbone is None) == (config is None):
            raise ValueError(
                "The recipe must name either a pretrained `backbone` or a `backbone_config` under `model`, but has "
                f"{'neither, and no `features_column`' if self.backbone is None else 'both'}."
            )
        if self.text_column is not None and self.backbone is None:
            raise ValueError("`backbone` must be given with a `text_column`, since the tokenizer is its own.")
        if self.backbone is None and (self.image_processor is None) == (self.feature_extractor is None):
            raise ValueError("`image_processor` or `feature_extractor` must be given with a `backbone_config`.")

    def _check_fine_tuning(self) -> None:
        names = ("freeze_backbone", "unfreeze_last", "lora")
        chosen = [name for name in names if getattr(self, name) not in (None, False)]
        if len(chosen) > 1:
            raise ValueError(f"`{chosen[0]}` and `{chosen[1]}` contradict each other: a recipe must have one at most.")
        if chosen and self.method in UNTRAINED:
            raise ValueError(f"`{chosen[0]}` must be left out for {self.method}, which trains nothing.")
        if chosen and self.backbone is None:
            raise ValueError(f"`{chosen[0]}` must be given with a pretrained `backbone` only, whose weights it keeps.")

    @classmethod
    def load(cls, path: str | Path, **overrides: Any) -> "Recipe":
        """Read a recipe from YAML.

        Args:
            path: Path of the file.
            **overrides: Fields that override those of the file; dicts are merged into its dicts.

        Raises:
            ValueError: If the file is not a recipe.
        """
        try:
            values = yaml.load(Path(path).read_text(encoding="utf-8"), RecipeLoader)
        except (IsADirectoryError, UnicodeDecodeError) as error:
            found = "a folder" if isinstance(error, IsADirectoryError) else "no text in UTF-8"
            message = f"`recipe` must be a YAML file, but {str(path)!r} is {found}: name data by `dataset`."
            raise ValueError(message) from error
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise ValueError(f"`recipe` must be a readable YAML file, but {str(path)!r} is not: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"`recipe` must hold fields by name, but {str(path)!r} does not: name data by `dataset`.")
        return cls.from_dict(values, **overrides)

    @classmethod
    def from_dict(cls, values: dict[str, Any], **overrides: Any) -> "Recipe":
        """Make a recipe from plain values, see `load`.

        Example:
            >>> Recipe.from_dict({"dataset": "shoes", "backbone": "org/vit"}, model={"num_bits": 32}).model
            {'num_bits': 32}
        """
        merged = _modernised(values)
        for key, value in overrides.items():
            if isinstance(value, dict) and key in merged:
                _check_type(key, merged[key])
                value = (merged[key] or {}) | value
            merged[key] = value
        if overrides.get("backbone") is not None:  # an explicit backbone replaces the recipe's `backbone_config`
            for processor in ("image_processor", "feature_extractor"):
                merged.pop(processor, None)
            merged["model"] = {key: value for key, value in merged.get("model", {}).items() if key != "backbone_config"}
        if overrides.get("method", "crh") != "crh":
            _drop_settings_of_crh(merged, overrides)
        check_keys("a recipe", merged, set(_TYPES))
        if "dataset" not in merged:
            raise ValueError("`dataset` must be the name of a benchmark or a folder, but is missing.")
        return cls(**merged)

    def dump(self) -> str:
        """Write the recipe as YAML, with every field."""
        return yaml.safe_dump(_plain_values(dataclasses.asdict(self)), sort_keys=False)


_TYPES: dict[str, Any] = {entry.name: entry.type for entry in dataclasses.fields(Recipe)}


def _check_type(name: str, value: Any) -> None:
    kind = _TYPES.get(name, Any)
    try:
        type_validator(name, value, kind)
    except TypeError as error:
        if get_origin(kind) is Literal:
            allowed = " or ".join(map(repr, get_args(kind)))
            raise ValueError(f"`{name}` must be {allowed}, but got {value!r}.") from error
        words = kind.__name__ if isinstance(kind, type) else str(kind).replace("dict[str, typing.Any]", "dict")
        raise ValueError(f"`{name}` must be of type {words}, but got {value!r}.") from error


def _refuse_numbers_as_text(value: dict[str, Any], name: str) -> None:
    """Refuse numbers given as text."""
    values: list[tuple[str, Any]] = [(name, value)]
    for place, inner in values:
        if isinstance(inner, dict):
            values += [(f"{place}.{key}", below) for key, below in inner.items()]
        elif isinstance(inner, list):
            values += [(place, below) for below in inner]
        elif isinstance(inner, str):
            try:
                float(inner)
            except ValueError:
                continue
            rule = f"`{place}` must be a number, but got the text {inner!r}"
            raise ValueError(f"{rule}; YAML reads 1.0e-3, but not 1e-3.")


def _plain_values(value: Any) -> Any:
    """Convert numbers of NumPy, members of enums and tuples to what YAML can hold, at any depth."""
    if isinstance(value, dict):
        return {key: _plain_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_values(inner) for inner in value]
    if isinstance(value, Enum):
        return value.value
    return value.item() if isinstance(value, np.generic) else value


def _modernised(values: dict[str, Any]) -> dict[str, Any]:
    """Rename fields that older versions have written."""
    if "skip_bad_images" not in values:
        return dict(values)
    defaults = [("label_column", "label"), ("validation_fraction", 0.1)]  # older versions wrote these too
    kept = {name: value for name, value in values.items() if (name, value) not in defaults}
    return {"skip_bad" if name == "skip_bad_images" else name: value for name, value in kept.items()}


def _drop_settings_of_crh(merged: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Drop the settings of CRH in a file if another method overrides it; settings in the overrides stay."""
    if "preset" not in overrides:
        merged.pop("preset", None)
    heads = ("hash_head", "hash_head_hidden_size", "hash_head_dropout", "hash_head_batch_norm", "dropout_masks")
    for section, names in _OF_CRH_ALONE.items():
        if isinstance(merged.get(section), dict):
            dropped = {*names, *(heads if overrides["method"] in UNTRAINED else ())} - {*overrides.get(section, ())}
            merged[section] = {key: value for key, value in merged[section].items() if key not in dropped}
