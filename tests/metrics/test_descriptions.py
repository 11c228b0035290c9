import pytest
import torch

from modeling_crh.metrics import retrieval_figures
from modeling_crh.metrics.figures import explain_figure, format_figure


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("map", "mAP"),
        ("precision_at_10", "Precision@10"),
        ("precision_within_radius_2", "Precision within radius 2"),
        ("map_convention_at_1000", "mAP@1000 by convention"),
        ("my_own_figure", "my own figure"),
    ],
)
def test_a_figure_has_words(name, words):
    assert explain_figure(name)[0] == words


def test_every_retrieval_figure_has_a_meaning():
    codes, labels = torch.tensor([[1, 1], [1, -1], [-1, -1]]), torch.tensor([0, 1, 0])
    figures = retrieval_figures(codes, codes, labels, labels, top_k=[2], top_r=[2], radius=1)
    assert [name for name in figures if not explain_figure(name)[1]] == []


def test_counts_are_whole_and_shares_have_four_decimals():
    assert [format_figure(value) for value in (60000, 0.123456, 1.0)] == ["60,000", "0.1235", "1.0000"]
