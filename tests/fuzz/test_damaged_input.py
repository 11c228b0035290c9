"""Whatever files and values are changed to, they are read, or refused in a sentence that names an argument."""

import dataclasses
import json
import re
import shutil
from io import BytesIO

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tiny_data import image_bytes

from modeling_crh import CRHConfig
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.images import read_image, read_pixels
from modeling_crh.losses import crh_loss
from modeling_crh.search import HammingIndex, index_codes
from modeling_crh.search.index_file import read_index_file, write_index_file
from modeling_crh.training.recipe import DEMO_RECIPE, Recipe

# One folder serves all examples of a test: each writes its file anew.
SHARED = [HealthCheck.function_scoped_fixture]
BUDGET = settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=SHARED)
EDITS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255), st.sampled_from("set cut insert end".split())))
UNEXPECTED = st.recursive(  # values of JSON
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.integers(min_value=10**8)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def damaged(contents):
    """Bytes of one of these files with some changes."""
    return st.builds(damage, st.sampled_from(contents), EDITS)


def damage(content, edits):
    data = bytearray(content)
    for place, byte, way in edits[:4]:
        start = place % (len(data) + 1)
        if way == "set":
            data[start : start + 1] = bytes([byte])
        elif way == "cut":
            del data[start : start + byte % 16]
        elif way == "insert":
            data[start:start] = bytes([byte]) * (byte % 16)
        else:
            del data[start:]
    return bytes(data)


def end_of(call, *arguments, **settings):
    """What a call gives; or None where it refuses with a sentence that names what is wrong."""
    try:
        return call(*arguments, **settings)
    except ValueError as error:
        if not re.search(r"`[^`]+`", str(error)):
            pytest.fail(f"a sentence must name an argument, but this is: {error}")
        return None


PIXELS = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8), "RGBA")
IMAGES = [
    image_bytes(PIXELS.convert(mode), kind, **options)
    for kind, mode, options in (
        *(("JPEG", "RGB", {}), ("JPEG", "CMYK", {"progressive": True}), ("AVIF", "RGB", {})),
        *(("PNG", "RGBA", {}), ("PNG", "P", {"transparency": 3}), ("GIF", "P", {"transparency": 3})),
        *(("WEBP", "RGBA", {"lossless": True}), ("WEBP", "RGB", {})),
    )
]


@settings(BUDGET, max_examples=300)
@given(content=damaged(IMAGES))
def test_a_damaged_image_is_read_or_refused_by_both_readers(content, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(content)
    read = end_of(read_image, path)
    decoded = end_of(read_pixels, {"bytes": content, "path": None}, "row 0")
    assert (read is None) == (decoded is None)
    if read is not None:
        np.testing.assert_array_equal(read, decoded.permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def index_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "index.crh"
    packed = np.random.default_rng(0).integers(0, 256, (40, 2), dtype=np.uint8)
    HammingIndex(packed, [f"item {row}" for row in range(40)], labels=[["a"], None] * 20).save(path)
    return path


@BUDGET
@given(data=st.data())
def test_an_index_is_taken_as_it_was_saved_or_not_at_all(data, index_file, tmp_path):
    content = index_file.read_bytes()
    changed = data.draw(damaged([content]))
    (tmp_path / "changed.crh").write_bytes(changed)
    loaded = end_of(HammingIndex.load, tmp_path / "changed.crh")
    assert (loaded is None) == (changed != content)


@BUDGET
@given(name=st.sampled_from(["kind", "model", "revision", "num_bits", "num_items", "parts"]), value=UNEXPECTED)
def test_a_header_with_an_unexpected_value_is_refused_or_says_nothing_of_the_codes(name, value, index_file, tmp_path):
    header, parts = read_index_file(index_file)
    write_index_file(tmp_path / "changed.crh", header | {name: value}, parts)  # with a right checksum
    loaded = end_of(HammingIndex.load, tmp_path / "changed.crh")
    assert loaded is None or name in ("model", "revision", "parts") or header[name] == value


def code_table():
    sink = BytesIO()
    codes = pa.array([bytes([row, row]) for row in range(20)], pa.binary(2))
    table = pa.table({"id": pa.array(range(20)), "code": codes, "label": pa.array([["a"], []] * 10)})
    pq.write_table(table.replace_schema_metadata({"model": "org/model", "num_bits": "16"}), sink)
    return sink.getvalue()


@BUDGET
@given(content=damaged([code_table()]))
def test_a_damaged_table_of_codes_is_indexed_or_refused(content, tmp_path):
    (tmp_path / "codes.parquet").write_bytes(content)
    index = end_of(index_codes, tmp_path / "codes.parquet")
    assert index is None or index.num_bits % 8 == 0


@BUDGET
@given(content=damaged([DEMO_RECIPE.read_bytes()]))
def test_a_damaged_recipe_is_read_or_refused(content, tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(content)
    end_of(Recipe.load, tmp_path / "recipe.yaml")


@BUDGET
@given(name=st.sampled_from(list(yaml.safe_load(DEMO_RECIPE.read_text()))), value=UNEXPECTED)
def test_a_recipe_with_an_unexpected_value_is_read_or_refused(name, value):
    end_of(Recipe.from_dict, yaml.safe_load(DEMO_RECIPE.read_text()) | {name: value})


@pytest.fixture(scope="module")
def changing_checkpoint(tiny_checkpoint, tmp_path_factory):
    return shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("damaged") / "checkpoint")


@settings(BUDGET, max_examples=40)
@given(name=st.sampled_from(["config.json", "preprocessor_config.json", "model.safetensors"]), share=st.floats(0, 0.99))
def test_a_checkpoint_that_is_cut_short_is_refused(name, share, changing_checkpoint, tiny_checkpoint):
    content = (tiny_checkpoint / name).read_bytes()
    (changing_checkpoint / name).write_bytes(content[: int(share * len(content))])
    loaded = end_of(load_checkpoint, changing_checkpoint)
    (changing_checkpoint / name).write_bytes(content)
    assert loaded is None


@BUDGET
@given(file=st.sampled_from(["config.json", "preprocessor_config.json"]), data=st.data())
def test_a_checkpoint_with_an_unexpected_value_is_loaded_or_refused(file, data, changing_checkpoint, tiny_checkpoint):
    values = json.loads((tiny_checkpoint / file).read_text())
    values[data.draw(st.sampled_from(sorted(values)))] = data.draw(UNEXPECTED)
    (changing_checkpoint / file).write_text(json.dumps(values))
    end_of(load_checkpoint, changing_checkpoint)
    shutil.copy(tiny_checkpoint / file, changing_checkpoint / file)


@pytest.mark.parametrize("content", [b"", b"[]", b"5", b"null", b'"x"', b"{", b"\xff\xfe"])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_checkpoint_whose_json_is_no_object_is_refused(file, content, changing_checkpoint, tiny_checkpoint):
    (changing_checkpoint / file).write_bytes(content)
    loaded = end_of(load_checkpoint, changing_checkpoint)
    shutil.copy(tiny_checkpoint / file, changing_checkpoint / file)
    assert loaded is None


FIELDS = [entry.name for entry in dataclasses.fields(CRHConfig) if entry.name in CRHConfig.__annotations__]
LABELLING = ["id2label", "label2id", "num_labels", "problem_type"]
NUMBERS = st.integers(-1000, 1000) | st.integers(10**8, 10**13) | st.integers(-9, 99).map(lambda number: 8 * number)


@settings(BUDGET, max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS + LABELLING), UNEXPECTED | NUMBERS, max_size=3))
def test_a_config_of_unexpected_values_is_made_or_refused(changes):
    fields = {"backbone_config": None, "num_features": 4, "num_labels": 3} | changes
    try:
        config = end_of(CRHConfig, **fields)
    except StrictDataclassError as error:
        assert "ield '" in str(error)  # noqa: PT017 - either error is one that a user is meant to see
        return
    assert config is None or config.num_heads * config.head_dim == config.num_bits


@settings(BUDGET, max_examples=300)
@given(
    arrays(
        st.sampled_from(["int8", "uint8", "int32", "int64", "float32", "bool"]),
        array_shapes(min_dims=0, max_dims=3, max_side=4),
        elements={"allow_nan": True},
    )
    | arrays("int64", st.just((3,)), elements=st.integers(-2, 4))
)
def test_labels_of_any_kind_have_a_finite_loss_or_are_refused(values):
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32))
    centers = torch.ones(4, 8, dtype=torch.int8)
    loss = end_of(crh_loss, logits, torch.from_numpy(values), centers, scale=2.0)
    assert loss is None or loss.isfinite()
