"""Build the emoji benchmark from public npm packages: `python benchmarks/builders/emoji_build.py --out DIR`."""

import argparse
import io
import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from datasets import Dataset
from emoji_names import Drawing, Emoji, known_names, match_icons, read_emoji
from emoji_packages import PACKAGES, VENDORS, IconSet, download_packages, read_icon_set
from emoji_render import SIDE, render_icon
from numpy.typing import NDArray

from modeling_crh.data.benchmarks.small_images import emoji_features
from modeling_crh.runtime.terminal import progress_bar

MIN_DRAWINGS = 4
"""A class has at least this many drawings: two queries, and two for the database to hold out one for validation."""

QUERIES_PER_CLASS = 2

Pictures = dict[tuple[str, str], bytes]
"""Code points and vendor to a drawing as PNG, which is the same for the same pixels."""


def build_emoji(out_dir: Path, *, packages_dir: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Write `database.parquet`, `query.parquet` and `about.json`, all at once when all is done.

    A class is an emoji, without skin tones and without the group "Flags". An image is the drawing of one vendor, at
    96 x 96 on white. Left out are: a drawing that stands for several emoji, since it does not tell which one it shows;
    a drawing that repeats another of its class; and then every class with fewer than `MIN_DRAWINGS` drawings.
    Classes are in Unicode's order, and the drawings of a class in the order of `VENDORS`.

    Args:
        out_dir: A new or empty folder.
        packages_dir: Folder of the packages of `PACKAGES`, as `npm pack` writes them. Without one they are downloaded.
        seed: Seed of the draw of the queries; 0 is the benchmark.

    Returns:
        What `about.json` holds: sizes, versions, and for each vendor its licence and counts.

    Raises:
        ValueError: If `out_dir` holds something, `seed` is negative, or a package is missing or damaged.
    """
    out_dir = out_dir.absolute()
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        what = "holds a finished build" if (out_dir / "about.json").is_file() else "holds something else"
        raise ValueError(f"`out_dir` must be a new or empty folder, but {out_dir} {what}.")
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or larger, but got {seed}.")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".emoji-", dir=out_dir.parent) as unfinished:
        packages, build = Path(unfinished, "packages"), Path(unfinished, "build")
        packages.mkdir()
        build.mkdir()
        if packages_dir is None:
            download_packages(packages)
        about = _write_build(packages_dir or packages, build, seed)
        if out_dir.exists():
            out_dir.rmdir()
        os.replace(build, out_dir)
    return about


def draw_queries(labels: NDArray[np.int64], *, seed: int) -> NDArray[np.bool_]:
    """Choose two rows of each class, the same on every machine.

    Args:
        labels: `(N,)` class ids from 0 to C-1, each at least twice.
        seed: 0 or larger.

    Returns:
        `(N,)`, true for a query.

    Example:
        >>> draw_queries(np.array([0, 0, 0, 1, 1, 1]), seed=0)
        array([ True, False,  True, False,  True,  True])
    """
    generator = np.random.default_rng(seed)
    is_query = np.zeros(len(labels), dtype=bool)
    for label in range(int(labels.max()) + 1):
        rows = np.flatnonzero(labels == label)
        is_query[generator.permutation(rows)[:QUERIES_PER_CLASS]] = True
    return is_query


def _write_build(packages: Path, build: Path, seed: int) -> dict[str, Any]:
    emoji = read_emoji(packages)
    icon_sets = [read_icon_set(packages, vendor) for vendor in progress_bar(VENDORS, desc="Reading icon sets")]
    names = known_names(emoji, icon_sets)
    matched = {icon_set.vendor: match_icons(icon_set, emoji, names) for icon_set in icon_sets}
    pictures = _telling_pictures(_render_all(icon_sets, matched))
    vendors_of = {one.code_points: [v for v in VENDORS if (one.code_points, v) in pictures] for one in emoji}
    kept = [one for one in emoji if len(vendors_of[one.code_points]) >= MIN_DRAWINGS]
    if not kept:
        raise ValueError(f"`packages_dir` must hold a class with {MIN_DRAWINGS} drawings or more, but holds none.")
    rows = [(one, label, vendor) for label, one in enumerate(kept) for vendor in vendors_of[one.code_points]]
    dataset = _as_dataset(kept, rows, pictures)
    is_query = draw_queries(np.array([label for _, label, _ in rows]), seed=seed)
    dataset.select(np.flatnonzero(~is_query)).to_parquet(build / "database.parquet")
    dataset.select(np.flatnonzero(is_query)).to_parquet(build / "query.parquet")
    about = {
        "num_classes": len(kept),
        "num_database": int((~is_query).sum()),
        "num_query": int(is_query.sum()),
        "image_size": SIDE,
        "seed": seed,
        "packages": PACKAGES,
        "left_out": [one.slug for one in emoji if one not in kept],
        "vendors": {
            icon_set.vendor: {
                **{key: icon_set.info[key] for key in ("name", "author", "license")},
                "num_matched": len(matched[icon_set.vendor]),
                "num_images": sum(vendor == icon_set.vendor for _, _, vendor in rows),
            }
            for icon_set in icon_sets
        },
    }
    (build / "about.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return about


def _render_all(icon_sets: list[IconSet], matched: dict[str, dict[str, Drawing]]) -> Pictures:
    pictures = {}
    with progress_bar(total=sum(map(len, matched.values())), desc="Rendering drawings") as bar:
        for icon_set in icon_sets:
            for key, drawing in matched[icon_set.vendor].items():
                picture = render_icon(icon_set, drawing.icon, mirrored=drawing.mirrored)
                pictures[key, icon_set.vendor] = _encode(picture)
                bar.update()
    return pictures


def _telling_pictures(pictures: Pictures) -> Pictures:
    """Leave out pictures that show several emoji, and the second of two that are the same."""
    owners = defaultdict(list)
    for owner, picture in pictures.items():
        owners[picture].append(owner)
    return {alike[0]: picture for picture, alike in owners.items() if len({key for key, _ in alike}) == 1}


def _as_dataset(kept: list[Emoji], rows: list[tuple[Emoji, int, str]], pictures: Pictures) -> Dataset:
    groups, subgroups = (list(dict.fromkeys(getattr(one, level) for one in kept)) for level in ("group", "subgroup"))
    columns = {
        "image": [{"bytes": pictures[one.code_points, vendor], "path": None} for one, _, vendor in rows],
        "label": [label for _, label, _ in rows],
        "vendor": [vendor for _, _, vendor in rows],
        "group": [one.group for one, _, _ in rows],
        "subgroup": [one.subgroup for one, _, _ in rows],
        "name": [one.name for one, _, _ in rows],
    }
    features = emoji_features([one.slug for one in kept], list(VENDORS), groups, subgroups)
    return Dataset.from_dict(columns, features=features)


def _encode(picture: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new folder to write the benchmark to")
    parser.add_argument("--packages", type=Path, help="folder of the packages, as `npm pack` writes them")
    arguments = parser.parse_args()
    try:
        about = build_emoji(arguments.out, packages_dir=arguments.packages)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{about['num_classes']} classes, {about['num_database']} database and {about['num_query']} query images.")


if __name__ == "__main__":
    main()
