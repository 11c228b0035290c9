import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from modeling_crh.search import HammingIndex, duplicates, duplicates_of, near_duplicates
from modeling_crh.search.results import kept_items


def brute_force(packed, radius):
    distances = np.bitwise_count(packed[:, None] ^ packed[None]).sum(-1)
    labels = connected_components(distances <= radius, directed=False)[1]
    members = [np.flatnonzero(labels == label).tolist() for label in dict.fromkeys(labels.tolist())]
    return [group for group in members if len(group) > 1]


def find(packed, radius, kind="flat"):
    return [group.tolist() for group in near_duplicates(HammingIndex(packed, kind=kind), radius)]


def planted(seed, size, num_bits, flips):
    """A sixth of the codes are random; the others are one of those with about `flips` bits flipped."""
    generator = np.random.default_rng(seed)
    centers = generator.integers(0, 256, (max(1, size // 6), num_bits // 8), dtype=np.uint8)
    noise = np.packbits(generator.random((size, num_bits)) < flips / num_bits, axis=1)
    return centers[generator.integers(0, len(centers), size)] ^ noise


def test_a_chain_worked_by_hand_is_one_group():
    packed = np.array([[0b00000000], [0b11111111], [0b00000111], [0b00000011], [0b11111110], [0b01010100]], np.uint8)
    assert find(packed, 0) == []
    assert find(packed, 1) == [[1, 4], [2, 3]]
    assert find(packed, 2) == [[0, 2, 3], [1, 4]]
    assert find(packed, 8) == [[0, 1, 2, 3, 4, 5]]


SEEDS, LENGTHS = st.integers(0, 2**32), st.sampled_from([8, 16, 24, 32, 64, 72, 128, 256])


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 300), LENGTHS, st.floats(0, 6), st.integers(0, 8), st.sampled_from(["flat", "ivf"]))
def test_groups_are_those_of_all_pairs_whatever_the_kind_of_index(seed, size, num_bits, flips, radius, kind):
    packed = planted(seed, size, num_bits, flips)
    assert find(packed, radius, kind) == brute_force(packed, radius)


@pytest.mark.parametrize("radius", [1, 2])
def test_large_buckets_are_compared_in_blocks_and_settled_in_portions(radius, monkeypatch):
    monkeypatch.setattr(duplicates, "_MOST_WAITING", 20)
    generator = np.random.default_rng(0)
    packed = planted(1, 1500, 64, 3.0)
    packed[:, :4] = generator.integers(0, 2, (1500, 1), dtype=np.uint8)  # the first chunk tells two buckets apart
    assert find(packed, radius) == brute_force(packed, radius)


def test_a_million_equal_codes_are_one_group():
    packed = np.zeros((1_000_000, 8), np.uint8)
    packed[-1] = 255
    groups = near_duplicates(HammingIndex(packed), 2)
    assert [len(group) for group in groups] == [999_999]
    assert groups[0][-1] == 999_998


@pytest.mark.parametrize("radius", [-1, 65, 1.0, None])
def test_a_radius_out_of_range_is_an_error(radius):
    with pytest.raises(ValueError, match=r"`radius` must be a whole number of bits from 0 to 64, but got"):
        near_duplicates(HammingIndex(np.zeros((2, 8), np.uint8)), radius)


@given(SEEDS, st.integers(1, 80), st.integers(1, 80), st.integers(0, 6))
def test_duplicates_of_another_index_are_those_of_all_pairs(seed, size, others, radius):
    packed = planted(seed, size + others, 16, 2.0)
    distances = np.bitwise_count(packed[:size, None] ^ packed[None, size:]).sum(-1)
    found = duplicates_of(HammingIndex(packed[:size]), HammingIndex(packed[size:], kind="ivf"), radius)
    assert found.positions.tolist() == np.flatnonzero(distances.min(1) <= radius).tolist()
    assert found.originals.tolist() == distances.argmin(1)[found.positions].tolist()  # the first of the nearest
    assert found.distances.tolist() == distances.min(1)[found.positions].tolist()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (HammingIndex(np.zeros((1, 1), np.uint8), model="org/a"), "num_bits of the index, 16, but got 8"),
        (HammingIndex(np.zeros((1, 2), np.uint8), model="org/b"), "model of the index, 'org/a', but got 'org/b'"),
    ],
)
def test_codes_of_another_model_or_length_are_no_duplicates(other, message):
    with pytest.raises(ValueError, match=f"`other` must have the {message}"):
        duplicates_of(HammingIndex(np.zeros((1, 2), np.uint8), model="org/a"), other, radius=0)


def test_the_first_or_the_largest_file_of_a_group_is_kept(tmp_path):
    for name, size in {"a": 1, "b": 3, "c": 3, "d": 2}.items():
        (tmp_path / name).write_bytes(bytes(size))
    paths = ["a", str(tmp_path / "b"), "c", "d"]
    index = HammingIndex(np.zeros((4, 1), np.uint8), paths=paths)
    groups = [np.array([0, 1, 2]), np.array([0, 3])]
    assert kept_items(index, groups, "first") == [0, 0]
    assert kept_items(index, groups, "largest", tmp_path) == [1, 3]  # of two equal sizes, the first


@pytest.mark.parametrize("path", ["gone.png", "../outside.png", None])
def test_the_size_of_a_file_that_is_not_in_the_image_root_is_not_asked_for(path, tmp_path):
    (tmp_path / "outside.png").write_bytes(b"12")
    (tmp_path / "root").mkdir()
    index = HammingIndex(np.zeros((2, 1), np.uint8), paths=path and [path, path])
    with pytest.raises(ValueError, match="`keep` must be first unless every item has a file in `image_root`, but"):
        kept_items(index, [np.array([0, 1])], "largest", tmp_path / "root")
    with pytest.raises(ValueError, match="`image_root` must be given to keep the largest file"):
        kept_items(index, [np.array([0, 1])], "largest")
