"""Recipe: all settings of a training run, as one YAML file."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from huggingface_hub.dataclasses import type_validator
from transformers import PreTrainedConfig, ViTImageProcessor

from modeling_crh.checks import check_whole
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.data import BENCHMARKS, DataSource, Division, options_of
from modeling_crh.data.tables import find_tables
from modeling_crh.encoding import Augmentation
from modeling_crh.encoding.adapters import ADAPTER_FOLDER
from modeling_crh.encoding.loading import MODEL_FOLDER
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.fine_tuning import LoraSettings
from modeling_crh.training.objectives import METHODS, OBJECTIVES, UNTRAINED
from modeling_crh.training.recipe_values import (
    OF_CRH_ALONE,
    RecipeLoader,
    check_keys,
    drop_settings_of_crh,
    modernised,
    plain_values,
    refuse_numbers_as_text,
)

_MODEL_FIELDS = {entry.name for entry in dataclasses.fields(CRHConfig)} - {
    *(entry.name for entry in dataclasses.fields(PreTrainedConfig)),
    "fixed_centers",
}
_TRAINING_FIELDS = {entry.name for entry in dataclasses.fields(CRHTrainingArguments)}
_IMAGE_PROCESSOR_FIELDS = set(get_type_hints(ViTImageProcessor.valid_kwargs))

RECIPE_NAME = "recipe.yaml"

DEMO_RECIPE = Path(__file__).parents[1] / "demo" / "fashion_mnist.yaml"
"""Default recipe of `crh train`, for the bundled sample; it trains in minutes on a CPU."""

FEATURES_RECIPE = Path(__file__).parent / "features.yaml"
"""Default recipe of `crh train` for stored features, which trains a head on them."""

_COLUMNS = "image_column audio_column text_column features_column label_column label_separator multi_hot".split()


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
            value = getattr(self, entry.name)
            _check_type(entry.name, value)
            if isinstance(value, dict):
                refuse_numbers_as_text(value, entry.name)
        super().__post_init__()
        check_whole("seed", self.seed, least=0)
        self._check_backbone()
        self._check_fine_tuning()
        self._check_method()
        for name in ("seed", "output_dir"):
            if name in self.training:
                raise ValueError(f"`{name}` must not stand under `training`: the run has one of its own.")
        for name in ("num_labels", "id2label", "label2id", "problem_type"):
            if name in self.model:
                raise ValueError(f"`{name}` must not stand under `model`: labels come from the data.")
        check_keys("`model`", self.model, _MODEL_FIELDS)
        check_keys("`training`", self.training, _TRAINING_FIELDS)
        check_keys("`image_processor`", self.image_processor or {}, _IMAGE_PROCESSOR_FIELDS)
        if isinstance(self.augmentation, dict):
            check_keys("`augmentation`", self.augmentation, {entry.name for entry in dataclasses.fields(Augmentation)})

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
            if self.centers_from is not None and self.training.get("reassignment", "none") != "none":
                moves = self.training["reassignment"]
                raise ValueError(f"`reassignment` must be 'none' with `centers_from`, but got {moves!r}.")
            return
        for name, is_given in (("centers_from", self.centers_from is not None), ("preset", self.preset != "paper")):
            if is_given:
                raise ValueError(f"`{name}` must be left out for {self.method}: it is CRH's alone.")
        for section, names in OF_CRH_ALONE.items():
            for name in names:
                if name in getattr(self, section):
                    raise ValueError(f"`{name}` must not stand under `{section}` for {self.method}: it is CRH's alone.")
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
        if self.lora is not None:
            check_keys("`lora`", self.lora, {entry.name for entry in dataclasses.fields(LoraSettings)})
            LoraSettings(**self.lora)
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
        merged = modernised(values)
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
            drop_settings_of_crh(merged, overrides)
        check_keys("a recipe", merged, set(_TYPES))
        if "dataset" not in merged:
            raise ValueError("`dataset` must be the name of a benchmark or a folder, but is missing.")
        return cls(**merged)

    def dump(self) -> str:
        """Write the recipe as YAML, with every field."""
        return yaml.safe_dump(plain_values(dataclasses.asdict(self)), sort_keys=False)


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


def find_recipe(checkpoint: str | Path) -> Recipe | None:
    """Read the recipe of a run, given its folder or that of its model or its adapter; None for any other model."""
    path = find_in_run(checkpoint, RECIPE_NAME)
    return None if path is None else Recipe.load(path)


def find_in_run(checkpoint: str | Path, name: str) -> Path | None:
    """Find a file in the folder of a run, given that or the folder of its model or its adapter."""
    folder = Path(checkpoint)
    for path in (folder / name, folder.parent / name):
        if path.is_file() and (path.parent == folder or folder.name in (MODEL_FOLDER, ADAPTER_FOLDER)):
            return path
    return None


def is_own_data(recipe: Recipe, dataset: str, **options: Any) -> bool:
    """Whether a data source, with these options, is that of a recipe."""
    is_same = dataset == recipe.dataset or Path(dataset).absolute() == Path(recipe.dataset).absolute()
    return is_same and all(getattr(recipe, name) == value for name, value in options.items() if name != "allow_urls")


def options_of_run(checkpoint: str, given: dict[str, Any], *, columns_only: bool = False) -> dict[str, Any]:
    """Read data options from the run that trained a checkpoint, as defaults for options that were not given.

    All options apply to the run's own data, since another division would query with training items. Only the columns
    (where the data have columns) and the rule for bad rows apply to other data. The run, which may be a stranger's,
    does not say which URLs may be read.

    Args:
        checkpoint: Folder of the run; any other checkpoint has no options.
        given: Options that were given.
        columns_only: Whether the data are encoded and not divided; without `dataset` in `given` they are any table.
    """
    recipe = find_recipe(checkpoint)
    if recipe is None:
        return {}
    known = options_of(DataSource, recipe)
    del known["allow_urls"]
    dataset = given.get("dataset", "" if columns_only else recipe.dataset)
    if not columns_only and is_own_data(recipe, dataset):
        division = options_of(Division, recipe)
        for name, value in division.items():
            if name in given and given[name] != value:
                raise ValueError(
                    f"`{name}` must be that of the run, {value!r}, or queries would be items of its training, but got "
                    f"{given[name]!r}."
                )
        return known | division
    is_folder = dataset != "" and Path(dataset).is_dir()
    has_columns = dataset not in BENCHMARKS and (not is_folder or find_tables(dataset) is not None)
    kinds = [name for name in ("image_column", "audio_column") if f"{known[name]}_column" == name]  # chosen in a folder
    return {name: known[name] for name in (*(_COLUMNS if has_columns else kinds), "skip_bad")}
