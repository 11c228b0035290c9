import json
import os
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from tiny_data import write_pictures

from modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import only_run


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

    options = ["--shard-size", 20, "--batch-size", 10]
    with monkeypatch.context() as patch:
        patch.setattr(CRHModel, "forward", interrupted_in_the_fourth_batch)
        code, output, errors = encode(image_folder, *options, "--num-workers", 1)
    assert (code, output) == (130, "")
    assert "is 1 file of 20 rows; the same command goes on from there." in " ".join(errors.split())
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
        ("photoz/of/2026", [], "`dataset` must be a folder, a table, the Hub id of a dataset, or one of the"),
        ("empty", [], "`dataset` must hold images, sounds or tables, but the folder 'empty' holds none."),
        (
            "rows.csv",
            [],
            "One of `image_column`, `audio_column`, `text_column` and `features_column` must name a column",
        ),
        ("rows.csv", ["--text-column", "text"], "`text_column` must be left out, since the model reads images and not"),
        ("photos", ["--label-column", "kind"], "`label_column` must be one of ['image'], but got 'kind'."),
        ("photos", ["--out", "rows.csv"], "`out` must be a folder, but 'rows.csv' is a file."),
        ("photos", [], "bad.png is not: no known image format; `--skip-bad` (`skip_bad=True`) leaves such rows out."),
        ("cut.parquet", [], "that can be read, but 'cut.parquet' is not: "),
        ("cut.jsonl", [], "that can be read, but 'cut.jsonl' is not: "),
        ("cut.csv", [], "that can be read, but 'cut.csv' is not: "),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(encode, tmp_path, monkeypatch, source, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.csv").write_text("text\nthe cat\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    for suffix in ("parquet", "jsonl", "csv"):
        (tmp_path / f"cut.{suffix}").write_bytes(b"PAR1\0 and, no more\n1,2,3")
    before = sorted(tmp_path.rglob("*"))
    code, output, errors = encode(source, *options)
    assert (code, output) == (2, "")
    assert len(errors.strip().splitlines()) == 1
    assert message in errors
    assert sorted(tmp_path.rglob("*")) == before


def test_a_picture_that_was_replaced_and_another_option_are_refused_and_another_run_is_waited_out(encode, tmp_path):
    files = write_pictures(tmp_path / "images", 4)
    paths = "\n".join(f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files)
    (tmp_path / "rows.csv").write_text(f"image,label\n{paths}")
    with only_run(tmp_path / "rows"):
        assert "`out` must be a folder that no other run writes to" in encode(tmp_path / "rows.csv", out="rows")[2]
    for source, out in (("images", "images codes"), ("rows.csv", "rows")):
        assert encode(tmp_path / source, out=out)[0] == 0
    files[3].write_bytes(files[4].read_bytes())
    os.utime(files[3], (1, 1))
    for source, out in (("images", "images codes"), ("rows.csv", "rows")):
        code, _, errors = encode(tmp_path / source, out=out)
        assert (code, "`source` must be" in errors, "has changed since" in errors) == (2, True, True)
    code, _, errors = encode(tmp_path / "images", "--split", "all", out="images codes")
    assert code == 2


def test_a_worker_that_runs_out_of_shared_memory_ends_the_run_with_what_to_do(
    crh, tiny_checkpoint, image_folder, tmp_path, monkeypatch
):
    def end_by_bus_error(*_):
        os.kill(os.getpid(), signal.SIGBUS)

    def have_no_room(*_):  # called by torch in a thread of the worker, which swallows the error, unless we call it
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    def give_up(*_):
        raise TimeoutError("it waits for ever")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        for place, failure in (
            ("modeling_crh.encoding.inputs.read_value", end_by_bus_error),
            ("torch.UntypedStorage._share_fd_cpu_", have_no_room),
        ):
            with monkeypatch.context() as patched:
                patched.setattr(place, failure)
                code, _, errors = crh(
                    "encode",
                    tiny_checkpoint,
                    image_folder,
                    "--out",
                    tmp_path / "codes",
                    "--num-workers",
                    1,
                    "--batch-size",
                    4,
                )
            assert "Traceback" not in errors
            assert (code, "Error: The processes that prepare batches ran out of shared memory" in errors) == (1, True)
            assert "`--num-workers 0`" in errors
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_string_ids_are_those_of_the_search_hits(crh, tiny_model, tmp_path):
    tiny_model(None).save_pretrained(tmp_path / "model")
    values = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    rows = {"features": values.tolist(), "sku": [f"item-{number:03d}" for number in range(30)]}
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "rows.parquet"))
    data = [tmp_path / "rows.parquet", "--features-column", "features", "--id-column", "sku"]
    code, _, errors = crh("encode", tmp_path / "model", *data, "--out", tmp_path / "codes")
    assert code == 0, errors
    assert pq.read_table(tmp_path / "codes")["id"].to_pylist()[17] == "item-017"
