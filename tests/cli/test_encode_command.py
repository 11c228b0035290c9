import os
import re
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from tiny_commands import done, refusal
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
    codes = tmp_path / "codes"
    assert done(encode(image_folder, "--shard-size", 25)) == f"60 codes of 16 bits in {codes}\n"
    assert done(encode(image_folder, "--shard-size", 25)) == f"60 codes of 16 bits were there already, in {codes}\n"
    summary = {"codes": str(codes), "items": 60, "left_out": 0, "num_bits": 16}
    assert done(encode(image_folder, "--shard-size", 25, "--json")) == summary


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
    done(encode(image_folder, *options))
    done(encode(image_folder, *options, out="whole"))
    assert pq.read_table(tmp_path / "codes").equals(pq.read_table(tmp_path / "whole"))


def test_an_interruption_before_the_first_shard_leaves_nothing(encode, image_folder, tmp_path, monkeypatch):
    def interrupted(*arguments, **inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(CRHModel, "forward", interrupted)
    code, _, errors = encode(image_folder)
    assert code == 130
    assert "is nothing yet; the same command goes on" in " ".join(errors.split())
    assert not (tmp_path / "codes").exists()


def test_a_picture_that_was_replaced_and_another_option_are_refused_and_another_run_is_waited_out(encode, tmp_path):
    files = write_pictures(tmp_path / "images", 4)
    paths = "\n".join(f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files)
    (tmp_path / "rows.csv").write_text(f"image,label\n{paths}")
    with only_run(tmp_path / "rows"):
        said = refusal(encode(tmp_path / "rows.csv", out="rows"))
        assert "`out` must be a folder that no other run writes to" in said
    sources = [(tmp_path / "images", "images codes"), (tmp_path / "rows.csv", "rows")]
    for source, out in sources:
        done(encode(source, out=out))
    assert "`split` must be None, as it was" in refusal(encode(sources[0][0], "--split", "all", out="images codes"))
    files[3].write_bytes(files[4].read_bytes())
    os.utime(files[3], (1, 1))
    for source, out in sources:
        assert re.search("`source` must be .*has changed since", refusal(encode(source, out=out)))


def end_by_bus_error(*_):
    os.kill(os.getpid(), signal.SIGBUS)


def have_no_room(*_):  # called by torch in a thread of the worker, which swallows the error, unless we call it
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


@pytest.mark.parametrize(
    ("place", "failure"),
    [
        ("modeling_crh.encoding.inputs.read_value", end_by_bus_error),
        ("torch.UntypedStorage._share_fd_cpu_", have_no_room),
    ],
)
def test_a_worker_that_runs_out_of_shared_memory_ends_the_run_with_what_to_do(
    place, failure, encode, image_folder, monkeypatch
):
    def give_up(*_):
        raise TimeoutError("it waits for ever")

    monkeypatch.setattr(place, failure)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        code, _, errors = encode(image_folder, "--num-workers", 1, "--batch-size", 4)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert "Traceback" not in errors
    assert (code, "Error: The processes that prepare batches ran out of shared memory" in errors) == (1, True)
    assert "`--num-workers 0`" in errors


def test_string_ids_are_those_of_the_search_hits(crh, tiny_model, tmp_path):
    tiny_model(None).save_pretrained(tmp_path / "model")
    values = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    rows = {"features": values.tolist(), "sku": [f"item-{number:03d}" for number in range(30)]}
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "rows.parquet"))
    data = [tmp_path / "rows.parquet", "--features-column", "features", "--id-column", "sku"]
    done(crh("encode", tmp_path / "model", *data, "--out", tmp_path / "codes"))
    assert pq.read_table(tmp_path / "codes")["id"].to_pylist()[17] == "item-017"
