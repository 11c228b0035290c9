"""Build a release into dist/ and try it as a newcomer would: `make release`, some minutes and 6 GB of disk.

The sdist must hold the files that git tracks; the wheel is built from it, and must be, byte for byte, the one that this
tree gives. The shipped checkpoint is pushed to a loopback Hub. An environment that has torch and transformers, but not
this package, loads it from there by the code that travels with it; then the wheel is installed there, its pipeline runs
offline, and so does the first example of README.md. All must give what this environment gives. `--tag v1.2.3` asks in
addition that the tag and CHANGELOG.md name the version that was built. The last line of output is one JSON document.
"""

import argparse
import json
import re
import shutil
import sys
import tarfile
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script beside the tests, that no test runs

from hub.loopback_hub import LoopbackHub
from install.environments import ROOT, encode, install, make_environment, run, save_images

DIST = ROOT / "dist"
CHECKPOINT = ROOT / "modeling_crh" / "checkpoints" / "fashion-mnist-64"
REPO = "ada/fashion-mnist-64"
MAX_WHEEL_MB = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", help="Tag of the commit, such as v1.2.3.")
    tag = parser.parse_args().tag
    with TemporaryDirectory() as name:
        sdist, wheel = build(Path(name))
        check_files(sdist, wheel)
        check_version(wheel, tag)
        tried = try_wheel(Path(name), wheel)
    print(json.dumps({"wheel": wheel.name, "wheel_mb": megabytes(wheel), "sdist_mb": megabytes(sdist), **tried}))


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist and from it the wheel, which must be the tree's; twine checks what a registry would refuse."""
    python = make_environment(folder / "tools", "build", "twine")
    shutil.rmtree(DIST, ignore_errors=True)
    run(python, "-m", "build", "--outdir", DIST, ROOT, folder=folder)
    run(python, "-m", "build", "--wheel", "--outdir", folder / "tree", ROOT, folder=folder)
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    run(python, "-m", "twine", "check", "--strict", sdist, wheel, folder=folder)
    if wheel.read_bytes() != (folder / "tree" / wheel.name).read_bytes():
        sys.exit("The wheel from the sdist must be the wheel from this tree, but the two differ.")
    return sdist, wheel


def check_files(sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
    tracked = set(run("git", "ls-files", folder=ROOT).splitlines())
    if packed != tracked:
        sys.exit(f"The sdist must hold the files that git tracks, but they differ in {sorted(packed ^ tracked)[:5]}.")
    if megabytes(wheel) > MAX_WHEEL_MB:
        sys.exit(f"The wheel must have at most {MAX_WHEEL_MB} MB, but it has {megabytes(wheel)}.")


def check_version(wheel: Path, tag: str | None) -> None:
    version = wheel.name.split("-")[1]
    named = {"CITATION.cff": re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]}
    if tag is not None:
        sections = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
        named |= {"the tag": tag.removeprefix("v"), "CHANGELOG.md": (sections or ["none"])[0]}
    for where, other in named.items():
        if other != version:
            sys.exit(f"The version must be the same everywhere, but the wheel has {version} and {where} {other}.")


def try_wheel(folder: Path, wheel: Path) -> dict[str, int]:
    """Encode with this environment, without the package and with the wheel, and run the README's first example."""
    images = save_images(folder / "images")
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    needed = [item for item in dependencies if re.match(r"(torch|torchvision|transformers|pillow)\b", item)]
    python = make_environment(folder / "venv", *needed)
    here = encode(sys.executable, images)
    with LoopbackHub() as hub:
        online = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_ada", "HF_HUB_DISABLE_XET": "1"}
        run(Path(sys.executable).with_name("crh"), "push", CHECKPOINT, REPO, folder=folder, **online)
        without_package = encode(python, images, REPO, **online)
    install(python, wheel)
    for name, codes in {"without the package": without_package, "with the wheel": encode(python, images)}.items():
        if codes != here:
            sys.exit(f"Codes must be those of this environment, but {name} they differ.")
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    offline = {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    shown = [run(other, "-I", "-c", example, folder=folder, **offline) for other in (python, sys.executable)]
    if shown[0] != shown[1] or not shown[0]:
        sys.exit(f"The README's example must print what it prints in this environment, but got {shown}.")
    return {"codes": len(here), "readme_lines": len(example.splitlines())}


def megabytes(file: Path) -> float:
    return round(file.stat().st_size / 1e6, 2)


if __name__ == "__main__":
    main()
