import pytest
import torch

from modeling_crh.metrics import average_precision, count_by_distance, figures_by_class, worst_classes


@pytest.mark.parametrize("multi", [False, True])
def test_figures_of_a_class_are_those_of_its_queries_alone(random_case, multi):
    case = random_case(3, queries=20, labels=4, multi=multi, unlabelled=0.3)
    queries, database, query_labels, labels = case
    found = figures_by_class(average_precision(count_by_distance(*case)), query_labels, labels, list("abcde")[:4])
    for number, one in enumerate(found):
        mine = query_labels[:, number] == 1 if multi else query_labels == number
        alone = count_by_distance(queries[mine], database, query_labels[mine], labels)
        assert one.map == pytest.approx(average_precision(alone).mean().item(), abs=1e-12)
        assert one.queries == mine.sum()
        assert one.database == (labels[:, number] if multi else labels == number).sum()


def test_a_class_without_a_query_has_no_figure_and_is_not_among_the_worst():
    labels = torch.tensor([0, 2])
    found = figures_by_class(torch.tensor([0.5, 0.25]), labels, torch.tensor([0, 1, 1]), ["ash", "cat", "dog"])
    assert found[1] == ("cat", None, 0, 2)
    assert [one.name for one in worst_classes(found)] == ["dog", "ash"]
