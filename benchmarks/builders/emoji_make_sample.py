"""Make the bundled cut of the emoji benchmark: `python benchmarks/builders/emoji_make_sample.py BUILD --out DIR`."""

import argparse
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from emoji_build import draw_queries
from numpy.typing import NDArray

from modeling_crh.data.benchmarks.small_images import emoji_features, load_emoji
from modeling_crh.data.columns import class_levels, label_names
from modeling_crh.runtime.terminal import progress_bar

LICENCES = {"Apache-2.0", "CC-BY-4.0", "MIT"}
"""Licences of the vendors whose drawings may ship with this package; share-alike ones may not."""

NUM_SUBGROUPS = 40
CLASSES_PER_SUBGROUP = 5
MIN_DRAWINGS = 6

_NAMED = ("label", "vendor", "group", "subgroup")


def make_emoji_sample(
    build_dir: Path,
    out_dir: Path,
    *,
    num_subgroups: int = NUM_SUBGROUPS,
    classes_per_subgroup: int = CLASSES_PER_SUBGROUP,
    min_drawings: int = MIN_DRAWINGS,
    seed: int = 0,
) -> None:
    """Write some classes of a build as `database.parquet` and `query.parquet`, with images as WebP without loss.

    Subgroups are drawn from those that have enough classes, and then classes from each: so all are equally large, and
    figures at the levels of class, subgroup and group mean something. Queries are drawn anew, two a class.

    Args:
        build_dir: Folder that `python benchmarks/builders/emoji_build.py` made.
        out_dir: Folder to write to, created if it does not exist.
        num_subgroups: Number of subgroups to draw.
        classes_per_subgroup: Number of classes to draw from each subgroup.
        min_drawings: Least number of drawings of a class by vendors with a licence of `LICENCES`.
        seed: Seed of the draw.

    Raises:
        ValueError: If `build_dir` is no build, or holds fewer subgroups with enough classes.
    """
    images = concatenate_datasets(list(load_emoji(build_dir)))
    vendors = json.loads((build_dir / "about.json").read_text(encoding="utf-8"))["vendors"]
    kept_vendors = [vendor for vendor in vendors if vendors[vendor]["license"]["spdx"] in LICENCES]
    labels = np.array(images["label"])
    is_kept = np.isin(images.features["vendor"].int2str(images["vendor"]), kept_vendors)
    counts = np.bincount(labels[is_kept], minlength=len(label_names(images)))
    subgroup_of = [images.features["subgroup"].str2int(name) for name in class_levels(images)["subgroup"]]
    classes = _draw_classes(subgroup_of, counts >= min_drawings, num_subgroups, classes_per_subgroup, seed)
    rows = np.flatnonzero(is_kept & np.isin(labels, classes))
    rows = rows[np.lexsort((np.array(images["vendor"])[rows], labels[rows]))]
    sample = _encode_rows(images.select(rows), kept_vendors)
    is_query = draw_queries(np.array(sample["label"]), seed=seed)
    out_dir.mkdir(parents=True, exist_ok=True)
    sample.select(np.flatnonzero(~is_query)).to_parquet(out_dir / "database.parquet")
    sample.select(np.flatnonzero(is_query)).to_parquet(out_dir / "query.parquet")


def _draw_classes(
    subgroup_of: list[int],
    is_eligible: NDArray[np.bool_],
    num_subgroups: int,
    classes_per_subgroup: int,
    seed: int,
) -> list[int]:
    generator = np.random.default_rng(seed)
    members = defaultdict(list)
    for label in np.flatnonzero(is_eligible):
        members[subgroup_of[label]].append(int(label))
    large = [subgroup for subgroup in sorted(members) if len(members[subgroup]) >= classes_per_subgroup]
    if len(large) < num_subgroups:
        raise ValueError(
            f"`build_dir` must have {num_subgroups} subgroups of {classes_per_subgroup} classes with enough drawings, "
            f"but has {len(large)}."
        )
    drawn = generator.permutation(large)[:num_subgroups]
    return [label for subgroup in drawn for label in generator.permutation(members[subgroup])[:classes_per_subgroup]]


def _encode_rows(images: Dataset, vendors: list[str]) -> Dataset:
    """The same rows with smaller images, and with ids for the classes, vendors, groups and subgroups that are left."""
    names = {column: images.features[column].int2str(images[column]) for column in _NAMED}
    left = {column: list(dict.fromkeys(names[column])) for column in _NAMED}
    encoded = [_encode(image) for image in progress_bar(images["image"], desc="Encoding images")]
    columns: dict[str, list[Any]] = {"image": encoded, **names, "name": list(images["name"])}
    return Dataset.from_dict(columns, features=emoji_features(left["label"], vendors, left["group"], left["subgroup"]))


def _encode(image: Any) -> dict[str, bytes | None]:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True)
    return {"bytes": file.getvalue(), "path": None}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build_dir", type=Path, metavar="BUILD", help="folder of the whole benchmark")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the two parquet files to")
    arguments = parser.parse_args()
    try:
        make_emoji_sample(arguments.build_dir, arguments.out)
    except ValueError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
