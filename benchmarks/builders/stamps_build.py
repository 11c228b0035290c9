"""Lay the pictures of Debian's package tuxpaint-stamps-default out as a folder a class, about 700 in 30 classes.

A class is the first two folders of a picture, such as food/fruit, with at least six pictures; letters are left out. The
pictures are photographs and drawings, each under a licence of its own that the package names; nothing of them is
kept here.

    apt-get install tuxpaint-stamps-default
    python benchmarks/builders/stamps_build.py --out stamps
"""

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from modeling_crh.cli import run as run_command

LEAST = 6


def build(
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    stamps: Annotated[Path, typer.Option(help="Where the package puts them.")] = Path("/usr/share/tuxpaint/stamps"),
) -> None:
    """Copy the pictures of every class that has enough of them."""
    if not stamps.is_dir():
        raise ValueError(f"`stamps` must be a folder, but there is no {str(stamps)!r}.")
    classes: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(stamps.rglob("*.png")):
        folders = file.relative_to(stamps).parts[:-1]
        if "alphabets" not in folders:
            classes["-".join(folders[:2])].append(file)
    kept = {name: files for name, files in classes.items() if len(files) >= LEAST}
    for name, files in kept.items():
        (out / name).mkdir(parents=True)
        for file in files:
            target = "-".join(file.relative_to(stamps).parts)  # two folders may hold files of one name
            shutil.copyfile(file, out / name / target)
    print(json.dumps({"classes": len(kept), "pictures": sum(map(len, kept.values())), "out": str(out)}))


if __name__ == "__main__":
    run_command(build)
