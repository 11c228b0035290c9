import pytest

from modeling_crh.report.canvas import LIGHT
from modeling_crh.report.plots import draw_training, read_series


def test_a_series_is_made_of_the_entries_that_have_both_keys():
    history = [{"loss": 3, "epoch": 0.5}, {"eval_map": 0.1, "epoch": 1.0}, {"loss": 9.0}, {"loss": 2.5, "epoch": 1.5}]
    assert read_series(history, "loss") == ([0.5, 1.5], [3.0, 2.5])
    assert read_series(history, "eval_map_lower") == ([], [])


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"train_runtime": 3.0}],
        [{"loss": 1.0, "epoch": 0.1}],
        [{"eval_map": 0.5, "eval_map_lower": 0.4, "epoch": 1.0}],
        [{"eval_loss": float("nan"), "epoch": 1.0}, {"loss": 0.0, "epoch": 1.0}],
        [{"loss": 1.0, "epoch": float(epoch)} for epoch in range(1, 301)],
    ],
)
@pytest.mark.filterwarnings("error")
def test_any_history_is_drawn(history):
    assert draw_training(history, LIGHT, narrow=False).startswith(b"\x89PNG")
