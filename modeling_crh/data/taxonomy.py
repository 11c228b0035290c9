"""What classes lie under: the columns `subgroup` and `group`, a second ground truth beside the class."""

from datasets import ClassLabel, Dataset

from modeling_crh.data.columns import is_multi_label, label_names

LEVELS = ("subgroup", "group")
"""Columns of a taxonomy, the nearest to the class first."""


def has_levels(dataset: Dataset) -> bool:
    """Whether a prepared dataset has the columns of `LEVELS`, one class a row, and one of each level a class."""
    if not set(LEVELS) <= set(dataset.column_names) or is_multi_label(dataset):
        return False
    columns = dataset.select_columns(["label", *LEVELS])[:]
    rows = set(zip(*(columns[name] for name in ("label", *LEVELS)), strict=True))
    return len(rows) == len(set(columns["label"]))


def class_levels(dataset: Dataset) -> dict[str, list[str]]:
    """The name of the subgroup and of the group that each class lies in.

    Args:
        dataset: A prepared split with a row of every class, such as `database`, and with the columns of `LEVELS`, which
            hold names or `ClassLabel`.

    Returns:
        `{"subgroup": [...], "group": [...]}`, each with C names in the order of the class ids.

    Raises:
        ValueError: If a column is missing, a class has no row, or a class has rows of several groups.

    Example:
        >>> from modeling_crh.data import load_benchmark
        >>> class_levels(load_benchmark("emoji_sample")["database"])["group"][:2]
        ['Smileys & Emotion', 'Smileys & Emotion']
    """
    missing = [column for column in ("label", *LEVELS) if column not in dataset.column_names]
    if missing:
        raise ValueError(f"`dataset` must have the columns label, group and subgroup, but has no {', '.join(missing)}.")
    columns = dataset.select_columns(["label", *LEVELS])[:]
    names = label_names(dataset)
    found = {}
    for level in LEVELS:
        above = dict(zip(columns["label"], columns[level], strict=True))
        for label in range(len(names)):
            if label not in above:
                raise ValueError(f"`dataset` must have a row of every class, but has none of {names[label]!r}.")
        for label, node in zip(columns["label"], columns[level], strict=True):
            if above[label] != node:
                raise ValueError(f"`dataset` must have one {level} a class, but {names[label]!r} has several.")
        feature = dataset.features[level]
        nodes = [above[label] for label in range(len(names))]
        found[level] = [feature.names[node] for node in nodes] if isinstance(feature, ClassLabel) else nodes
    return found
