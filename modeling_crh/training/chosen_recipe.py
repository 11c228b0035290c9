"""Choose the recipe that `crh train` trains by, and find the recipe of a run."""

from pathlib import Path
from typing import Any

from modeling_crh.data import BENCHMARKS, DataSource, Division, open_source, options_of
from modeling_crh.data.tables import find_tables
from modeling_crh.encoding.adapters import ADAPTER_FOLDER
from modeling_crh.encoding.loading import MODEL_FOLDER
from modeling_crh.runtime.terminal import say, silenced
from modeling_crh.training.objectives import UNTRAINED
from modeling_crh.training.recipe import DEMO_RECIPE, FEATURES_RECIPE, RECIPE_NAME, Recipe

_COLUMNS = "image_column audio_column text_column features_column label_column label_separator multi_hot".split()


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
    if path is not None:
        return Recipe.load(path, **overrides)
    has_data, needs_none = "dataset" in overrides, {"features_column", "text_column", "backbone"}
    if has_data and overrides.keys().isdisjoint(needs_none):
        overrides |= _found_features(overrides)
    if has_data and "features_column" in overrides:
        return Recipe.load(FEATURES_RECIPE, **overrides)
    if has_data and "backbone" in overrides:
        return Recipe.from_dict({"augmentation": "standard", "preset": "best"}, **overrides)
    method = overrides.get("method")
    if method in UNTRAINED and overrides.keys().isdisjoint(needs_none):  # it would be fitted to random weights
        raise ValueError(f"`backbone` must be given for {method}, which trains none, unless data are features.")
    recipe = Recipe.load(DEMO_RECIPE, **overrides)
    if has_data and "text_column" not in overrides:
        say(
            "No `--backbone` was named, so the small ResNet of the demo is trained from scratch; a pretrained one, "
            "such as --backbone microsoft/resnet-34, needs fewer images."
        )
    return recipe


def _found_features(options: dict[str, Any]) -> dict[str, str]:
    """Return `features_column` for data that hold features and no image, else no option.

    Raises:
        ValueError: If the data hold sounds, which no default recipe reads.
    """
    if options["dataset"] in BENCHMARKS:
        return {}
    known = DataSource.__dataclass_fields__
    with silenced():  # the run opens the data again
        opened = open_source(**{name: value for name, value in options.items() if name in known})
    if opened.kind == "audio":
        raise ValueError(
            "`backbone` must be given to train on sounds, or a recipe such as training/recipes/audio.yaml."
        )
    return {"features_column": opened.columns.value} if opened.kind == "features" else {}


def find_recipe(checkpoint: str | Path) -> Recipe | None:
    """Read the recipe of a run, given its folder or that of its model or its adapter; None for any other model."""
    path = find_in_run(checkpoint, RECIPE_NAME)
    return None if path is None else Recipe.load(path)


def find_in_run(checkpoint: str | Path, name: str) -> Path | None:
    """Find a file in the folder of a run, given that or the folder of its model or its adapter."""
    folder = Path(checkpoint)
    places = [folder, folder.parent] if folder.name in (MODEL_FOLDER, ADAPTER_FOLDER) else [folder]
    return next((place / name for place in places if (place / name).is_file()), None)


def is_own_data(recipe: Recipe, dataset: str, **options: Any) -> bool:
    """Whether a data source, with these options, is that of a recipe."""
    is_same = dataset == recipe.dataset or Path(dataset).absolute() == Path(recipe.dataset).absolute()
    return is_same and all(getattr(recipe, name) == value for name, value in options.items() if name != "allow_urls")


def options_of_run(checkpoint: str, given: dict[str, Any], *, columns_only: bool = False) -> dict[str, Any]:
    """Read data options from the run that trained a checkpoint, as defaults for options that were not given.

    All options apply to the run's own data, since another division would query with training items. Only the columns
    (where the data have columns) and the rule for bad rows apply to other data. The run, which may be a stranger's,
    does not say which URLs may be read.

    A checkpoint that is no folder of a run has no options. With `columns_only` the data are encoded and not divided;
    without `dataset` in `given` they are then any table.
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
