import sys

import numpy as np
import pyarrow.parquet
from make_sample import main, make_sample

from modeling_crh.data.benchmarks.small_images import load_fashion_mnist
from modeling_crh.data.columns import label_tensor


def test_the_sample_is_a_balanced_share_of_the_official_images_in_their_order(idx_folder, tmp_path):
    make_sample(idx_folder, tmp_path / "out", fraction=0.5)
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "train.parquet").to_pydict()
    assert np.bincount(rows["label"]).tolist() == [2] * 10
    official = label_tensor(load_fashion_mnist(idx_folder)[0])
    assert len(rows["label"]) == len(official) / 2


def test_the_same_files_come_out_twice(idx_folder, tmp_path, monkeypatch):
    for out in ("first", "second"):
        monkeypatch.setattr(sys, "argv", ["make_sample", str(idx_folder), "--out", str(tmp_path / out)])
        main()
    for name in ("train.parquet", "test.parquet"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
