import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from modeling_crh.search import HammingIndex, index_file
from modeling_crh.search.index_file import items_to_bytes

KINDS = ["flat", "ivf"]
LABELS = [["a", "b"], [], ["c"], None]


def make_index(kind="flat", size=80, **options):
    packed = np.random.default_rng(0).integers(0, 256, (size, 8), dtype=np.uint8)
    return HammingIndex(packed, kind=kind, model="org/model", revision="main", **options)


@pytest.fixture
def change(tmp_path):
    """Save an index, change its header or its parts under a right checksum, and give the path of the new file."""

    def write(index, headers, changed):
        index.save(tmp_path / "index")
        header, parts = index_file.read_index_file(tmp_path / "index")
        parts |= changed(parts)
        kept = {name: content for name, content in parts.items() if content is not None}
        index_file.write_index_file(tmp_path / "changed", header | headers, kept)
        return tmp_path / "changed"

    return write


NAMED = {"ids": [f"näme {row}" for row in range(80)], "labels": LABELS * 20, "paths": [f"{n}.png" for n in range(80)]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"ids": np.arange(80) * 3 - 7}, NAMED], ids=["no ids", "numbers", "names"])
def test_a_saved_index_comes_back_as_it_was(kind, options, tmp_path):
    index = make_index(kind, **options)
    index.save(tmp_path / "index")
    loaded = HammingIndex.load(tmp_path / "index")
    assert repr(loaded) == repr(index)
    assert (loaded.model, loaded.revision) == ("org/model", "main")
    np.testing.assert_array_equal(loaded.packed, index.packed)
    assert loaded.records(np.arange(80)) == index.records(np.arange(80))
    queries = np.random.default_rng(1).integers(0, 256, (9, 8), dtype=np.uint8)
    np.testing.assert_array_equal(index.search(queries, 7)[0], loaded.search(queries, 7)[0])
    for mine, other in zip(index.search_radius(queries, 25)[0], loaded.search_radius(queries, 25)[0], strict=True):
        np.testing.assert_array_equal(mine, other)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "index").read_bytes()


def test_a_flat_file_is_eight_bytes_a_code_and_a_loaded_index_grows(tmp_path):
    index = make_index(size=10_000)
    index.save(tmp_path / "index")
    assert (tmp_path / "index").stat().st_size < 1.02 * 8 * 10_000
    loaded = HammingIndex.load(tmp_path / "index")
    loaded.add(index.packed[:3] ^ 255)
    assert loaded.search(index.packed[2:3] ^ 255, 1)[0].tolist() == [[10_002]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_byte_is_found(kind, tmp_path):
    file = tmp_path / "index"
    make_index(kind, ids=[f"{row}" for row in range(80)]).save(file)
    content = file.read_bytes()
    places = [*range(350), *np.random.default_rng(0).integers(350, len(content), 150).tolist(), len(content) - 1]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^`path` must be an? [^\n]*\.$|^`path` must be the file [^\n]*\.$"):
            HammingIndex.load(file)


def test_a_file_cut_short_or_longer_is_refused(tmp_path):
    file = tmp_path / "index"
    make_index().save(file)
    content = file.read_bytes()
    for length in [*range(0, 400), *range(400, len(content), 13), len(content) - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match="`path` must be"):
            HammingIndex.load(file)
    file.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=r"the checksum of .* is wrong"):
        HammingIndex.load(file)


@pytest.mark.parametrize("content", [b"", b"PAR1 and so on", b"CRHINDE", b"\x89PNG\r\n" * 100])
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ValueError, match=r"must be the file of an index, but '.*other' is another file\.$"):
        HammingIndex.load(tmp_path / "other")


def test_no_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, end in (("nowhere", r"'nowhere'\.$"), (".", r"'\.'; of a folder of codes `crh index` makes one\.$")):
        with pytest.raises(FileNotFoundError, match=f"`path` must be the file of an index, but there is no file {end}"):
            HammingIndex.load(path)
    with pytest.raises(ValueError, match="`path` must be a path, and not empty"):
        HammingIndex.load("")


def test_another_version_is_named_beside_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(index_file, "FORMAT_VERSION", 7)
    make_index().save(tmp_path / "index")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"an index of version 1, but '.*' has version 7"):
        HammingIndex.load(tmp_path / "index")


@pytest.mark.parametrize(
    ("kind", "headers", "part"),
    [
        *(("flat", {"num_bits": number}, {}) for number in (56, -64, 60, 10**30)),
        *(("flat", header, {}) for header in ({"num_items": 81}, {"kind": "ivf"}, {"kind": "tree"}, {"model": 3})),
        ("flat", {"num_bits": 10**8}, {"codes": slice(0, 0)}),
        *(("flat", {}, part) for part in ({"codes": None}, {"items": None}, {"items": slice(-20)})),
        *(("ivf", header, {}) for header in ({"num_bits": None}, {"kind": "hnsw"}, {"num_bits": 32})),
        ("ivf", {}, {"codes": slice(-8)}),
        *(("ivf", {}, {"centers": kept}) for kept in (None, slice(0, 0), slice(-8), slice(-3))),
        *(("ivf", {}, {"lists": kept}) for kept in (None, slice(-4), slice(-1))),
    ],
)
def test_parts_that_do_not_belong_together_are_refused_even_with_a_right_checksum(kind, headers, part, change):
    def cut(parts):
        return {name: None if kept is None else parts[name][kept] for name, kept in part.items()}

    with pytest.raises(ValueError, match="`path` must be an index, but"):
        HammingIndex.load(change(make_index(kind), headers, cut))


@pytest.mark.parametrize(
    "columns",
    [
        {"id": pa.array(["a", "b", "c"]).dictionary_encode()},
        {"id": pa.array([2**63, 1, 2], pa.uint64())},
        {"id": pa.array([1.0, 2.0, 3.0])},
        {"id": pa.array([[1], [2], [3]])},
        {"id": pa.nulls(3)},
        {"id": pa.array([1, None, 3])},
        {"id": pa.array(["a", "b", "c"], pa.string_view())},
        {"label": pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array(["a"]))},
        {"label": pa.array([{"a": 1}] * 3)},
        {"path": pa.array([b"\xff"] * 3)},
        {"path": pa.array([1, 2, 3])},
        {"label": pa.array([1, 2, 3]), "id": pa.array([1, 2, 3])},
        {"name": pa.array([1, 2, 3])},
        [("id", pa.array([1, 2, 3])), ("id", pa.array([1, 2, 3]))],
    ],
)
def test_items_of_other_types_than_a_saved_index_has_are_refused_even_with_a_right_checksum(columns, change):
    names, arrays = zip(*(columns if isinstance(columns, list) else columns.items()), strict=True)
    items = items_to_bytes(pa.table(list(arrays), names=list(names)))
    with pytest.raises(ValueError, match=r"`path` must be an index, but .* its table of items "):
        HammingIndex.load(change(make_index(size=3), {}, lambda parts: {"items": items}))


@pytest.mark.parametrize("number", [-1, 2, 2**31 - 1, -(2**31)])
def test_a_code_in_a_list_that_is_not_there_is_refused_even_with_a_right_checksum(number, change):
    def put(parts):
        numbers = parts["lists"].copy().view("<i4")
        numbers[5] = number
        return {"lists": numbers.view(np.uint8)}

    with pytest.raises(ValueError, match=rf"its lists have the numbers .*{number}.* of 2 lists"):
        HammingIndex.load(change(make_index("ivf"), {}, put))


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(failing, tmp_path, monkeypatch):
    file = tmp_path / "index"
    make_index().save(file)
    before = file.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space left"):
        make_index(size=9).save(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_what_takes_long_to_import_is_imported_where_it_is_used():
    check = (
        "import sys; from transformers import GenerationMixin, PreTrainedModel; its_own = {*sys.modules}; "
        "import modeling_crh; "  # transformers 5.5 imports scikit-learn, and that pandas, where they are installed
        "found = {'faiss', 'lancedb', 'gradio', 'matplotlib', 'pandas', 'datasets'} & {*sys.modules} - its_own; "
        "import modeling_crh.cli, modeling_crh.metrics; "
        "found |= {'evaluate', 'faiss', 'gradio', 'lancedb', 'numba'} & {*sys.modules}; "
        "import modeling_crh.search; print([*found, *({'gradio', 'lancedb'} & {*sys.modules})])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
