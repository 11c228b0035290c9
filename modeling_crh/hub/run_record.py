"""Read the record of a run, and keep of it and of a config what may be published."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from transformers import CONFIG_MAPPING, PreTrainedConfig

from modeling_crh.configuration_crh import CRHConfig, is_hub_id
from modeling_crh.runtime.atomic_files import write_json

BENCHMARKS: dict[str, tuple[str, str | None]] = {
    "cifar10": ("CIFAR-10", "uoft-cs/cifar10"),
    "cifar100": ("CIFAR-100", "uoft-cs/cifar100"),
    "coco": ("COCO 2017", "detection-datasets/coco"),
    "coco_2014": ("COCO 2014", None),
    "emoji": ("Emoji", None),
    "emoji_sample": ("Emoji, bundled sample", None),
    "fashion_mnist": ("Fashion-MNIST", "zalando-datasets/fashion_mnist"),
    "fashion_mnist_sample": ("Fashion-MNIST, bundled sample", "zalando-datasets/fashion_mnist"),
    "nabirds": ("NABirds", None),
    "stanford_cars": ("Stanford Cars", "tanganke/stanford_cars"),
}
"""Title and, if any, Hub id of each benchmark."""

MOST_VALUES = 10_000
"""Largest number of values in a recipe, each counted as often as its aliases stand in it."""

OWN_DATA = "your-data"
"""Placeholder for a folder or table in a published recipe."""

OWN_MODEL = "your-model"
"""Placeholder for the folder of a model in a published recipe."""

PICTURES = {
    "contact_sheet.png": "Queries, one per row, and the nearest items of the database.",
    "precision_recall.png": "Precision over recall, one point for each radius of the Hamming ball.",
}
"""Captions of the pictures of a run that a card may show, by file name."""

_PICTURES_OF_DATA = {"contact_sheet.png"}

# What a recipe may publish, by name; anything else, such as paths, accounts, hosts and tokens, stays on this machine.
_RECIPE = {
    *("dataset", "split", "protocol", "validation_fraction", "query_fraction", "seed", "skip_bad", "multi_hot"),
    "unseen_fraction",
    *("image_column", "audio_column", "text_column", "features_column", "label_column", "label_separator"),
    *("backbone", "freeze_backbone", "unfreeze_last", "lora", "model", "image_processor", "feature_extractor"),
    *("augmentation", "balanced", "training", "preset", "centers_from", "method", "method_settings"),
}
_MODEL = set(CRHConfig.__annotations__)
_TRAINING = {
    *("learning_rate", "head_learning_rate", "layer_decay", "weight_decay", "decoupled_weight_decay", "max_grad_norm"),
    *("reassignment", "soft_statistics", "reassign_every_epoch_until", "reassign_every"),
    *("num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size"),
    *("gradient_accumulation_steps", "auto_find_batch_size", "train_sampling_strategy", "label_smoothing_factor"),
    *("optim", "adam_beta1", "adam_beta2", "adam_epsilon", "neftune_noise_alpha"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"),
    *("bf16", "fp16", "tf32", "bf16_full_eval", "fp16_full_eval", "gradient_checkpointing", "torch_compile"),
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "logging_strategy", "logging_steps"),
    *("save_strategy", "save_steps", "save_total_limit", "save_only_model", "load_best_model_at_end"),
    *("metric_for_best_model", "greater_is_better", "report_to", "use_cpu", "full_determinism", "data_seed"),
    *("dataloader_drop_last", "dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory"),
    *("dataloader_persistent_workers", "ddp_timeout", "remove_unused_columns"),
}

# Entries of the sections of a recipe that may be words; of the first two nothing else is published, of others numbers.
_WORDS: dict[str, set[str]] = {
    "model": _MODEL,
    "training": _TRAINING,
    "lora": {"target_modules"},
    "feature_extractor": {"feature_extractor_type", "padding", "truncation"},
    "augmentation": set(),
    "image_processor": set(),
    "method_settings": set(),
}

# Entries of saved configs beside the fields of their classes that hold words; transformers computes them.
_CONFIG = {
    *("_name_or_path", "model_type", "auto_map", "custom_pipelines", "quantization_config", "dtype", "torch_dtype"),
    *("out_features", "stage_names", "layer_types", "hidden_act", "dense_act_fn", "arch", "global_pool"),
}


@dataclass(frozen=True)
class RunRecord:
    """Public record of a run.

    Args:
        figures: Figures by name, as in `retrieval_figures`.
        split: Split of the figures: `query` or `validation`.
        recipe: Fields of the recipe, without paths, accounts and secrets.
        history: Log of the training, as numbers by name.
        pictures: Files by name in `PICTURES`.
        readme: Text of the model card in the run's folder; None without one.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    split: str = "query"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    pictures: Mapping[str, Path] = field(default_factory=dict)
    readme: str | None = None

    def save(self, folder: Path) -> None:
        """Write everything but the card into a folder, as `read_run` reads it."""
        if self.figures and self.split == "query":
            write_json(folder / "figures.json", dict(self.figures))
        if self.history:
            write_json(folder / "history.json", [dict(row) for row in self.history])
        if self.recipe:
            (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(self.recipe), sort_keys=False))
        for name, file in self.pictures.items():
            shutil.copyfile(file, folder / name)


def read_run(folder: str | Path, *, with_pictures: bool = False) -> RunRecord:
    """Read figures.json, recipe.yaml, history.json, README.md and the pictures of a run, those of the data if asked.

    `folder` is that of a run, the folder `model` in it, or a folder with only a checkpoint.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"`run` must be a folder, but got {str(folder)!r}.")
    if root.name == "model" and (root.parent / "recipe.yaml").is_file():
        root = root.parent
    shown = [name for name in PICTURES if with_pictures or name not in _PICTURES_OF_DATA]
    readme = next((file for file in (root / "README.md", root / "model" / "README.md") if file.is_file()), None)
    try:
        return RunRecord(
            figures=_numbers(_read(root / "figures.json", {})),
            recipe=public_recipe(_read(root / "recipe.yaml", {})),
            history=[_numbers(row) for row in _read(root / "history.json", [])],
            pictures={name: root / name for name in shown if (root / name).is_file()},
            readme=None if readme is None else readme.read_text(encoding="utf-8"),
        )
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"`run` must hold complete files, but {str(folder)!r} does not: {error}.") from error


def public_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the fields of a recipe that may be published: those that are listed here, without paths.

    Example:
        >>> public_recipe({"dataset": "/home/ada/cars", "backbone": "org/vit", "training": {"hub_token": "hf_1"}})
        {'dataset': 'your-data', 'backbone': 'org/vit', 'training': {}}
    """
    public: dict[str, Any] = {name: value for name, value in recipe.items() if name in _RECIPE}
    if "dataset" in public and public["dataset"] not in [*BENCHMARKS]:
        public["dataset"] = OWN_DATA
    if not is_public_id(public.get("backbone")):
        public.pop("backbone", None)
    if public.get("centers_from") is not None and not is_public_id(public["centers_from"]):
        public["centers_from"] = OWN_MODEL
    for name in _WORDS.keys() & public.keys():
        section = public[name]
        if isinstance(section, Mapping):
            public[name] = {key: value for key, value in section.items() if _may_stand(name, key, value)}
        elif section is not None and not (name == "augmentation" and isinstance(section, str)):
            del public[name]
    backbone = (public.get("model") or {}).get("backbone_config")
    if isinstance(backbone, Mapping):
        public["model"]["backbone_config"] = public_config(backbone)
    return cast(dict[str, Any], _without_paths(public))


def _may_stand(section: str, key: Any, value: Any) -> bool:
    """Whether an entry of a section of a recipe may be published."""
    if key == "lr_scheduler_kwargs":
        return _is_numeric(value)
    if key == "backbone_config":
        return isinstance(value, Mapping) or _is_numeric(value)
    return key in _WORDS[section] or (section not in ("model", "training") and _is_numeric(value))


def public_config(values: Mapping[str, Any], config_class: type[PreTrainedConfig] | None = None) -> dict[str, Any]:
    """Keep the entries of a saved config that are fields of its class, also of the configs inside it.

    Of others, which anybody may have added, numbers stay. Names of models stay if they are ids on the Hub. Without
    `config_class`, the `model_type` among the values tells the class.
    """
    kind = _config_class(values) if config_class is None else config_class
    known = _CONFIG | {entry.name for entry in dataclasses.fields(kind)}
    kept = {name: value for name, value in values.items() if name in known or _is_numeric(value)}
    for name, value in kept.items():
        if isinstance(value, Mapping) and (name in kind.sub_configs or "model_type" in value):
            kept[name] = public_config(value, _config_class(value, kind.sub_configs.get(name)))
    return {name: value for name, value in kept.items() if name != "_name_or_path" or is_public_id(value)}


def is_public_id(name: object) -> bool:
    """Whether a name is an id on the Hub with its owner, `org/model`, since a name alone may be that of a folder."""
    return is_hub_id(name) and "/" in str(name)


def _config_class(values: Mapping[str, Any], otherwise: Any = None) -> type[PreTrainedConfig]:
    """Find the class of a config by its `model_type`; `otherwise`, if it is one, for a type that is not known."""
    kind = str(values.get("model_type"))
    found: Any = CONFIG_MAPPING[kind] if kind in CONFIG_MAPPING else otherwise
    return cast(type[PreTrainedConfig], found) if dataclasses.is_dataclass(found) else PreTrainedConfig


def _is_numeric(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_numeric, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_numeric, value))
    return value is None or isinstance(value, bool | int | float)


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_paths(inner) for key, inner in value.items() if not _is_path(key) and not _is_path(inner)}
    if isinstance(value, list | tuple):
        return [_without_paths(inner) for inner in value if not _is_path(inner)]
    return value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and re.search(r"[/\\~]", value) is not None and not is_public_id(value)


def _numbers(row: Any) -> dict[str, float]:
    """Keep the entries that are finite numbers, under plain names."""
    if not isinstance(row, Mapping):
        raise ValueError(f"it holds {row!r:.80} in the place of names and values")
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if re.fullmatch(r"[\w@.+-]{1,80}", name)
    }


class RecipeLoader(yaml.SafeLoader):
    """Load YAML like `yaml.safe_load`, but refuse what could fill the memory: merge keys, and copies of copies."""

    def get_single_node(self) -> yaml.Node | None:
        """Refuse a document that holds too many values, or itself, by its aliases."""
        document: yaml.Node | None = super().get_single_node()
        nodes = [] if document is None else [document]
        for count, node in enumerate(nodes):
            if count > MOST_VALUES:
                raise yaml.constructor.ConstructorError(
                    problem=f"a recipe holds at most {MOST_VALUES} values", problem_mark=nodes[0].start_mark
                )
            if isinstance(node, yaml.MappingNode):
                nodes += [value for _, value in node.value]
            elif isinstance(node, yaml.SequenceNode):
                nodes += node.value
        return document

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merge keys."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    problem="a recipe has no merge keys, <<", problem_mark=key.start_mark
                )
        super().flatten_mapping(node)


def _read(file: Path, otherwise: Any) -> Any:
    if not file.is_file():
        return otherwise
    text = file.read_text(encoding="utf-8")
    content = json.loads(text) if file.suffix == ".json" else yaml.load(text, RecipeLoader)
    if not isinstance(content, type(otherwise)):
        raise ValueError(f"{file.name} holds no {type(otherwise).__name__}")
    return content
