"""How many megabytes does the library bring to an environment that has torch and torchvision?

Method: pip resolves the wheel of this tree, and torch with torchvision, each for an empty environment; nothing is
installed for that. What the wheel needs beyond torch is then installed into an empty folder. `mb` is the sum of the
sizes of all files there, compiled Python included, `largest` names the five heaviest packages, and `wheel_mb` is the
size of the wheel, whose files count in `mb` too. Extras are left out. It downloads some 100 MB.

    python benchmarks/bench_install.py
"""

import json
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print one JSON document."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        pip("wheel", "--no-deps", ROOT, "--wheel-dir", folder)
        (wheel,) = folder.glob("*.whl")
        needed = resolve(folder, wheel)
        with_torch = resolve(folder, "torch", "torchvision")
        beyond = [f"{name}=={version}" for name, version in needed.items() if name not in with_torch]
        pip("install", "--no-deps", "--target", folder / "site", wheel, *beyond)
        sizes = {found.name: size_of(found) for found in distributions(path=[str(folder / "site")])}
        largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
        result = {
            "mb": megabytes(sum(sizes.values())),
            "wheel_mb": megabytes(wheel.stat().st_size),
            "packages": len(sizes),
            "largest": {name: megabytes(sizes[name]) for name in largest},
        }
    print(json.dumps(result))


def resolve(folder: Path, *requirements: str | Path) -> dict[str, str]:
    """Give the versions that pip would install into an empty environment, by package, without this library's own."""
    report = folder / "report.json"
    pip("install", "--dry-run", "--ignore-installed", "--report", report, *requirements)
    packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    versions = {item["name"].lower().replace("_", "-"): item["version"] for item in packages}
    versions.pop("modeling-crh", None)
    return versions


def size_of(distribution: Distribution) -> int:
    """Bytes of a package's files, as its list of files names them."""
    paths = [Path(str(file.locate())) for file in distribution.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())


def megabytes(size: int) -> float:
    """Millions of bytes, to a tenth."""
    return round(size / 1e6, 1)


def pip(*arguments: str | Path) -> None:
    """Run the pip of this environment, which shows only errors."""
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], check=True)


if __name__ == "__main__":
    main()
