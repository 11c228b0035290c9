import json
import os
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image
from tiny_data import picture, write_pictures

from modeling_crh.data import open_source


def write_source(form, folder, files):
    """Write a source of pictures in the folder `elsewhere`; gives it and the file whose change its version tells of."""
    source, archive = folder / form, folder / "all.zip"
    names, paths = list(map(str, files)), [str(file.relative_to(folder)) for file in files]
    images = Dataset.from_dict({"image": names}).cast_column("image", Image())
    if form == "structs.parquet":
        pq.write_table(pa.table({"image": [{"bytes": None, "path": name} for name in names]}), source)
    elif form == "images.parquet":
        images.to_parquet(str(source))
    elif form == "paths.parquet":
        pq.write_table(pa.table({"image": paths}), source)
    elif form == "rows.jsonl":
        source.write_text("\n".join(json.dumps({"image": {"path": name}}) for name in names))
    elif form == "saved":
        Dataset.from_dict({"image": names}).save_to_disk(source)
    elif form == "link.csv":
        (folder / "link.png").symlink_to(files[3])
        source.write_text("image\nlink.png\n")
    elif form == "sounds.csv":  # which are not opened for a version
        source.write_text("\n".join(["audio", *paths, ""]))
    elif form == "rows.tar":
        with tarfile.open(source, "w") as tar:
            for file in files:
                tar.add(file, arcname=file.name)
        return source, source
    elif form == "zip.csv":
        shutil.make_archive(str(archive.with_suffix("")), "zip", folder / "elsewhere")
        source.write_text(f"image\nzip://cat/00.png::{archive}\n")
        return source, archive
    return images if form == "memory" else source, files[3]


FORMS = "memory elsewhere saved structs.parquet images.parquet paths.parquet rows.jsonl link.csv sounds.csv rows.tar"


@pytest.mark.parametrize("form", [*FORMS.split(), "zip.csv"])
def test_the_version_tells_of_a_picture_that_was_replaced_wherever_it_lies(form, tmp_path):
    files = write_pictures(tmp_path / "elsewhere", 2)
    source, changed = write_source(form, tmp_path, files)
    before = open_source(source).version
    assert open_source(source).version == before
    changed.write_bytes(files[4].read_bytes() if changed == files[3] else changed.read_bytes())
    os.utime(changed, (1, 1))  # its time tells of it, whatever the clock of the file system
    assert open_source(source).version != before


def test_the_version_tells_of_its_own_files_alone_however_they_are_named(tmp_path, monkeypatch):
    write_pictures(tmp_path / "images", 1)
    monkeypatch.chdir(tmp_path)
    rows = "image\nimages/cat/00.png\n"
    texts = {"rows.csv": f"{rows}images/none.png\nhttp://x/y.png\n", "other.csv": rows, "texts.csv": "text\nx\n"}
    for name, content in texts.items():
        (tmp_path / name).write_text(content)

    def versions():
        options = {"texts.csv": {"text_column": "text"}}
        return {name: open_source(name, **options.get(name, {})).version for name in ["images", *texts]}

    before = versions()
    for name in ("./rows.csv", tmp_path / "rows.csv"):
        assert open_source(name).version == before["rows.csv"]
    picture(0, 99).save("images/none.png")  # a row that was bad
    os.utime("texts.csv", (1, 1))
    after = versions()
    assert {name for name in before if before[name] != after[name]} == {"images", "rows.csv", "texts.csv"}


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
