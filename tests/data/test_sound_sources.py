import json

import pytest
from datasets import Audio, Dataset, load_from_disk
from tiny_data import CLASSES, picture, read_both, sound, sound_bytes, write_sounds, write_tar

from modeling_crh.data import DataSource, load_splits, open_source, read_parts
from modeling_crh.sounds import read_sound

LABELS = ["cat"] * 4 + ["dog"] * 4 + ["eel"] * 4


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_the_class_of_a_recording_is_the_first_folder_and_what_is_passed_over_is_counted(tmp_path, capsys, suffix):
    write_sounds(tmp_path, suffix=suffix)
    (tmp_path / "cat" / "notes.txt").write_text("about")
    (tmp_path / "empty class").mkdir()
    assert read_both(tmp_path) == LABELS
    said = f"Passed over in {tmp_path}: .txt files (1), folders without a sound (1)."
    assert capsys.readouterr().err.splitlines() == [said] * 2
    opened = open_source(tmp_path)
    assert (opened.kind, opened.num_rows) == ("audio", 12)
    assert next(opened.rows()).value == {"bytes": None, "path": str(tmp_path / "cat" / f"00.{suffix}")}


def test_metadata_of_recordings_are_read(tmp_path):
    files = write_sounds(tmp_path)
    lines = [f"{file.relative_to(tmp_path)},{file.stem}" for file in files]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    assert read_both(tmp_path) == ["00", "01", "02", "03"] * 3


def test_a_folder_of_sounds_and_images_is_read_only_if_the_kind_is_named(tmp_path):
    write_sounds(tmp_path)
    picture(0, 0).save(tmp_path / "cat" / "cover.png")
    with pytest.raises(ValueError, match=r"`image_column` or `audio_column` must be named .* `--audio-column audio`"):
        open_source(tmp_path)
    assert read_both(tmp_path, audio_column="audio") == LABELS
    assert read_both(tmp_path, image_column="image") == ["cat"]


def tables(folder):
    """Twelve recordings in all forms that are not folders of files: pairs of a name and what is read."""
    files = write_sounds(folder / "files")
    names = [str(file.relative_to(folder)) for file in files]
    contents = [file.read_bytes() for file in files]
    stored = [{"bytes": content, "path": file.name} for content, file in zip(contents, files, strict=True)]
    embedded = Dataset.from_dict({"audio": stored, "label": LABELS}).cast_column("audio", Audio())
    embedded.to_parquet(folder / "embedded.parquet")
    embedded.save_to_disk(folder / "saved")
    Dataset.from_dict({"clip": contents, "label": LABELS}).to_parquet(folder / "bytes.parquet")
    rows = [{"clip": name, "label": label} for name, label in zip(names, LABELS, strict=True)]
    (folder / "paths.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "paths.csv").write_text("\n".join(["clip,label", *(",".join(row.values()) for row in rows)]))
    write_tar(
        folder / "shard.tar", [{"wav": content, "cls": str(n // 4).encode()} for n, content in enumerate(contents)]
    )
    clip = {"audio_column": "clip"}
    return {
        "embedded": (folder / "embedded.parquet", {}),
        "saved": (folder / "saved", {}),
        "bytes": (folder / "bytes.parquet", clip),
        "paths of a CSV": (folder / "paths.csv", clip),
        "paths of JSON lines": (folder / "paths.jsonl", clip),
        "tar": (folder / "shard.tar", {}),
        "object": (load_from_disk(folder / "saved").rename_column("audio", "clip"), {}),
        "stream": (load_from_disk(folder / "saved").to_iterable_dataset(), {}),
    }


def test_a_column_of_sounds_is_read_from_every_form_of_table_alike(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    expected = [read_sound(sound_bytes(sound(row // 4, row % 4, seconds=0.2 + 0.05 * (row % 3)))) for row in range(12)]
    for name, (data, options) in tables(tmp_path).items():
        labels = [CLASSES[int(label)] if label.isdigit() else label for label in read_both(data, **options)]
        assert labels == LABELS, name
        (part,) = read_parts(DataSource(dataset=data, **options))[0].values()
        for values in (part["audio"], [row.value for row in open_source(data, **options).rows()]):
            for value, (samples, rate) in zip(values, expected, strict=True):
                found = read_sound(value)
                assert (found.samples.tolist(), found.rate) == (samples.tolist(), rate), name


def test_recordings_that_cannot_be_read_end_the_run_or_are_left_out_and_named(tmp_path):
    write_sounds(tmp_path, 8)
    (tmp_path / "cat" / "cut.wav").write_bytes(sound_bytes(sound(0))[:1000])
    (tmp_path / "dog" / "empty.wav").write_bytes(sound_bytes(sound(0)[:0]))
    with pytest.raises(ValueError, match=r"must be readable, but .*cut\.wav is not: its end is missing; `--skip-bad`"):
        load_splits(tmp_path)
    reasons = {row.path.rpartition("/")[2]: row.reason for row in load_splits(tmp_path, skip_bad=True).bad_rows}
    assert reasons == {"cut.wav": "its end is missing", "empty.wav": "it has no samples"}
