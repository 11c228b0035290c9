import pytest
import torch

from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.callbacks import ReassignCentersCallback


@pytest.mark.parametrize(
    ("rest", "rank", "own"), [(0, 0, 4), (0, 1, 4), (6, 0, 4), (6, 1, 2), (3, 0, 3), (3, 1, 0), (4, 1, 0)]
)
def test_repetitions_that_fill_up_the_last_batch_do_not_count(rest, rank, own, tmp_path, monkeypatch):
    class Loader:
        batch_size, total_batch_size = None, 8
        total_dataset_length = 8 + rest

        def __len__(self):
            return 1 + (rest > 0)

    callback = ReassignCentersCallback(CRHTrainingArguments(output_dir=str(tmp_path)), 3, 8)
    monkeypatch.setattr(type(callback.args), "process_index", rank)
    monkeypatch.setattr(type(callback.args), "world_size", 2)
    counts = []
    for _ in range(len(Loader())):
        callback.observe(torch.ones(4, 8), torch.tensor([0, 1, 2, 1]), Loader())
        counts.append(int(callback.statistics.weights.sum()))
    assert counts == [4, 4 + own][: len(Loader())]
