"""Does the wheel fit beside other libraries? `make check-neighbours`, some minutes and 7 GB of disk an environment.

pip resolves the neighbours alone and again with the wheel, without installing anything: `moved` lists packages whose
version the wheel changes, and none of the named libraries may be among them. Then an environment gets the versions that
were resolved: the wheel, its dependencies and the named libraries, but not vLLM, of whose dependencies only those that
the wheel shares are installed. There the libraries are imported beside the wheel, and the shipped checkpoint must give
the codes of this environment, bit for bit. The last line of output is one JSON document.

    python tests/install/neighbours.py [NAME ...]    # trainers, vllm, colab; all by default
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script beside the tests, that no test runs

from install.environments import ROOT, encode, install, make_environment, run, save_images

SHOWN = ("torch", "torchvision", "transformers", "huggingface-hub", "datasets", "numpy")


@dataclass(frozen=True)
class Neighbour:
    """Libraries to stand beside.

    Attributes:
        libraries: Names of packages, taken at their newest.
        constraints: A file of versions that must be kept.
        is_installed: Whether the libraries are installed and imported, or only their versions are used.
    """

    libraries: tuple[str, ...] = ()
    constraints: Path | None = None
    is_installed: bool = True


NEIGHBOURS = {
    "trainers": Neighbour(("sentence-transformers", "setfit", "peft", "trl", "timm")),
    "vllm": Neighbour(("vllm",), is_installed=False),
    "colab": Neighbour(constraints=Path(__file__).with_name("colab.txt")),
}


def main(names: list[str]) -> None:
    with TemporaryDirectory() as folder:
        images = save_images(Path(folder) / "images")
        here = encode(sys.executable, images)
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", ROOT, folder=Path(folder))
        (wheel,) = Path(folder).glob("*.whl")
        found = {name: check(NEIGHBOURS[name], wheel, images, here) for name in names or NEIGHBOURS}
    print(json.dumps(found))
    if not all(result["same_codes"] and result["libraries_stay"] for result in found.values()):
        sys.exit(1)


def check(neighbour: Neighbour, wheel: Path, images: Path, expected: list[str]) -> dict[str, object]:
    """Resolve, install, import and encode; the environment is removed afterwards."""
    with TemporaryDirectory() as name:
        python = make_environment(Path(name) / "venv")
        constraints = [] if neighbour.constraints is None else ["--constraint", neighbour.constraints]
        alone = resolve(python, *constraints, *neighbour.libraries) if neighbour.libraries else {}
        versions = resolve(python, *constraints, *neighbour.libraries, wheel)
        pins = Path(name) / "pins.txt"
        pins.write_text("".join(f"{package}=={version}\n" for package, version in versions.items()))
        libraries = neighbour.libraries if neighbour.is_installed else ()
        install(python, "--constraint", pins, *libraries, wheel)
        modules = ["modeling_crh", *(library.replace("-", "_") for library in libraries)]
        run(python, "-I", "-c", f"import {', '.join(modules)}", folder=Path(name), HF_HUB_OFFLINE="1")
        codes = encode(python, images)
    moved = {name: [version, versions[name]] for name, version in alone.items() if versions[name] != version}
    return {
        "versions": {name: versions[name] for name in (*SHOWN, *neighbour.libraries)},
        "moved": moved,
        "libraries_stay": not moved.keys() & set(neighbour.libraries),
        "same_codes": codes == expected,
        "codes_that_differ": sum(code != other for code, other in zip(codes, expected, strict=True)),
    }


def resolve(python: Path, *requirements: str | Path) -> dict[str, str]:
    """Give the versions that pip would install into an empty environment, by the normalized names of packages."""
    report = python.parent / "report.json"
    install(python, "--dry-run", "--ignore-installed", "--report", report, *requirements)
    packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {item["name"].lower().replace("_", "-"): item["version"] for item in packages}


if __name__ == "__main__":
    main(sys.argv[1:])
