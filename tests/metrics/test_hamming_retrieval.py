import evaluate
import pytest
import torch

from modeling_crh.codes import pack_codes
from modeling_crh.metrics import HAMMING_RETRIEVAL, retrieval_figures


@pytest.fixture
def metric(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    return evaluate.load(HAMMING_RETRIEVAL, cache_dir=str(tmp_path))


def test_predictions_alone_rank_each_other(metric, random_case):
    _, codes, _, labels = random_case(0)
    expected = retrieval_figures(codes, codes, labels, labels, leave_one_out=True, top_k=[3], top_r=[5], radius=1)
    found = metric.compute(predictions=codes, references=labels, top_k=[3], top_r=[5], radius=1)
    assert found == expected


@pytest.mark.parametrize("multi", [False, True])
def test_queries_that_come_in_batches_rank_the_database(metric, random_case, multi):
    queries, database, query_labels, labels = case = random_case(1, multi=multi)
    for rows in (slice(0, 4), slice(4, 7)):
        metric.add_batch(predictions=queries[rows].numpy(), references=query_labels[rows].tolist())
    assert metric.compute(database_codes=database, database_labels=labels.numpy()) == retrieval_figures(*case)


def test_packed_codes_give_what_codes_give(metric, random_case):
    queries, database, query_labels, labels = case = random_case(2, bits=24)
    items = {"database_codes": pack_codes(database), "database_labels": labels}
    found = metric.compute(predictions=pack_codes(queries), references=query_labels, packed=True, **items)
    assert found == retrieval_figures(*case)


def test_codes_that_are_not_bytes_are_no_packed_codes(metric, random_case):
    _, codes, _, labels = random_case(3)
    with pytest.raises(ValueError, match=r"`packed` must be False unless codes are bytes .* but they hold -1"):
        metric.compute(predictions=codes, references=labels, packed=True)


@pytest.mark.parametrize("given_name", ["database_codes", "database_labels"])
def test_half_a_database_is_an_error(metric, given_name):
    with pytest.raises(ValueError, match=r"`database_codes` and `database_labels` must come together"):
        metric.compute(predictions=[[1, 1]], references=[0], **{given_name: torch.ones(1, 2)})


def test_whole_numbers_count_in_any_type_and_fractions_are_refused(metric, random_case):
    queries, database, query_labels, labels = case = random_case(4, multi=True)
    database = {"database_codes": database, "database_labels": labels}
    found = metric.compute(predictions=queries.double(), references=query_labels.bool(), **database)
    assert found == retrieval_figures(*case)
    assert metric.compute(predictions=list(queries), references=query_labels, **database) == found
    metric.add(prediction=queries[0].float(), reference=query_labels[0].bool())
    assert metric.compute(**database)["queries"] == 1
    with pytest.raises(ValueError, match="`predictions` must be whole numbers, but hold 1"):
        metric.compute(predictions=[[1.7, -1.0]], references=[0])
    with pytest.raises(ValueError, match="`reference` must be whole numbers, but hold 0"):
        metric.add(prediction=[1, -1], reference=0.6)
