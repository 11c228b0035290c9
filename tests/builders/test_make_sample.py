import sys

import numpy as np
import pyarrow.parquet
from make_sample import main, make_sample


def test_the_sample_is_a_balanced_share_and_the_same_each_time(idx_folder, tmp_path, monkeypatch):
    make_sample(idx_folder, tmp_path / "half", fraction=0.5)
    labels = pyarrow.parquet.read_table(tmp_path / "half" / "train.parquet")["label"].to_pylist()
    assert np.bincount(labels).tolist() == [2] * 10
    for out in ("first", "second"):
        monkeypatch.setattr(sys, "argv", ["make_sample", str(idx_folder), "--out", str(tmp_path / out)])
        main()
    for name in ("train.parquet", "test.parquet"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
