"""Make the bundled sample of Fashion-MNIST: `python benchmarks/builders/make_sample.py DATA_DIR --out DIR`."""

import argparse
from pathlib import Path

import numpy as np
from datasets import Dataset

from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.data.benchmarks.small_images import FASHION_CLASSES, load_fashion_mnist
from modeling_crh.data.columns import canonical_features, label_tensor
from modeling_crh.data.splits import held_out_rows


def make_sample(data_dir: Path, out_dir: Path, *, fraction: float = 0.1, seed: int = 0) -> None:
    """Write a stratified share of both official sets as `train.parquet` and `test.parquet`.

    Args:
        data_dir: Folder of the four official files.
        out_dir: Folder to write to, created if it does not exist.
        fraction: Share of each set.
        seed: Seed of the draw.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, dataset in zip(["train", "test"], load_fashion_mnist(data_dir), strict=True):
        chosen = dataset.select(held_out_rows(label_tensor(dataset), fraction, seed=seed))
        images = [encode_png(np.asarray(image), optimize=True) for image in chosen["image"]]
        rows = {"image": images, "label": list(chosen["label"])}
        sample = Dataset.from_dict(rows, features=canonical_features(FASHION_CLASSES))
        sample.to_parquet(out_dir / f"{name}.parquet")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path, help="folder of the four official IDX files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write train.parquet and test.parquet to")
    arguments = parser.parse_args()
    make_sample(arguments.data_dir, arguments.out)


if __name__ == "__main__":
    main()
