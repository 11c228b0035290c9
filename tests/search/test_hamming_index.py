import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_crh.search import HammingIndex
from modeling_crh.search.lance_index import LanceIndex

KINDS = ["flat", "ivf"]


@pytest.fixture(params=[*KINDS, "table", "table with lists"])
def build(request, tmp_path):
    """Build an index of one kind, in memory or as a table."""

    def make(packed, **items):
        if request.param in KINDS:
            return HammingIndex(packed, **items, kind=request.param)
        uri, kind = tmp_path / "codes.lance", "ivf" if request.param == "table with lists" else "flat"
        return LanceIndex.create(uri, packed, **items, kind=kind, replace=True)

    return make


def random_codes(seed, size, num_bits=64, values=256):
    return np.random.default_rng(seed).integers(0, values, (size, num_bits // 8), dtype=np.uint8)


def brute_force(packed, queries, k):
    distances = np.bitwise_count(queries[:, None] ^ packed[None]).sum(-1, dtype=np.int32)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, 1)


def test_neighbours_worked_by_hand(build):
    packed = np.array([[0b11111111], [0b00000001], [0b00000000], [0b00000010]], np.uint8)
    index = build(packed, ids=[10, 20, 30, 40], paths=["a", "b", "c", "d"], model="org/model")
    queries = np.array([[0b00000000], [0b01111111]], np.uint8)
    ids, distances = index.search(queries, k=3)
    assert ids.tolist() == [[30, 20, 40], [10, 20, 40]]
    assert distances.tolist() == [[0, 1, 1], [1, 6, 6]]
    assert (ids.dtype, distances.dtype) == (np.int64, np.int32)
    hits = index.find(queries, k=3)
    assert hits.distances.tolist() == distances.tolist()
    expected = [{"id": 10, "label": None, "path": "a"}, {"id": 20, "label": None, "path": "b"}]
    assert index.records(hits.positions[1][:2]) == expected
    assert (len(index), index.num_bits, index.model) == (4, 8, "org/model")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 400),
    st.integers(1, 5),
    st.integers(1, 40),
    st.sampled_from([8, 16, 24, 32, 64, 128]),
)
def test_flat_finds_what_a_scan_finds_and_breaks_ties_by_position(seed, size, values, k, num_bits):
    packed, queries = random_codes(seed, size, num_bits, values), random_codes(seed + 1, 5, num_bits)
    found = HammingIndex(packed, kind="flat").search(queries, k)
    np.testing.assert_array_equal(found, brute_force(packed, queries, k))


def test_flat_breaks_ties_by_position_over_many_blocks_too():
    packed = random_codes(0, 20, 16)[np.random.default_rng(1).integers(0, 20, 150_000)]
    queries = random_codes(2, 40, 16)
    found = HammingIndex(packed, kind="flat").search(queries, 300)
    np.testing.assert_array_equal(found, brute_force(packed, queries, 300))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 120), values=st.integers(1, 256), radius=st.integers(0, 16))
def test_a_radius_is_exact_whatever_the_kind(kind, seed, size, values, radius):
    packed, queries = random_codes(seed, size, 16, values), random_codes(seed + 1, 4, 16)
    ids, distances = HammingIndex(packed, kind=kind).search_radius(queries, radius)
    order, expected = brute_force(packed, queries, size)
    for row in range(4):
        within = expected[row] <= radius
        np.testing.assert_array_equal(ids[row], order[row][within])
        np.testing.assert_array_equal(distances[row], expected[row][within])


@pytest.mark.parametrize("size", [1, 2, 5, 60, 3000])
def test_no_padding_leaks_out_and_fewer_items_than_k_are_all_found(build, size):
    packed, queries = random_codes(0, size), random_codes(1, 20)
    ids, distances = build(packed).search(queries, 50)
    assert ids.shape == distances.shape == (20, min(50, size))
    assert all(len(set(row)) == len(row) for row in ids.tolist())
    differing = np.bitwise_count(packed[ids] ^ queries[:, None]).sum(-1)
    np.testing.assert_array_equal(distances, differing)
    assert (np.diff(distances, axis=1) >= 0).all()
    tied = np.diff(distances, axis=1) == 0
    assert (np.diff(ids, axis=1)[tied] > 0).all()
    if size <= 50:
        np.testing.assert_array_equal(ids, brute_force(packed, queries, size)[0])


def test_ivf_finds_nearly_all_neighbours_of_clustered_codes_and_always_the_same():
    generator = np.random.default_rng(0)
    centers = random_codes(1, 100)
    flips = np.packbits(generator.random((6_100, 64)) < 0.1, axis=1)
    codes = centers[generator.integers(0, 100, 6_100)] ^ flips
    packed, queries = codes[100:], codes[:100]
    index = HammingIndex(packed, kind="ivf")
    ids, distances = index.search(queries)
    worst = brute_force(packed, queries, 10)[1][:, -1:]
    assert (distances <= worst).mean() > 0.9
    np.testing.assert_array_equal(index.search(queries)[0], ids)


@pytest.mark.parametrize("ids", [None, [f"item {row}" for row in range(10)]])
def test_no_queries_find_nothing_and_strings_are_ids_too(build, ids):
    packed = random_codes(0, 10)
    index = build(packed, ids=ids)
    found, distances = index.search(packed[:0], 3)
    assert found.shape == distances.shape == (0, 3)
    assert index.search_radius(packed[:0], 3) == ([], [])
    assert index.search(packed, 1)[0][:, 0].tolist() == (ids or list(range(10)))
    assert index.search_radius(packed[:1], 0)[0][0].tolist() == ["item 0" if ids else 0]


def test_added_codes_are_found(build):
    packed = random_codes(0, 200)
    index = build(packed[:120], ids=np.arange(120) + 1000, labels=["old"] * 120)
    index.add(packed[120:], np.arange(120, 200) + 1000, labels=["new"] * 80)
    index.add(packed[:0], np.arange(0), labels=pa.array([], pa.string()))
    assert len(index) == 200
    assert index.search_radius(packed[-1:], 0)[0][0].tolist() == [1199]
    positions = index.find_within(packed[-1:], 0)[0].positions
    assert [record["label"] for record in index.records(positions)] == ["new"]


def test_an_id_that_the_index_has_is_not_added(build):
    packed = random_codes(0, 20)
    index = build(packed[:10], ids=[f"{row}" for row in range(10)])
    with pytest.raises(ValueError, match=r"`ids` must be (distinct, but '7' comes twice|new, but .* '7' already)"):
        index.add(packed[10:12], ["10", "7"])
    assert len(index) == 10


def test_reranking_follows_the_dot_product_with_the_codes_and_tensors_are_taken_too(build):
    logits = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    queries, packed = np.packbits(logits >= 0, axis=1), random_codes(1, 300)
    codes = np.unpackbits(packed, axis=1) * 2.0 - 1
    index = build(torch.from_numpy(packed))
    found = ids, distances = index.search(queries, 5, rerank_logits=logits, num_candidates=300)
    np.testing.assert_array_equal(ids, np.argsort(-logits @ codes.T, axis=1)[:, :5])
    np.testing.assert_array_equal(distances, np.bitwise_count(packed[ids] ^ queries[:, None]).sum(-1))
    tensors = torch.from_numpy(queries), 5
    same = index.search(*tensors, rerank_logits=torch.from_numpy(logits), num_candidates=300)
    np.testing.assert_array_equal(same, found)
    assert index.search(queries[:0], 5, rerank_logits=logits[:0])[0].shape == (0, 5)
    even = index.search(queries, 7, rerank_logits=np.sign(logits), num_candidates=7)
    np.testing.assert_array_equal(even[0], index.search(queries, 7)[0])


def test_reranking_finds_the_best_item_behind_hundreds_that_are_nearer(build):
    logits = np.array([[10.0] + [0.1] * 15], np.float32)  # sure of the first bit alone
    nearer, best = [[0b01111111, 0b11111111]], [[0b11111111, 0b11111000]]  # at 1 bit and at 3
    index, query = build(np.array(nearer * 600 + best, np.uint8)), np.full((1, 2), 255, np.uint8)
    assert index.search(query, 1, rerank_logits=logits)[0].tolist() == [[600]]
    assert index.search(query, 1, rerank_logits=logits, num_candidates=100)[1].tolist() == [[1]]


GOOD = random_codes(0, 4, 16)
SIGNS = np.unpackbits(GOOD, axis=1) * 2.0 - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"packed": [[1, 2]]}, r"`packed` must be \(N, K / 8\) uint8, but got list"),
        ({"packed": GOOD.astype(int)}, "`packed` must be .* but got int64 of shape"),
        ({"packed": GOOD[0]}, "`packed` must be .* uint8, but got uint8 of shape"),
        ({"packed": GOOD[:0]}, "`packed` must hold at least one code"),
        ({"packed": GOOD, "kind": "tree"}, "`kind` must be auto, flat or ivf, but got 'tree'"),
        ({"packed": GOOD, "model": None}, "`model` must be a string, but got None"),
        ({"packed": GOOD, "ids": [1, 2]}, "`ids` must have one entry a code, but got 2 for 4 codes"),
        ({"packed": GOOD, "ids": [1.5] * 4}, "`ids` must be whole numbers or strings, but got double"),
        ({"packed": GOOD, "ids": [1, "a", 2, 3]}, "`ids` must be whole numbers or strings, all of one type"),
        ({"packed": GOOD, "ids": [1, None, 2, 3]}, "`ids` must hold no None, but holds 1"),
        ({"packed": GOOD, "ids": [1, 7, 2, 7]}, "`ids` must be distinct, but 7 comes twice"),
        ({"packed": GOOD, "ids": ["a", "b", "c", "a"]}, "`ids` must be distinct, but 'a' comes twice"),
        ({"packed": GOOD, "paths": [1, 2, 3, 4]}, "`paths` must be strings, but got int64"),
        ({"packed": GOOD, "labels": [{}] * 4}, "`labels` must be names, numbers or lists of names"),
        ({"packed": GOOD, "ids": np.array([2**63] * 4, np.uint64)}, "`ids` must fit into 64 bits with a sign"),
    ],
)
def test_bad_items_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        HammingIndex(**arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search(GOOD[:, :1]), "`packed_queries` must hold codes of 16 bits, .* but got 8"),
        (lambda index: index.search(GOOD, 0), "`k` must be a whole number, 1 or larger, but got 0"),
        (lambda index: index.search(GOOD, 2.0), "`k` must be a whole number"),
        (lambda index: index.search(GOOD, True), "`k` must be a whole number"),
        (lambda index: index.search_radius(GOOD, -1), "`radius` must be .* from 0 to 16, but got -1"),
        (lambda index: index.search_radius(GOOD, 17), "`radius` must be .* from 0 to 16, but got 17"),
        (lambda index: index.search(GOOD, num_candidates=20), "`num_candidates` must be given with `rerank_logits`"),
        (lambda index: index.search(GOOD, rerank_logits=np.ones((4, 16))), "`rerank_logits` must have the signs"),
        (lambda index: index.search(GOOD, rerank_logits=np.ones((4, 8))), "`rerank_logits` must be .4, 16. floating"),
        (lambda index: index.search(GOOD, rerank_logits=np.full((4, 16), np.nan)), "`rerank_logits` must be finite"),
        (lambda index: index.search(GOOD, 3, rerank_logits=SIGNS, num_candidates=2), "`num_candidates` must be at "),
        (lambda index: index.records([2**40]), "`positions` must be .* but got 1099511627776"),
        (lambda index: index.add(GOOD[:, :1], [9] * 4), "`packed` must hold codes of 16 bits, .* but got 8"),
        (lambda index: index.add(GOOD, ["a", "b", "c", "d"]), "{'id': 'int64'}, but have {'id': 'large_string'}"),
        (lambda index: index.add(GOOD, range(4), paths=["a"] * 4), "{'id': 'int64'}, but have {'id': 'int64', 'path'"),
    ],
)
def test_bad_calls_are_errors_and_leave_the_index_as_it_was(build, call, message):
    index = build(GOOD, ids=[5, 6, 7, 8])
    with pytest.raises(ValueError, match=message):
        call(index)
    assert len(index) == 4
