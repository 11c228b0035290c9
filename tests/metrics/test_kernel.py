import pytest
import torch

from modeling_crh.metrics import counting
from modeling_crh.metrics.counting import prepare_retrieval

kernel = pytest.importorskip("modeling_crh.metrics.kernel", reason="Numba is not installed")


@pytest.mark.parametrize(
    ("bits", "multi", "leave_one_out"), [(7, False, True), (7, True, False), (70, False, False), (70, True, False)]
)
def test_numba_gives_the_figures_of_the_sort_with_no_seam_between_chunks(
    random_case, monkeypatch, bits, multi, leave_one_out
):
    size = 2 * kernel.CHUNK + 5
    _, codes, _, labels = random_case(0, items=size, bits=bits, labels=9, multi=multi, unlabelled=0.1)
    some = torch.arange(size)[:: 1 if leave_one_out else 50]
    task = prepare_retrieval(codes[some], codes, labels[some], labels, leave_one_out=leave_one_out)
    counts, scores = task.rank([task.num_items, 50])
    monkeypatch.setattr(counting, "find_spec", lambda name: None)  # as where Numba is not installed
    sorted_counts, sorted_scores = task.rank([task.num_items, 50])
    assert torch.equal(counts.items, sorted_counts.items)
    assert torch.equal(counts.relevant, sorted_counts.relevant)
    torch.testing.assert_close(scores, sorted_scores, rtol=0, atol=1e-12)


def test_numba_ranks_where_it_is_installed(random_case, monkeypatch):
    monkeypatch.setattr(kernel, "rank_queries", None)
    with pytest.raises(TypeError, match="NoneType"):
        counting.count_by_distance(*random_case(0))
    monkeypatch.setattr(counting, "find_spec", lambda name: None)
    assert counting.count_by_distance(*random_case(0)).num_items == 40


def test_figures_come_without_a_folder_for_the_cache(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])  # as where no folder may be written
    assert kernel.compiled()(lambda number: number + 1)(2) == 3
