import json

import pyarrow.parquet as pq
import pytest

from modeling_crh import CRHModel


@pytest.fixture
def encode(crh, tiny_checkpoint, tmp_path):
    """Run `crh encode` into a folder of that name."""
    return lambda source, *options, out="codes": crh(
        "encode", tiny_checkpoint, source, "--out", tmp_path / out, *options
    )


def test_a_second_run_says_that_nothing_is_left_to_do(encode, image_folder, tmp_path):
    code, output, errors = encode(image_folder, "--shard-size", 25)
    assert (code, output) == (0, f"60 codes of 16 bits in {tmp_path / 'codes'}\n"), errors
    code, output, _ = encode(image_folder, "--shard-size", 25)
    assert (code, output) == (0, f"60 codes of 16 bits were there already, in {tmp_path / 'codes'}\n")
    code, output, _ = encode(image_folder, "--shard-size", 25, "--json")
    assert json.loads(output) == {"codes": str(tmp_path / "codes"), "items": 60, "left_out": 0, "num_bits": 16}


def test_an_interruption_leaves_whole_shards_and_says_how_to_go_on(encode, image_folder, tmp_path, monkeypatch):
    forward, batches = CRHModel.forward, []

    def interrupted_in_the_fourth_batch(*arguments, **inputs):
        batches.append(1)
        if len(batches) == 4:
            raise KeyboardInterrupt
        return forward(*arguments, **inputs)

    options = ["--shard-size", 20, "--batch-size", 10, "--num-workers", 1]
    with monkeypatch.context() as patch:
        patch.setattr(CRHModel, "forward", interrupted_in_the_fourth_batch)
        code, output, errors = encode(image_folder, *options)
    assert (code, output) == (130, "")
    assert "is 1 file of 20 items; the same command goes on from there." in " ".join(errors.split())
    files = sorted(file.name for file in (tmp_path / "codes").iterdir())
    assert files == [".encoding.json", "codes-00000.parquet"]
    assert encode(image_folder, *options)[0] == 0
    assert encode(image_folder, *options, out="whole")[0] == 0
    assert pq.read_table(tmp_path / "codes").equals(pq.read_table(tmp_path / "whole"))


def test_an_interruption_before_the_first_shard_leaves_nothing(encode, image_folder, tmp_path, monkeypatch):
    def interrupted(*arguments, **inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(CRHModel, "forward", interrupted)
    code, _, errors = encode(image_folder)
    assert code == 130
    assert "is nothing yet; the same command goes on" in " ".join(errors.split())
    assert not (tmp_path / "codes").exists()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("photoz/of/2026", [], "`source` must be a folder, a file or a dataset, but 'photoz/of/2026' is not there."),
        ("empty", [], "`source` must hold at least one image file, but the folder 'empty' holds none."),
        ("rows.csv", [], "`image_column` must be one of ['text'], but got 'image'."),
        ("rows.csv", ["--text-column", "text"], "`text_column` must be left out, since the model reads images and not"),
        ("photos", ["--label-column", "kind"], "`label_column` must be one of ['image'], but got 'kind'."),
        ("photos", ["--out", "rows.csv"], "`out` must be a folder, but 'rows.csv' is a file."),
        ("photos", [], "bad.png is not: no known image format; `skip_bad_images=True` (`--skip-bad-images`) leaves it"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(encode, tmp_path, monkeypatch, source, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.csv").write_text("text\nthe cat\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    before = sorted(tmp_path.rglob("*"))
    code, output, errors = encode(source, *options)
    assert (code, output) == (2, "")
    assert message in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.csv"])
def test_a_damaged_table_is_one_sentence(encode, tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1\0 and, no more\n1,2,3")
    code, output, errors = encode(tmp_path / name)
    assert (code, output) == (2, "")
    assert len(errors.strip().splitlines()) == 1
    assert "`source` must be a folder, a table or a dataset that can be read, but" in errors
