"""Encode a folder of PNG files; `environments.py` runs this where `modeling_crh` is installed, and where it is not.

    python -I encode.py IMAGES         # by the default model of the installed package
    python -I encode.py IMAGES REPO    # without the package, by the code in a model's repository

The last line of output is a JSON list of codes in hexadecimal digits.
"""

import importlib.util
import json
import sys
from pathlib import Path

from PIL import Image
from transformers import AutoModel, pipeline


def main(folder: str, repo: str | None = None) -> None:
    images = [Image.open(path) for path in sorted(Path(folder).glob("*.png"))]
    found = importlib.util.find_spec("modeling_crh") is not None
    if found == (repo is not None):
        sys.exit(f"`modeling_crh` must {'not ' if found else ''}be installed here.")
    codes = by_package(images) if repo is None else by_repository(images, repo)
    print("\n" + json.dumps(codes))  # after anything that a library has left on the line


def by_package(images: list[Image.Image]) -> list[str]:
    import modeling_crh  # noqa: F401 - registers the task

    return [item["code"] for item in pipeline("crh-hashing")(images, code_format="hex")]


def by_repository(images: list[Image.Image], repo: str) -> list[str]:
    hashing = pipeline(model=repo, trust_remote_code=True)
    codes = [item["code"] for item in hashing(images, code_format="hex")]
    model = AutoModel.from_pretrained(repo, trust_remote_code=True)
    signs = [model.encode(**hashing.preprocess(image))[0].tolist() for image in images]
    if codes != [f"{int(''.join('1' if sign > 0 else '0' for sign in row), 2):016x}" for row in signs]:
        sys.exit("`AutoModel` and `pipeline` must give the same codes.")
    return codes


if __name__ == "__main__":
    main(*sys.argv[1:])
