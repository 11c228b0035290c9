import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from killed_runs import MOMENTS, SETTINGS
from tiny_runs import same_state, tiny_trainer

from modeling_crh.checkpoint import find_last_checkpoint, load_model

_TIMES = ("runtime", "per_second")


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    """A folder of runs, each killed at a moment of its own."""
    folder = tmp_path_factory.mktemp("killed")
    script = Path(__file__).with_name("killed_runs.py")
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, script, folder], env=os.environ | threads, capture_output=True, text=True)
    expected = [signal.SIGXFSZ if "half of the weights" in moment else signal.SIGKILL for moment in MOMENTS]
    assert done.stdout.split() == [str(int(number)) for number in expected], done.stderr
    return folder


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run that was not killed."""
    trainer = tiny_trainer(tmp_path_factory.mktemp("whole"), **SETTINGS)
    trainer.train()
    return trainer


def figures(trainer):
    """What was logged, without how long it took."""
    return [
        {name: value for name, value in entry.items() if not name.endswith(_TIMES)}
        for entry in trainer.state.log_history
        if "train_loss" not in entry  # of the process's own steps alone
    ]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_while_it_saves_leaves_whole_checkpoints_and_goes_on_to_the_same_end(
    moment, killed_runs, whole_run
):
    folder = killed_runs / moment
    left = {path.name for path in folder.iterdir()}
    assert ".partial" in left
    for name in left - {".partial"}:
        load_model(folder / name)
        assert find_last_checkpoint(folder) is not None
    resumed = tiny_trainer(folder, **SETTINGS)
    resumed.train(resume_from_checkpoint=True)
    assert same_state(resumed.model, whole_run.model)
    assert figures(resumed) == figures(whole_run)
    best = Path(whole_run.state.best_model_checkpoint).name
    assert [path.name for path in folder.iterdir()] == [best]
