"""Several writers and readers of one table at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from modeling_crh.search.lance_index import LanceIndex

PART = 50
CODES = np.zeros((PART, 2), np.uint8)


@pytest.fixture
def uri(tmp_path):
    LanceIndex.create(tmp_path / "a.lance", CODES, labels=["0"] * PART)
    return tmp_path / "a.lance"


def test_a_reader_sees_whole_versions_only(uri):
    ready = Barrier(2)

    def write():
        index = LanceIndex(uri)
        ready.wait()
        for part in range(1, 9):
            index.add(CODES, range(part * PART, (part + 1) * PART), labels=[str(part)] * PART)
        index.delete({"label": "0"})

    def read():
        index = LanceIndex(uri)
        ready.wait()
        seen = [index.version]
        while seen[-1] < 10:
            index.refresh()
            seen.append(index.version)
            expected = np.arange(index.version * PART) if index.version < 10 else np.arange(PART, 9 * PART)
            np.testing.assert_array_equal(index.search_radius(CODES[:1], 0)[0][0], expected)
            assert len(index) == len(expected)
        return seen

    with ThreadPoolExecutor(2) as pool:
        written, seen = pool.submit(write), pool.submit(read)
        written.result()
        assert seen.result() == sorted(seen.result())


def test_what_is_open_stays_until_it_is_refreshed(uri):
    reader, writer = LanceIndex(uri), LanceIndex(uri)
    chosen = reader.where({"label": "0"})
    positions = reader.find(CODES[:1], PART).positions
    writer.delete("id < 10")
    writer.optimize()
    for index in (reader, chosen):
        assert (len(index), index.search(CODES[:1], 100)[0].shape) == (PART, (1, PART))
        assert [record["id"] for record in index.records(positions[0])] == list(range(PART))
    reader.refresh()
    assert (len(reader), reader.search(CODES[:1], 100)[0].shape) == (PART - 10, (1, PART - 10))


@pytest.mark.parametrize("replace", [False, True])
def test_two_writers_never_add_one_id_twice(uri, replace):
    ready = Barrier(4)

    def write(label):
        index, refused = LanceIndex(uri), 0
        ready.wait()
        for start in range(1000, 1020, 5):
            try:
                index.add(CODES[:5], range(start, start + 5), labels=[label] * 5, replace=replace)
            except ValueError as error:
                assert "`ids` must be new, but" in str(error)  # noqa: PT017
                refused += 1
        return refused

    with ThreadPoolExecutor(4) as pool:
        refused = sum(pool.map(write, "abcd"))
    ids = LanceIndex(uri).where("id >= 1000").search_radius(CODES[:1], 0)[0][0]
    assert ids.tolist() == list(range(1000, 1020))
    assert refused == (0 if replace else 12)


def test_a_race_for_an_id_is_told(uri, monkeypatch):
    index, other = LanceIndex(uri), LanceIndex(uri)
    monkeypatch.setattr(index, "_check_new", lambda ids: other.add(CODES[:1], [100], labels=["other"]))
    with pytest.raises(ValueError, match="another writer has just added 1 of them, whose items stay as they are"):
        index.add(CODES[:2], [100, 101], labels=["mine"] * 2)
    index.refresh()
    assert [len(index.where({"id": number})) for number in (100, 101)] == [1, 1]
    assert len(index.where({"id": 100, "label": "other"})) == 1
