"""Choose the recipe that `crh train` trains by, from a file and options."""

import dataclasses
from pathlib import Path
from typing import Any

from modeling_crh.data import BENCHMARKS, open_source
from modeling_crh.data_source import DataSource
from modeling_crh.runtime.terminal import say, silenced
from modeling_crh.training.objectives import UNTRAINED
from modeling_crh.training.recipe import DEMO_RECIPE, FEATURES_RECIPE, Recipe


def choose_recipe(path: str | Path | None = None, **fields: Any) -> Recipe:
    """Make the recipe that `crh train` makes of the same options; without a file, data and backbone choose one.

    A backbone is trained by the preset `best` with the augmentation `standard`, features by the recipe for features,
    and anything else, such as images without a backbone, by the recipe of the demo.

    Args:
        path: Recipe in YAML.
        **fields: Fields of `Recipe` that override those of the file; dicts, such as `model`, are merged into its dicts.
            None, also inside of a dict, marks an option that was not given.

    Raises:
        ValueError: If the file is no recipe, the fields contradict it, or the data need a backbone that is not named.

    Example:
        >>> recipe = choose_recipe(dataset="photos", backbone="org/vit", model={"num_bits": 32})
        >>> recipe.preset, recipe.augmentation
        ('best', 'standard')
    """
    overrides: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            value = {key: below for key, below in value.items() if below is not None} or None
        if value is not None:
            overrides[name] = value
    if path is None and "dataset" not in overrides:
        _refuse_untrained(overrides)
    if path is not None or "dataset" not in overrides:
        return Recipe.load(path or DEMO_RECIPE, **overrides)
    if overrides.keys().isdisjoint({"features_column", "text_column", "backbone"}):
        overrides |= _found_features(overrides)
    if "features_column" in overrides:
        return Recipe.load(FEATURES_RECIPE, **overrides)
    if "backbone" in overrides:
        return Recipe.from_dict({"augmentation": "standard", "preset": "best"}, **overrides)
    _refuse_untrained(overrides)
    recipe = Recipe.load(DEMO_RECIPE, **overrides)
    if "text_column" not in overrides:
        say(
            "No `--backbone` was named, so the small ResNet of the demo is trained from scratch; a pretrained one, "
            "such as --backbone microsoft/resnet-34, needs fewer images."
        )
    return recipe


def _refuse_untrained(overrides: dict[str, Any]) -> None:
    """Refuse a method without training where no pretrained backbone is named: it would be fitted to random weights."""
    method = overrides.get("method")
    if method in UNTRAINED and overrides.keys().isdisjoint({"features_column", "text_column", "backbone"}):
        raise ValueError(f"`backbone` must be given for {method}, which trains none, unless data are features.")


def _found_features(options: dict[str, Any]) -> dict[str, str]:
    """Return `features_column` for data that hold features and no image, else no option.

    Raises:
        ValueError: If the data hold sounds, which no default recipe reads.
    """
    if options["dataset"] in BENCHMARKS:
        return {}
    names = {entry.name for entry in dataclasses.fields(DataSource)}
    with silenced():  # the run opens the data again
        opened = open_source(**{name: value for name, value in options.items() if name in names})
    if opened.kind == "audio":
        raise ValueError(
            "`backbone` must be given to train on sounds, or a recipe such as training/recipes/audio.yaml."
        )
    return {"features_column": opened.columns.value} if opened.kind == "features" else {}
