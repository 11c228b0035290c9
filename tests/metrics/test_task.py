import subprocess
import sys

import pytest
import torch

from modeling_crh.codes import hamming_distance
from modeling_crh.metrics import counting as task
from modeling_crh.metrics.counting import check_top, prepare_retrieval
from modeling_crh.metrics.kernel import CHUNK, QUERIES


@pytest.mark.parametrize("at_once", [1, 100, 2**20])
def test_the_queries_keep_their_order_however_many_are_ranked_at_a_time(random_case, monkeypatch, at_once):
    query_codes, database_codes, query_labels, database_labels = random_case(0, queries=9)
    monkeypatch.setattr(task, "PAIRS_AT_ONCE", at_once)
    retrieval = prepare_retrieval(query_codes, database_codes, query_labels, database_labels, leave_one_out=False)
    distance = hamming_distance(query_codes, database_codes)
    assert retrieval.rank()[0].items.tolist() == [row.bincount(minlength=6).tolist() for row in distance.int()]


def test_chunks_of_the_database_and_groups_of_queries_leave_no_seam(random_case):
    size = 2 * CHUNK + 5
    _, codes, _, labels = random_case(0, items=size, bits=7)
    counts, scores = prepare_retrieval(codes, codes, labels, labels, leave_one_out=True).rank([size - 1, 50])
    for query in (0, QUERIES, CHUNK - 1, CHUNK, size - 1):
        others = torch.arange(size) != query
        distance = (codes[query] != codes[others]).sum(dim=1)
        relevant = labels[query] == labels[others]
        assert counts.items[query].tolist() == distance.bincount(minlength=8).tolist()
        assert counts.relevant[query].tolist() == distance[relevant].bincount(minlength=8).tolist()
        places = relevant[distance.argsort(stable=True)].nonzero().squeeze(1) + 1
        precision = torch.arange(1, len(places) + 1) / places
        assert scores[query].tolist() == pytest.approx([precision.mean().item(), precision[places <= 50].mean().item()])


def test_the_input_may_differ_in_type_and_is_left_as_it_was(random_case):
    case = random_case(0)
    before = [part.clone() for part in case]
    counts, _ = prepare_retrieval(case[0].float(), case[1], case[2].int(), case[3], leave_one_out=False).rank()
    assert counts.items.sum(dim=1).tolist() == [40] * 7
    assert all(torch.equal(part, old) for part, old in zip(case, before, strict=True))


@pytest.mark.parametrize(
    ("queries", "items", "message"),
    [
        ((0, 8), (3, 8), r"`query_codes` must be \(N, K\) with at least one row and one bit, but got shape \(0, 8\)"),
        ((3, 8), (0, 8), r"`database_codes` must be \(N, K\) with at least one row and one bit, but got .*\(0, 8\)"),
        ((1, 64), (1, 32), r"same number of bits K, but got K=64 and K=32"),
    ],
)
def test_sides_that_are_empty_or_differ_in_bits_are_an_error(queries, items, message):
    codes, labels = (torch.ones(queries), torch.ones(items)), (torch.zeros(queries[0]), torch.zeros(items[0]))
    with pytest.raises(ValueError, match=message):
        prepare_retrieval(*codes, *labels, leave_one_out=False)


def test_leaving_out_needs_one_set_in_one_order(random_case):
    _, codes, _, labels = random_case(0)
    with pytest.raises(ValueError, match=r"`leave_one_out` must be False unless query and database are the same set"):
        prepare_retrieval(codes, codes.flip(0), labels, labels.flip(0), leave_one_out=True)
    with pytest.raises(ValueError, match=r"their codes or labels differ \(Q=7, N=40\)"):
        prepare_retrieval(codes[:7], codes, labels[:7], labels, leave_one_out=True)


def test_leaving_out_the_only_item_is_an_error():
    codes, labels = torch.ones(1, 4), torch.zeros(1)
    with pytest.raises(ValueError, match=r"unless the database has at least 2 items, but it has 1"):
        prepare_retrieval(codes, codes, labels, labels, leave_one_out=True)


@pytest.mark.parametrize("top", [0, -1, 41, 1.5, True, "1", None])
def test_places_outside_the_ranking_are_an_error(top):
    with pytest.raises(ValueError, match=rf"`top_k` must be a whole number from 1 to N=40, but got {top!r}"):
        check_top("top_k", top, 40)


COUNT = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []  # as where neither the package's folder nor the user's may be written
import torch
from modeling_crh.metrics import count_by_distance
codes = torch.ones(2, 4)
print(count_by_distance(codes, codes, torch.zeros(2), torch.zeros(2)).items.tolist())
"""


def test_figures_come_without_a_folder_for_the_cache():
    run = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True)
    assert run.stdout.strip() == "[[2, 0, 0, 0, 0], [2, 0, 0, 0, 0]]", run.stderr
