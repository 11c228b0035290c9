import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder, encode_source, load_checkpoint
from modeling_crh.encoding import encode as encode_module
from modeling_crh.encoding.manifest import RECORD_NAME, EncodingRecord
from modeling_crh.images import read_image

ROOT = Path(__file__).parents[2]
POOLS = []  # of Arrow's memory; what was allocated in one may live longer than a test


@pytest.fixture
def photos(tmp_path):
    """A folder of 22 images that are not alike, in two classes; number 5 is cut short."""
    generator = np.random.default_rng(0)
    for number in range(22):
        file = tmp_path / "photos" / ("ant" if number < 9 else "bee") / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file)
    cut = tmp_path / "photos" / "ant" / "05.png"
    cut.write_bytes(cut.read_bytes()[:200])
    return tmp_path / "photos"


@pytest.fixture
def encode(tiny_checkpoint, tmp_path):
    """Encode a source with the tiny checkpoint into a folder of that name, in shards of 4 rows."""

    def run(source, out="codes", batch_size=3, num_workers=0, **settings):
        settings = {"model_name": "tiny", "shard_size": 4, "skip_bad": True} | settings
        opened = source if not isinstance(source, Path) else open_source(source)
        encoder = Encoder.load(tiny_checkpoint, batch_size=batch_size, num_workers=num_workers)
        return encode_source(encoder, opened, tmp_path / out, **settings)

    return run


def read(folder):
    files = sorted(folder.glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).to_pylist()


def test_codes_are_those_of_the_model_in_the_order_of_the_source(encode, photos, tiny_checkpoint, tmp_path):
    encoded = encode(photos)
    assert (encoded.items, encoded.was_complete, encoded.folder) == (21, False, tmp_path / "codes")
    assert [bad.path for bad in encoded.left_out] == [str(photos / "ant" / "05.png")]
    assert sorted(file.name for file in encoded.folder.iterdir()) == [
        RECORD_NAME,
        *(f"codes-{number:05d}.parquet" for number in range(6)),
    ]
    rows = read(encoded.folder)
    assert [row["id"] for row in rows] == [number for number in range(22) if number != 5]
    assert [row["label"] for row in rows] == ["ant"] * 8 + ["bee"] * 13
    model, processor = load_checkpoint(tiny_checkpoint)
    for row in rows:
        pixels = processor(read_image(row["path"]), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            code = pack_codes(binarize(model(pixel_values=pixels).hash_logits))
        assert row["code"] == code.numpy().tobytes()
    assert len({row["code"] for row in rows}) > 10


def test_a_finished_folder_is_left_alone(encode, photos):
    folder = encode(photos).folder
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    encoded = encode(photos)
    assert (encoded.items, len(encoded.left_out), encoded.was_complete) == (21, 1, True)
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()} == before


def test_a_shard_that_is_lost_or_damaged_is_encoded_again(encode, photos):
    folder = encode(photos).folder
    before = read(folder)
    (folder / "codes-00001.parquet").unlink()
    (folder / "codes-00004.parquet").write_bytes(b"")
    encoded = encode(photos)
    assert (encoded.items, len(encoded.left_out), encoded.was_complete) == (21, 1, False)
    assert read(folder) == before


def run_apart(*command, **environment):
    """Run Python with one thread in a process of its own; gives what it printed, and its messages."""
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
def test_runs_that_are_killed_at_random_points_lose_and_double_nothing(tiny_checkpoint, photos, tmp_path):
    output, _ = run_apart(ROOT / "tests" / "encoding" / "killed_encodings.py", tiny_checkpoint, photos, tmp_path)
    whole, *killed, last = map(int, output.split())
    assert (whole, last) == (0, 0)
    assert killed.count(9) >= 4  # at their random points; the others came to the end
    assert read(tmp_path / "killed") == read(tmp_path / "whole")
    assert len(read(tmp_path / "whole")) == 21
    names = [sorted(file.name for file in (tmp_path / name).iterdir()) for name in ("killed", "whole")]
    assert names[0] == names[1]


def test_a_run_knows_what_another_has_written_after_it_looked(encode, photos, monkeypatch):
    first = encode_module.CodeShards

    def look_early(*args, **settings):
        """Look into the folder; before anything else happens, another run begins and ends."""
        shards = first(*args, **settings)
        monkeypatch.setattr(encode_module, "CodeShards", first)
        encode(photos, shard_size=3)
        return shards

    monkeypatch.setattr(encode_module, "CodeShards", look_early)
    with pytest.raises(ValueError, match=r"`shard_size` must be 3, as it was when '.*codes' was begun, but got 4"):
        encode(photos)
    assert EncodingRecord.read(photos.parent / "codes").shard_size == 3
    assert len(read(photos.parent / "codes")) == 21


@pytest.mark.slow
def test_runs_into_one_folder_at_a_time_lose_and_double_nothing(tiny_model, tmp_path):
    for name, seed in (("ant", 0), ("bee", 1)):
        tiny_model(None, seed=seed).save_pretrained(tmp_path / name)
    values = np.random.default_rng(0).normal(size=(22, 4)).astype(np.float32)
    pq.write_table(pa.table({"features": list(values)}), tmp_path / "rows.parquet")
    arguments = [tmp_path / name for name in ("rows.parquet", "codes", "ant", "bee")]
    output, errors = run_apart(ROOT / "tests" / "encoding" / "rival_encodings.py", *arguments)
    winners = set()
    for line in output.splitlines():
        folder, *ends = line.split()
        winner = EncodingRecord.read(Path(folder)).model
        assert {pq.read_schema(file).metadata[b"model"].decode() for file in Path(folder).glob("*.parquet")} == {winner}
        assert ends == ["done" if name == winner else "refused" for name in ("ant", "ant", "bee", "bee")], errors
        assert [row["id"] for row in read(Path(folder))] == list(range(22))
        written = (Path(folder).with_suffix(".log")).read_text().split()
        assert sorted(written) == sorted(f"{winner}-{number}" for number in range(6))
        assert len(os.listdir(folder)) == 7
        winners.add(winner)
    assert winners == {"ant", "bee"}


def test_a_bad_image_stops_the_run_and_the_next_one_goes_on_without_it(encode, photos):
    folder = photos.parent / "codes"
    with pytest.raises(ValueError, match=r"05\.png is not"):
        encode(photos, shard_size=10, skip_bad=False)
    assert not folder.exists()  # it was in the first shard
    with pytest.raises(ValueError, match=r"05\.png is not: .*; `--skip-bad` \(`skip_bad=True`\)"):
        encode(photos, skip_bad=False)
    assert [file.name for file in sorted(folder.glob("*.parquet"))] == ["codes-00000.parquet"]
    before = (folder / "codes-00000.parquet").stat().st_mtime_ns
    encoded = encode(photos)
    assert (encoded.items, len(encoded.left_out)) == (21, 1)
    assert (folder / "codes-00000.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_a_stream_goes_on_after_its_first_shards(encode, photos, tmp_path, name):
    rows = [{"image": str(file), "number": 7 * number} for number, file in enumerate(sorted(photos.rglob("*.png")))]
    if name == "rows.parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name, row_group_size=5)
    else:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    encode(open_source(tmp_path / name, id_column="number"), "whole")
    folder = encode(open_source(tmp_path / name, id_column="number")).folder
    for number in (0, 2, 3, 5):
        (folder / f"codes-{number:05d}.parquet").unlink()
    encode(open_source(tmp_path / name, id_column="number"))
    assert read(folder) == read(tmp_path / "whole")
    assert [row["id"] for row in read(folder)] == [7 * number for number in range(22) if number != 5]


def test_other_options_than_those_of_the_codes_are_refused(encode, photos):
    encode(photos, options={"label_column": "label"})
    with pytest.raises(ValueError, match="`label_column` must be 'label', as it was"):
        encode(photos, options={"label_column": "kind"})


@pytest.mark.parametrize("change", ["replaced", "added", "deleted"])
def test_a_source_that_changes_while_it_is_encoded_is_refused(change, encode, photos, monkeypatch):
    late, whole = photos / "bee" / "20.png", Encoder.batch_logits

    def change_meanwhile(encoder, batch):
        monkeypatch.undo()
        if change == "deleted":
            (photos / "ant" / "00.png").unlink()
        else:
            target = late if change == "replaced" else photos / "bee" / "new.png"
            PIL.Image.new("RGB", (9, 9)).save(target)
        return whole(encoder, batch)

    monkeypatch.setattr(Encoder, "batch_logits", change_meanwhile)
    with pytest.raises(ValueError, match=r"`source` must not change while it is encoded, but files of '.*photos' have"):
        encode(photos)
    with pytest.raises(ValueError, match=r"`source` must be '.*photos' as it was when .*, but has changed since"):
        encode(photos)


@pytest.mark.parametrize(
    ("reads", "change"),
    [
        ("image", lambda encoder: torch.nn.init.zeros_(encoder.model.hash_head.weight)),
        ("image", lambda encoder: setattr(encoder.processor, "do_resize", False)),
        ("text", lambda encoder: setattr(encoder.processor, "model_max_length", 4)),
        ("text", lambda encoder: encoder.processor.init_kwargs.update(prompt="the dog ")),
    ],
    ids=["weights", "image processor", "length of texts", "prompt"],
)
def test_a_model_that_has_changed_is_refused(reads, change, photos, tiny_checkpoint, text_checkpoint, tmp_path):
    (tmp_path / "rows.csv").write_text("text\nthe cat sat\n")
    encoder = Encoder.load(tiny_checkpoint if reads == "image" else text_checkpoint)
    source = open_source(photos) if reads == "image" else open_source(tmp_path / "rows.csv", text_column="text")
    run, settings = (encoder, source, tmp_path / "codes"), {"model_name": "mine", "skip_bad": True}
    encode_source(*run, **settings)
    change(encoder)
    with pytest.raises(ValueError, match=r"`checkpoint` must be 'mine' as it was when .* was begun, but has changed"):
        encode_source(*run, **settings)


def test_a_model_of_something_else_is_an_error(encode, text_checkpoint, photos, tmp_path):
    (tmp_path / "rows.csv").write_text("text\nthe cat sat\n")
    with pytest.raises(ValueError, match="`text_column` must be left out, since the model reads images and not texts"):
        encode(open_source(tmp_path / "rows.csv", text_column="text"))
    with pytest.raises(ValueError, match="`text_column` must name a column, since the model reads texts and not image"):
        encode_source(Encoder.load(text_checkpoint), open_source(photos), tmp_path / "codes", model_name="m")


@pytest.mark.parametrize("field", ["shard_size", "batch_size"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_sizes_are_positive_whole_numbers(encode, photos, field, value):
    with pytest.raises(ValueError, match=f"`{field}` must be a whole number, 1 or larger, but got {value}"):
        encode(photos, **{field: value})


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_memory_does_not_grow_with_the_source(tmp_path, suffix):
    """Of 200 and of 2,000 rows of 20 kB each: the longer source has 40 MB, of which no more than 3 may show."""
    peaks, before = [], pa.default_memory_pool()
    model = CRHModel(CRHConfig(backbone_config=None, num_features=2500, num_labels=3, num_bits=16))
    for size in (200, 2000):
        features = np.zeros((size, 2500))
        features[:, :4] = np.random.default_rng(0).normal(size=(size, 4))
        file = tmp_path / f"{size}{suffix}"
        if suffix == ".parquet":
            table = pa.table({"vector": pa.FixedSizeListArray.from_arrays(features.reshape(-1), 2500)})
            pq.write_table(table, file, use_dictionary=False, compression="none")
        else:
            file.write_text("".join(json.dumps({"vector": row.tolist()}) + "\n" for row in features))
        features = table = None
        POOLS.append(pa.proxy_memory_pool(before))
        pa.set_memory_pool(POOLS[-1])
        tracemalloc.start()
        try:
            source = open_source(file, features_column="vector")
            encode_source(Encoder(model, None), source, tmp_path / f"codes {size}", model_name="m", shard_size=100)
            peaks.append(tracemalloc.get_traced_memory()[1] + POOLS[-1].max_memory())
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(before)
    assert peaks[1] - peaks[0] < 3 * 2**20
    assert len(read(tmp_path / "codes 2000")) == 2000


@pytest.mark.slow
def test_two_processes_write_what_one_does(encode, photos, tiny_checkpoint, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", ROOT / "pipelines/encode.py"]
    options = ["--out", tmp_path / "both", "--shard-size", "4", "--batch-size", "3", "--num-workers", "1"]
    options += ["--skip-bad", "--dtype", "float32", "--json"]
    output, errors = run_apart(*launch, tiny_checkpoint, photos, *options, ACCELERATE_USE_CPU="true")
    assert json.loads(output) == {"codes": str(tmp_path / "both"), "items": 21, "left_out": 1, "num_bits": 16}
    assert errors.count("05.png") == 1
    encode(photos)
    assert read(tmp_path / "both") == read(tmp_path / "codes")
    assert json.loads((tmp_path / "both" / RECORD_NAME).read_text())["num_shards"] == 6


@pytest.mark.parametrize(("again", "shards"), [(1, 0), (7, 2)])
def test_an_id_that_comes_twice_ends_the_encoding_and_not_only_its_index(again, shards, encode, photos, tmp_path):
    files = [file for file in sorted(photos.rglob("*.png")) if file.name != "05.png"][:8]
    ids = [number if number != again else 0 for number in range(8)]
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"image": str(file), "sku": sku}) for file, sku in zip(files, ids, strict=True))
    )
    with pytest.raises(ValueError, match="`id_column` must be distinct, but 0 comes twice"):
        encode(open_source(tmp_path / "rows.jsonl", id_column="sku"))
    assert len(list((tmp_path / "codes").glob("*.parquet"))) == shards
