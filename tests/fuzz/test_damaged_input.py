import json
import shutil
from io import BytesIO

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fuzz.damage import BUDGET, UNEXPECTED, damaged, end_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.images import read_image, read_pixels
from modeling_crh.search import HammingIndex, index_codes
from modeling_crh.search.index_file import read_index_file, write_index_file
from modeling_crh.training.recipe import DEMO_RECIPE, Recipe

# One folder serves all examples of a test: each writes its file anew.
BUDGET = settings(BUDGET, suppress_health_check=[HealthCheck.function_scoped_fixture])


def image_file(kind, mode, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    file = BytesIO()
    PIL.Image.fromarray(pixels, "RGBA").convert(mode).save(file, kind, **options)
    return file.getvalue()


IMAGES = [
    image_file("JPEG", "RGB"),
    image_file("JPEG", "CMYK", progressive=True),
    image_file("PNG", "RGBA"),
    image_file("PNG", "P", transparency=3),
    image_file("WEBP", "RGBA", lossless=True),
    image_file("WEBP", "RGB"),
    image_file("AVIF", "RGB"),
    image_file("GIF", "P", transparency=3),
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


@settings(BUDGET, max_examples=60)
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
