"""Print the lower bounds of pyproject.toml, as constraints for pip or as they are installed: `make test-oldest`.

    python tests/install/oldest_versions.py                     # constraints, such as numpy==2.0
    python tests/install/oldest_versions.py --except torch      # without those of torch
    python tests/install/oldest_versions.py --installed         # what this environment has; fails if it differs

The extras `dev` and `docs` are left out: tools of development may be the newest.
"""

import argparse
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--except", nargs="*", default=[], dest="left_out", help="Packages without a constraint.")
    parser.add_argument("--installed", action="store_true", help="Print and check installed versions.")
    options = parser.parse_args()
    bounds = {name: bound for name, bound in lower_bounds().items() if name not in options.left_out}
    if not options.installed:
        print(*(f"{name}=={bound}" for name, bound in bounds.items()), sep="\n")
        return
    print(*(f"{name} {version(name)}" for name in bounds), sep=", ")
    others = [f"{name} {version(name)}" for name, bound in bounds.items() if not is_version(version(name), bound)]
    if others:
        sys.exit(f"The lower bounds of pyproject.toml must be installed, but got {', '.join(others)}.")


def lower_bounds() -> dict[str, str]:
    """Read the version after `>=` of each dependency, and of each in an extra but `dev` and `docs`."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    tried = [name for name in extras if name not in ("dev", "docs")]
    required = [*project["dependencies"], *(line for name in tried for line in extras[name])]
    return {found[1]: found[2] for line in required if (found := re.match(r"([\w.-]+)>=([\w.]+)", line))}


def is_version(installed: str, bound: str) -> bool:
    """Whether a version is the bound, with zeros and a build such as `+cpu` at the end passed over."""
    return re.fullmatch(rf"{re.escape(bound)}(\.0)*(\+.*)?", installed) is not None


if __name__ == "__main__":
    main()
