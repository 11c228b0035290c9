"""Read the values of a recipe from YAML, and refuse unknown fields and values that would be misunderstood."""

import difflib
from enum import Enum
from typing import Any

import numpy as np
import yaml

from modeling_crh.training.objectives import UNTRAINED

MOST_VALUES = 10_000
"""Largest number of values in a recipe, each counted as often as its aliases stand in it."""

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

OF_CRH_ALONE = {
    "model": [
        *("codebook", "codebook_size", "head_dim", "shared_room", "codebook_draws", "codebook_seed"),
        *("prefix_bits", "prefix_weight", "margin", "scale", "quantization_weight", "bit_weight", "pair_weight"),
        "proxy_share",
    ],
    "training": ["reassignment", "soft_statistics", "reassign_every_epoch_until", "reassign_every"],
}
"""Fields of a recipe's sections that only CRH reads."""


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


def refuse_numbers_as_text(value: dict[str, Any], name: str) -> None:
    """Refuse numbers given as text."""
    values: list[tuple[str, Any]] = [(name, value)]
    for place, inner in values:
        if isinstance(inner, dict):
            values += [(f"{place}.{key}", below) for key, below in inner.items()]
        elif isinstance(inner, list):
            values += [(place, below) for below in inner]
        elif isinstance(inner, str) and _is_number(inner):
            raise ValueError(
                f"`{place}` must be a number, but got the text {inner!r}; YAML reads 1.0e-3, but not 1e-3."
            )


def plain_values(value: Any) -> Any:
    """Convert numbers of NumPy, members of enums and tuples to what YAML can hold, at any depth."""
    if isinstance(value, dict):
        return {key: plain_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(inner) for inner in value]
    if isinstance(value, Enum):
        return value.value
    return value.item() if isinstance(value, np.generic) else value


def modernised(values: dict[str, Any]) -> dict[str, Any]:
    """Rename fields that older versions have written."""
    if "skip_bad_images" not in values:
        return dict(values)
    renamed = {"skip_bad" if name == "skip_bad_images" else name: value for name, value in values.items()}
    for name, default in (("label_column", "label"), ("validation_fraction", 0.1)):
        if renamed.get(name) == default:  # older versions wrote defaults too
            del renamed[name]
    return renamed


def check_keys(name: str, value: dict[str, Any], known: set[str]) -> None:
    """Refuse an unknown key of a mapping, and name the most similar known key."""
    for key in value:
        if key not in known:
            close = difflib.get_close_matches(str(key), sorted(known), n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"the fields are {', '.join(sorted(known))}."
            raise ValueError(f"`{key}` is no field of {name}; {hint}")


def drop_settings_of_crh(merged: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Drop the settings of CRH in a file if another method overrides it; settings in the overrides stay."""
    if "preset" not in overrides:
        merged.pop("preset", None)
    heads = ("hash_head", "hash_head_hidden_size", "hash_head_dropout", "hash_head_batch_norm", "dropout_masks")
    for section, names in OF_CRH_ALONE.items():
        dropped = [*names, *heads] if overrides["method"] in UNTRAINED else names
        if isinstance(merged.get(section), dict):
            kept = overrides.get(section, {})
            merged[section] = {
                key: value for key, value in merged[section].items() if key not in dropped or key in kept
            }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
