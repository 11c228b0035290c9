"""Download the npm packages of the emoji benchmark, and read icon sets from them."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_crh.runtime.terminal import progress_bar

VENDORS = {
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "twemoji": "1.2.5",
    "openmoji": "1.2.29",
    "fluent-emoji": "1.2.7",
    "fluent-emoji-flat": "1.2.6",
    "fluent-emoji-high-contrast": "1.2.6",
    "emojione": "1.2.3",
    "emojione-v1": "1.2.3",
    "emojione-monotone": "1.2.1",
    "fxemoji": "1.2.2",
}
"""Icon sets, in the order of their drawings in a build: `@iconify-json/` package to its version."""

PACKAGES = {f"@iconify-json/{vendor}": version for vendor, version in VENDORS.items()} | {
    "unicode-emoji-json": "0.9.0",
    "emoji-datasource": "16.0.0",
}
"""All packages with the versions that fix a build: another version may draw or name an emoji in another way."""

WORD_PACKAGES = {"unicode-emoji-json": PACKAGES["unicode-emoji-json"], "emojilib": "4.0.3"}
"""Packages of the names and the keywords of emoji; both are under the MIT licence."""

MAX_MEMBER_BYTES = 200 * 2**20
DOWNLOAD_SECONDS = 300


@dataclass(frozen=True)
class IconSet:
    """The drawings of one vendor.

    Args:
        vendor: A key of `VENDORS`.
        info: Title, author and licence, as the package states them.
        icons: Names of the icons to their SVG `body` and the sizes that differ from those of the set.
        aliases: Further names to their `parent` and, for a mirrored icon, `hFlip`.
        characters: Code points such as `1f44b-200d-2642` to names of icons; empty for the older sets.
        sizes: Default `left`, `top`, `width` and `height` of an icon.
    """

    vendor: str
    info: dict[str, Any]
    icons: dict[str, dict[str, Any]]
    aliases: dict[str, dict[str, Any]]
    characters: dict[str, str]
    sizes: dict[str, Any]


def download_packages(folder: Path, packages: Mapping[str, str] = PACKAGES) -> None:
    """Fetch packages with `npm pack`, which runs none of their code.

    Args:
        folder: Existing folder to write the `.tgz` files to.
        packages: Names of packages to their versions.

    Raises:
        ValueError: If `npm` is missing, or a package cannot be fetched.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("`npm` must be on the PATH, to download packages, but is not; it comes with Node.js.")
    for name, version in progress_bar(packages.items(), desc="Downloading packages"):
        command = [npm, "pack", f"{name}@{version}", "--ignore-scripts", "--pack-destination", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=DOWNLOAD_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"`npm` must fetch {name}@{version}, but did not in {DOWNLOAD_SECONDS} seconds."
            ) from error
        if done.returncode != 0 or not package_path(folder, name).is_file():
            lines = [line for line in done.stderr.splitlines() if "npm warn" not in line.lower()]
            reason = "; ".join(lines[:2]) or f"exit code {done.returncode}"
            raise ValueError(f"`npm` must fetch {name}@{version}, but failed: {reason}")


def package_path(folder: Path, name: str) -> Path:
    """File that `npm pack` writes for a package of `PACKAGES` or `WORD_PACKAGES`."""
    return folder / f"{name.removeprefix('@').replace('/', '-')}-{(PACKAGES | WORD_PACKAGES)[name]}.tgz"


def read_json(folder: Path, package: str, member: str) -> Any:
    """Read one JSON file of a package, without unpacking anything.

    Args:
        folder: Folder of the `.tgz` files.
        package: A key of `PACKAGES` or `WORD_PACKAGES`.
        member: Path of the file within the package.

    Raises:
        ValueError: If the package or the file is missing, damaged, or larger than 200 MiB.
    """
    path = package_path(folder, package)
    if not path.is_file():
        raise ValueError(f"`packages_dir` must hold {path.name}, as `npm pack` writes it, but {path} does not exist.")
    try:
        with tarfile.open(path) as archive:
            entry = archive.getmember(f"package/{member}")
            file = archive.extractfile(entry)
            if file is None or entry.size > MAX_MEMBER_BYTES:
                raise ValueError(f"{member} must be a file of at most {MAX_MEMBER_BYTES} bytes, but has {entry.size}")
            return json.loads(file.read())
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} must be a package with a sound {member}, but reading it failed: {error}.") from error


def read_icon_set(folder: Path, vendor: str) -> IconSet:
    """Read the drawings of one vendor.

    Args:
        folder: Folder of the `.tgz` files.
        vendor: A key of `VENDORS`.

    Raises:
        ValueError: If the package is missing or damaged.
    """
    package = f"@iconify-json/{vendor}"
    drawings = read_json(folder, package, "icons.json")
    sizes = {"left": 0, "top": 0, "width": 16, "height": 16}  # what Iconify takes where nothing is stated
    try:
        icons = {name: icon for name, icon in drawings["icons"].items() if not icon.get("hidden")}
        return IconSet(
            vendor=vendor,
            info=dict(read_json(folder, package, "info.json")),
            icons=icons,
            aliases={name: alias for name, alias in drawings.get("aliases", {}).items() if alias["parent"] in icons},
            characters=dict(read_json(folder, package, "chars.json")),
            sizes=sizes | {key: drawings[key] for key in sizes if key in drawings},
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{package_path(folder, package)} must be an icon set, but reading it failed: {error!r}."
        ) from error
