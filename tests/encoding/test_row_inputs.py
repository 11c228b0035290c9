import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, ViTImageProcessor

from modeling_crh.data import SourceRow
from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.encoding.inputs import input_batches

PROCESSOR = ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True)


def image_rows(*contents):
    return [
        SourceRow(number, f"row {number}", "a", {"bytes": content, "path": None})
        for number, content in enumerate(contents)
    ]


def pngs(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), dtype=np.uint8)
    return [encode_png(image) for image in pixels], pixels


def prepare(shards, processor, **settings):
    settings = {"batch_size": 2} | settings
    return list(input_batches(iter([(shard, iter(rows)) for shard, rows in shards]), processor, **settings))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_what_the_processor_makes_and_never_of_two_shards(num_workers):
    contents, pixels = pngs(8)
    rows = image_rows(*contents)
    batches = prepare([(4, rows[:5]), (7, rows[5:])], PROCESSOR, num_workers=num_workers)
    assert [(batch.shard, [row.id for row in batch.rows]) for batch in batches] == [
        (4, [0, 1]),
        (4, [2, 3]),
        (4, [4]),
        (7, [5, 6]),
        (7, [7]),
    ]
    assert batches[0].rows[1] == SourceRow(1, "row 1", "a", None)
    expected = PROCESSOR(list(torch.from_numpy(pixels).permute(0, 3, 1, 2)), return_tensors="pt")["pixel_values"]
    assert torch.equal(torch.cat([batch.inputs["pixel_values"] for batch in batches]), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_images_are_left_out_or_a_fault(num_workers):
    contents, _ = pngs(3)
    rows = image_rows(contents[0], b"nothing", contents[1][:60], b"nothing", contents[2])
    batches = prepare([(0, rows)], PROCESSOR, num_workers=num_workers, skip_bad_images=True)
    assert [[row.id for row in batch.rows] for batch in batches] == [[0], [], [4]]
    assert [[number for number, _ in batch.left_out] for batch in batches] == [[1], [2, 3], []]
    assert batches[1].inputs == {}
    assert batches[0].left_out[0][1].reason == "no known image format"
    fault = prepare([(0, rows)], PROCESSOR, num_workers=num_workers)[0].fault
    assert fault.startswith("`image` must be a complete image, but row 1 is not: no known image format; `skip_bad_")


def test_a_missing_image_is_a_bad_one():
    (batch,) = prepare([(0, [SourceRow(0, "row 0", None, None)])], PROCESSOR, skip_bad_images=True)
    assert [(bad.path, bad.reason) for _, bad in batch.left_out] == [("row 0", "it is missing")]


def test_texts_are_padded_to_the_longest_of_a_batch(text_checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(text_checkpoint)
    rows = [SourceRow(n, f"row {n}", None, text) for n, text in enumerate(["the cat", "a dog sat", "cat", None])]
    batches = prepare([(0, rows)], tokenizer)
    assert batches[0].inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batches[1].fault == "`text` must be a string, but row 3 has None."


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1, 2], np.array([3.0, 4.0])], [[1, 2], [3, 4]]),
        ([[[1, 2], [5, 6]], [[3, 4], [7, 8]]], [[1, 2], [3, 4]]),
        ([np.array([np.array([1.0, 2.0]), np.array([5.0, 6.0])], dtype=object)], [[1, 2]]),
    ],
)
def test_features_are_the_first_view_of_every_row(values, expected):
    (batch,) = prepare([(0, [SourceRow(n, f"row {n}", None, value) for n, value in enumerate(values)])], None)
    assert batch.inputs["features"].dtype == torch.float32
    assert batch.inputs["features"].tolist() == expected


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([[1.0], [float("nan")]], "`features` must be finite, but row 1 is not."),
        ([[1.0], [1.0, 2.0]], "`features` must hold numbers of one shape in every row, but row 0 has (1,) and row 1"),
        ([["x"]], "`features` must hold numbers, but row 0 does not"),
        ([None], "`features` must"),
        ([[]], "`features` must hold (F,) or (V, F) numbers a row, but row 0 has (0,)."),
    ],
)
def test_features_that_are_no_good_are_a_fault(values, fault):
    (batch,) = prepare([(0, [SourceRow(n, f"row {n}", None, value) for n, value in enumerate(values)])], None)
    assert batch.fault.startswith(fault)
