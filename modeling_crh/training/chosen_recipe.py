"""Choose the recipe that the options of `crh train` mean."""

import dataclasses
from pathlib import Path
from typing import Any

from modeling_crh.data import BENCHMARKS, open_source
from modeling_crh.data_source import DataSource
from modeling_crh.runtime.terminal import say, silenced
from modeling_crh.training.recipe import DEMO_RECIPE, FEATURES_RECIPE, Recipe


def recipe_of_options(path: Path | None, fields: dict[str, Any], sections: dict[str, dict[str, Any]]) -> Recipe:
    """Make a recipe from a file and options; without a file, data and backbone choose one that ships.

    Args:
        path: Recipe in YAML.
        fields: Fields of `Recipe` by name; None marks an option that was not given.
        sections: Settings of the fields that are dicts, such as `model`, with None likewise.

    Raises:
        ValueError: If the file is no recipe, the options contradict it, or the data need a backbone that is not named.
    """
    overrides: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    for name, settings in sections.items():
        given = {key: value for key, value in settings.items() if value is not None}
        if given:
            overrides[name] = given
    if path is not None or "dataset" not in overrides:
        return Recipe.load(path or DEMO_RECIPE, **overrides)
    if overrides.keys().isdisjoint({"features_column", "text_column", "backbone"}):
        overrides |= _found_features(overrides)
    if "features_column" in overrides:
        return Recipe.load(FEATURES_RECIPE, **overrides)
    if "backbone" in overrides:
        return Recipe.from_dict({"augmentation": "standard", "preset": "best"}, **overrides)
    if "text_column" not in overrides:
        say(
            "No `--backbone` was named, so the small ResNet of the demo is trained from scratch; a pretrained one, "
            "such as --backbone microsoft/resnet-34, needs fewer images."
        )
    return Recipe.load(DEMO_RECIPE, **overrides)


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
