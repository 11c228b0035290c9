"""Build two text benchmarks from Debian's package index: `python benchmarks/builders/debian_build.py --out DIR`.

The index is what `apt-cache dumpavail` prints after `apt-get update`. `DIR/sections` has one label per text, `DIR/tags`
a list of them; `crh train --dataset DIR/tags --text-column text` reads either. The rules of the benchmarks, with
figures of Debian 12 on amd64; the command prints the shares of relevant pairs:

- A text is the short description of a package in `main`. A package that is installed but in no list has no `Filename`
  and is left out, as are transitional packages: the data depend on the archive and not on the machine.
- libfoo1, libfoo-dev and foo-doc of one source package have almost one description. So a source package has all its
  rows in one table, and one row for the same labels. Some source packages are as close, such as gcc-11 and gcc-12 or
  0ad and 0ad-data: texts that differ only in digits, punctuation, case or what is in parentheses are one text.
- Sections that tell the form of a package and not its subject are left out, see `FORMAL_SECTIONS`.
- Tags count if they say what a package is for or about, see `FACETS`: 9 % of the pairs of a query and a database text
  share one. With `scope` added it would be 20 %, with `implemented-in` 24 %, `interface` 25 %, `role` 31 %, and with
  `devel`, which is mostly `devel::library` and `devel::lang:perl`, 33 %.
- A label needs `MIN_SOURCES` source packages, and `MAX_ITEMS` texts are drawn for it if there are more: without a limit
  a quarter of all sections would be `perl` and `python`.
- A tenth of the sources of each label are queries.
- Tags are set by hand and incomplete: some of what counts as irrelevant is not.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modeling_crh.checks import check_path, check_whole

FORMAL_SECTIONS = {
    *("debug", "doc", "introspection", "libdevel", "libs"),  # what part of a piece of software it is
    *("localization", "metapackages", "oldlibs", "tasks"),  # packaging: translations, bundles, what goes away
    "misc",  # whatever fits nowhere
}
"""Sections that are left out: their texts share words such as "development files" and no subject."""

FACETS = {
    *("accessibility", "admin", "biology", "field", "game", "hardware", "mail", "network", "office", "privacy"),
    *("protocol", "science", "security", "sound", "use", "web", "works-with", "works-with-format"),
}
"""Debtags of these facets are labels."""

MIN_SOURCES = 100
MAX_ITEMS = 1000
QUERY_FRACTION = 0.1

LICENCE = (
    "Built on this machine from Debian's index; modeling-crh distributes none of it. A description is part of its "
    "source package and under the terms in that package's debian/copyright, which for all of main meet the Debian Free "
    "Software Guidelines. Debian states no licence for the index as a whole, nor for the tags, which volunteers assign."
)

_TRANSITIONAL = re.compile("transitional|dummy package", re.IGNORECASE)


@dataclass(frozen=True)
class Package:
    """One binary package: `text` is its short description, and `tags` are its debtags, sorted."""

    name: str
    source: str
    section: str
    text: str
    tags: tuple[str, ...] = ()


Item = tuple[Package, tuple[str, ...]]
"""A package and its labels in one of the two data sets."""


def build_debian(out_dir: str | Path, *, index_file: str | Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Write `about.json`, and `sections` and `tags` with `train.parquet` and `test.parquet` each; all at once.

    A row has the columns `text` and `label`, and for reference `package` and `source`. Rows are sorted by package.

    Args:
        out_dir: A new or empty folder.
        index_file: Output of `apt-cache dumpavail`, or a `Packages` file. None runs `apt-cache`.
        seed: Seed of the draw of texts from labels that have too many, and of the queries.

    Returns:
        What `about.json` holds: sizes, labels, shares of relevant pairs, and what the texts come from.

    Raises:
        ValueError: If `out_dir` holds something, `seed` is negative, the index cannot be read, or a data set would have
            fewer than two labels.
    """
    out_dir = check_path("out_dir", out_dir).absolute()
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        what = "holds a finished build" if (out_dir / "about.json").is_file() else "holds something else"
        raise ValueError(f"`out_dir` must be a new or empty folder, but {out_dir} {what}.")
    check_whole("seed", seed, least=0)
    index = _ask_apt() if index_file is None else _read_index(check_path("index_file", index_file))
    packages = read_packages(index)
    if not packages:
        where = "`index_file`" if index_file else "`apt-cache`, whose lists `apt-get update` fetches,"
        raise ValueError(f"{where} must hold packages of Debian's main, but holds none.")
    about: dict[str, Any] = {
        "index_sha256": hashlib.sha256(index.encode()).hexdigest(),  # stanzas have no date
        "num_packages": len(packages),
        "num_sources": len({package.source for package in packages}),
        "seed": seed,
        "licence": LICENCE,
    }
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".debian-", dir=out_dir.parent) as unfinished:
        build = Path(unfinished, "build")
        for name, labelled in (("sections", section_items(packages)), ("tags", tag_items(packages))):
            items = cap_items(keep_frequent(distinct_items(labelled), MIN_SOURCES), MAX_ITEMS, seed=seed)
            about[name] = _write_items(build / name, items, seed)
        (build / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if out_dir.exists():
            out_dir.rmdir()
        os.replace(build, out_dir)
    return about


def read_packages(index: str) -> list[Package]:
    r"""Packages of `main`, without transitional ones and those that lack a section or a description.

    Args:
        index: Stanzas of `Field: value`, an empty line between two. A value goes on in lines that begin with a blank.

    Example:
        >>> stanza = "Package: ttt-bin\nSource: ttt (2.1)\nSection: games\nFilename: pool/main/t/ttt/ttt.deb\n"
        >>> read_packages(stanza + "Description: three in a row\nTag: use::gameplaying,\n game::board")[0]
        Package(name='ttt-bin', source='ttt', section='games', text='three in a row',
                tags=('game::board', 'use::gameplaying'))
    """
    packages = []
    for stanza in re.split(r"\n\s*\n", index):
        fields = dict(re.findall(r"^([^\s:]+):(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE))
        name, section, source = (fields.get(field, "").strip() for field in ("Package", "Section", "Source"))
        text = " ".join(fields.get("Description", "").partition("\n")[0].split())
        is_main = "main" in fields.get("Filename", "").split("/")
        if name and section and text and is_main and not _TRANSITIONAL.search(text):
            tags = {tag.strip() for tag in fields.get("Tag", "").split(",")} - {""}
            source = source.split()[0] if source else name  # without the version, as in foo (1.2)
            packages.append(Package(name, source, section, text, tuple(sorted(tags))))
    return packages


def section_items(packages: Sequence[Package]) -> list[Item]:
    """Every package outside of `FORMAL_SECTIONS`, with its section as the one label."""
    return [(package, (package.section,)) for package in packages if package.section not in FORMAL_SECTIONS]


def tag_items(packages: Sequence[Package]) -> list[Item]:
    """Every package that has tags of `FACETS`, with those as labels; `use::TODO` and the like are none."""
    wanted = re.compile(f"({'|'.join(FACETS)})::(?!TODO)")
    items = [(package, tuple(filter(wanted.match, package.tags))) for package in packages]
    return [(package, labels) for package, labels in items if labels]


def distinct_items(items: Sequence[Item]) -> list[Item]:
    """One package of each source and labels, and each text once, without digits, punctuation, case and parentheses.

    The package that is called like its source comes first, then the shortest name, then alphabetical order.
    """
    seen: set[str | tuple[str, tuple[str, ...]]] = set()
    kept = []
    ordered = sorted(items, key=lambda item: (item[0].name != item[0].source, len(item[0].name), item[0].name))
    for package, labels in ordered:
        words = re.sub(r"\(.*?\)|[\W\d_]", " ", package.text.casefold())
        words = " ".join(words.split())
        if words not in seen and (package.source, labels) not in seen:
            seen |= {words, (package.source, labels)}
            kept.append((package, labels))
    return kept


def keep_frequent(items: Sequence[Item], min_sources: int) -> list[Item]:
    """Leave out labels of fewer than `min_sources` source packages, and then packages without a label."""
    frequent = {label for label, sources in _sources_by_label(items).items() if len(sources) >= min_sources}
    left = [(package, tuple(label for label in labels if label in frequent)) for package, labels in items]
    return [(package, labels) for package, labels in left if labels]


def cap_items(items: Sequence[Item], max_items: int, *, seed: int) -> list[Item]:
    """In random order, keep what has a label that fewer than `max_items` have so far; then sort by package.

    A label can be on more than `max_items` where others bring it along.
    """
    counts: Counter[str] = Counter()
    kept = []
    ordered = sorted(items, key=lambda item: item[0].name)
    for row in np.random.default_rng(seed).permutation(len(ordered)):
        labels = ordered[row][1]
        if any(counts[label] < max_items for label in labels):
            kept.append(ordered[row])
            counts.update(labels)
    return sorted(kept, key=lambda item: item[0].name)


def draw_queries(items: Sequence[Item], *, seed: int) -> set[str]:
    """Draw names of source packages, whose packages are the queries; the same on every machine.

    Sources are shuffled. Each label, the rarest first, gives its first tenth, rounded but at least one. The last source
    of each label is left for the database, so that every label stays there.
    """
    sources = sorted({package.source for package, _ in items})
    rank = dict(zip(sources, np.random.default_rng(seed).permutation(len(sources)).tolist(), strict=True))
    owned = [(len(own), label, sorted(own, key=rank.__getitem__)) for label, own in _sources_by_label(items).items()]
    spared = {owners[-1] for _, _, owners in owned}
    drawn: set[str] = set()
    for total, _, owners in sorted(owned):
        wanted = max(round(total * QUERY_FRACTION), 1) - len(drawn.intersection(owners))
        drawn.update([source for source in owners if source not in drawn | spared][: max(wanted, 0)])
    return drawn


def _sources_by_label(items: Sequence[Item]) -> dict[str, set[str]]:
    sources: dict[str, set[str]] = defaultdict(set)
    for package, labels in items:
        for label in labels:
            sources[label].add(package.source)
    return sources


def _ask_apt() -> str:
    apt = shutil.which("apt-cache")
    if apt is None:
        raise ValueError("`apt-cache` must be on the PATH, to print the index, but is not; it comes with Debian.")
    done = subprocess.run([apt, "dumpavail"], capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        reason = "; ".join(done.stderr.splitlines()[:2]) or f"exit code {done.returncode}"
        raise ValueError(f"`apt-cache` must print the index, but failed: {reason}")
    return done.stdout


def _read_index(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"`index_file` must be a text in UTF-8, but reading {file} failed: {error}.") from error


def _write_items(folder: Path, items: Sequence[Item], seed: int) -> dict[str, Any]:
    """Write the two tables of `sections` or `tags`, and say what is in them."""
    counts = Counter(label for _, labels in items for label in labels)
    if len(counts) < 2:
        raise ValueError(f"The index must have at least two {folder.name} of enough sources, but has {len(counts)}.")
    queries = draw_queries(items, seed=seed)
    train, test = ([item for item in items if (item[0].source in queries) == is_test] for is_test in (False, True))
    folder.mkdir(parents=True)
    for name, part in (("train", train), ("test", test)):
        columns = {
            "text": [package.text for package, _ in part],
            "label": [labels[0] if folder.name == "sections" else list(labels) for _, labels in part],
            "package": [package.name for package, _ in part],
            "source": [package.source for package, _ in part],
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return {
        "num_classes": len(counts),
        "num_database": len(train),
        "num_query": len(test),
        "relevant_share": round(_relevant_share(test, train, list(counts)), 4),
        "counts": dict(sorted(counts.items())),
    }


def _relevant_share(query: Sequence[Item], database: Sequence[Item], names: Sequence[str]) -> float:
    """Share of the pairs of a query and a database text that have a label in common."""
    queries, rows = (np.array([[name in labels for name in names] for _, labels in part]) for part in (query, database))
    return float(np.mean([rows[:, labels].any(1).mean() for labels in queries]))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="new folder to write the benchmarks to")
    parser.add_argument("--index", type=Path, help="what `apt-cache dumpavail` prints, in a file; by default it is run")
    parser.add_argument("--seed", type=int, default=0, help="decides which packages are drawn, and which are queries")
    arguments = parser.parse_args()
    try:
        about = build_debian(arguments.out, index_file=arguments.index, seed=arguments.seed)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    for name in ("sections", "tags"):
        sizes = "{num_classes} classes, {num_database} database and {num_query} query texts".format(**about[name])
        print(f"{name}: {sizes}, {about[name]['relevant_share']:.1%} of the pairs relevant.")


if __name__ == "__main__":
    main()
