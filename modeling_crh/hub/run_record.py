"""What a run's folder tells about its model, without a word about the machine that it ran on."""

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from modeling_crh.configuration_crh import is_hub_id

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
"""Benchmark to its title, and to its id on the Hub where it has one."""

OWN_DATA = "your-data"
"""What a public recipe has in the place of a folder or a table."""

PICTURES = {
    "contact_sheet.png": "Queries, one a row, and the nearest items of the database.",
    "precision_recall.png": "Precision over recall, one point for each radius of the Hamming ball.",
}
"""Pictures of a run's folder, and what they show."""

_PRIVATE_SETTINGS = re.compile(r"hub_.*|push_to_hub.*|run_name|project|.*token.*|.*_dir|trackio_.*|_name_or_path")


@dataclass(frozen=True)
class RunRecord:
    """A run, as far as it is known; all of it may be missing.

    Args:
        figures: Name to value, as `retrieval_figures` calls them.
        split: What the figures were measured on: `query` or `validation`.
        recipe: Fields of a recipe that name no path, no account and no secret.
        history: What training logged: mappings of names to numbers.
        pictures: Name to file of those of `PICTURES` that are there.
        readme: A card that somebody wrote already.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    split: str = "query"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    pictures: Mapping[str, Path] = field(default_factory=dict)
    readme: str | None = None

    def save(self, folder: Path) -> None:
        """Write what is known under the names that `read_run` looks for, the card excepted."""
        if self.figures and self.split == "query":
            (folder / "figures.json").write_text(json.dumps(dict(self.figures), indent=2) + "\n")
        if self.history:
            (folder / "history.json").write_text(json.dumps([dict(row) for row in self.history], indent=2) + "\n")
        if self.recipe:
            (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(self.recipe), sort_keys=False))
        for name, file in self.pictures.items():
            shutil.copyfile(file, folder / name)


def read_run(folder: str | Path) -> RunRecord:
    """What a run's folder holds of figures.json, recipe.yaml, history.json, README.md and `PICTURES`.

    Args:
        folder: Of a run, or of a bare checkpoint.

    Raises:
        ValueError: If there is no such folder, or a file in it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"`run` must be a folder, but got {str(folder)!r}.")
    readme = folder / "README.md"
    try:
        return RunRecord(
            figures=_numbers(_read(folder / "figures.json", {})),
            recipe=public_recipe(_read(folder / "recipe.yaml", {})),
            history=[_numbers(row) for row in _read(folder / "history.json", [])],
            pictures={name: folder / name for name in PICTURES if (folder / name).is_file()},
            readme=readme.read_text(encoding="utf-8") if readme.is_file() else None,
        )
    except (ValueError, AttributeError, yaml.YAMLError) as error:
        raise ValueError(f"`run` must hold whole files, but {str(folder)!r} does not: {error}.") from error


def public_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without what is of one machine or one account: paths, names of runs, tokens.

    Args:
        recipe: Its fields.

    Example:
        >>> public_recipe({"dataset": "/home/ada/cars", "backbone": "org/vit", "training": {"hub_token": "hf_1"}})
        {'dataset': 'your-data', 'backbone': 'org/vit', 'training': {}}
    """
    public: dict[str, Any] = _without_private(recipe)
    if "dataset" in recipe:
        public["dataset"] = recipe["dataset"] if recipe["dataset"] in BENCHMARKS else OWN_DATA
    return {name: public[name] for name in recipe if name in public}


def _without_private(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: inner for key, inner in value.items() if not _PRIVATE_SETTINGS.fullmatch(str(key))}
        return {key: _without_private(inner) for key, inner in kept.items() if not _is_path(inner)}
    if isinstance(value, list | tuple):
        return [_without_private(inner) for inner in value if not _is_path(inner)]
    return value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and re.search(r"[/\\~]", value) is not None and not is_hub_id(value)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are finite numbers."""
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _read(file: Path, otherwise: Any) -> Any:
    if not file.is_file():
        return otherwise
    text = file.read_text(encoding="utf-8")
    return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
