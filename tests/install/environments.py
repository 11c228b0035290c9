"""Virtual environments of their own for `release.py` and `neighbours.py`, and the codes that are made in them."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENCODE = Path(__file__).with_name("encode.py")
NUM_IMAGES = 50


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """Run a command in a folder and give its standard output; standard error is shown."""
    print("running", *(str(word).partition("\n")[0] for word in command[:6]), file=sys.stderr, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    return subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def make_environment(folder: Path, *requirements: str | Path) -> Path:
    """Make a virtual environment with the newest pip and what is required, and give its Python."""
    run(sys.executable, "-m", "venv", folder, folder=folder.parent)
    python = folder / "bin" / "python"
    install(python, "--upgrade", "pip", *requirements)
    return python


def install(python: Path, *requirements: str | Path) -> None:
    """Install with the pip of an environment; what is imported compiles itself, and most of torch never is."""
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", *requirements, folder=python.parent)


def save_images(folder: Path) -> Path:
    """Save the first queries of the bundled sample as PNG files."""
    from modeling_crh.data import load_benchmark

    folder.mkdir()
    for number, image in enumerate(load_benchmark("fashion_mnist_sample")["query"]["image"][:NUM_IMAGES]):
        image.save(folder / f"{number:03}.png")
    return folder


def encode(python: str | Path, images: Path, *source: str, **variables: str) -> list[str]:
    """Encode a folder of images in the environment of `python`, as encode.py says; without a source the Hub is off."""
    variables |= {"HF_HOME": str(images.parent / "home")} | ({} if source else {"HF_HUB_OFFLINE": "1"})
    return json.loads(run(python, "-I", ENCODE, images, *source, folder=images.parent, **variables).splitlines()[-1])
