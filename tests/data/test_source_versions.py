import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image
from tiny_data import picture, write_pictures

from modeling_crh.data import open_source


def replaced(file):
    """Replace a picture under its name; its time tells of it, whatever the clock of the file system."""
    picture(0, 77).save(file)
    os.utime(file, (1, 1))


@pytest.mark.parametrize(
    "form", ["structs.parquet", "images.parquet", "rows.jsonl", "saved", "link.csv", "rows.tar", "zip.csv", "in memory"]
)
def test_the_version_tells_of_a_picture_that_was_replaced_wherever_it_lies(form, tmp_path):
    files = [str(file) for file in write_pictures(tmp_path / "elsewhere", 2)]
    images = Dataset.from_dict({"image": files}).cast_column("image", Image())
    source, changed = tmp_path / form, files[3]
    if form == "structs.parquet":
        cells = [{"bytes": None, "path": file} for file in files]
        pq.write_table(pa.table({"image": cells}), source)
    elif form == "images.parquet":
        images.to_parquet(str(source))
    elif form == "rows.jsonl":
        source.write_text("\n".join(json.dumps({"image": {"path": file}}) for file in files))
    elif form == "saved":
        Dataset.from_dict({"image": files}).save_to_disk(source)
    elif form == "link.csv":
        (tmp_path / "link.png").symlink_to(files[3])
        source.write_text("image\nlink.png\n")
    elif form == "rows.tar":
        with tarfile.open(source, "w") as archive:
            for file in files:
                archive.add(file, arcname=Path(file).name.replace("/", "-"))
        changed = source
    elif form == "zip.csv":
        shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "elsewhere")
        source.write_text(f"image\nzip://cat/00.png::{tmp_path / 'all.zip'}\n")
        changed = tmp_path / "all.zip"
    opened = images if form == "in memory" else source
    before = open_source(opened).version
    assert open_source(opened).version == before
    replaced(changed) if changed == files[3] else os.utime(changed, (1, 1))
    assert open_source(opened).version != before


def test_a_table_that_holds_its_pictures_is_not_read_for_its_version(tmp_path, monkeypatch, png):
    cells = [{"bytes": png(shade), "path": f"{shade}.png"} for shade in range(6)]
    pq.write_table(pa.table({"image": cells}), tmp_path / "rows.parquet")
    Dataset.from_dict({"image": cells}).cast_column("image", Image()).save_to_disk(tmp_path / "saved")
    for name in ("rows.parquet", "saved"):
        source = open_source(tmp_path / name)
        assert source.version == source.stored_version
    source = open_source(tmp_path / "rows.parquet")
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("it is read"))
    assert source.version == source.stored_version


def test_the_version_of_an_array_tells_of_its_labels(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 3), np.float32))
    before = open_source(tmp_path / "x.npy").version
    np.save(tmp_path / "x.labels.npy", np.arange(4))
    labelled = open_source(tmp_path / "x.npy").version
    assert labelled != before
    os.utime(tmp_path / "x.labels.npy", (1, 1))
    assert open_source(tmp_path / "x.npy").version not in (before, labelled)
    os.utime(tmp_path / "x.npy", (1, 1))
    assert len({before, labelled, open_source(tmp_path / "x.npy").version}) == 3
