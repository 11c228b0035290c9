import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from killed_runs import MOMENTS, SETTINGS
from process_groups import BATCH_SIZE, FIELDS, SIZES
from tiny_runs import IMAGES, same_state, tiny_trainer, vectors_of, write_features

from modeling_crh import CRHModel
from modeling_crh.encoding.loading import load_model
from modeling_crh.training.checkpointing import find_last_checkpoint
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import train

pytestmark = pytest.mark.slow

_TIMES = ("runtime", "per_second")


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    """A folder of runs, each killed at a moment of its own."""
    folder = tmp_path_factory.mktemp("killed")
    script = Path(__file__).parents[1] / "killed_runs.py"
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, script, folder], env=os.environ | threads, capture_output=True, text=True)
    expected = [signal.SIGXFSZ if "half of the weights" in moment else signal.SIGKILL for moment in MOMENTS]
    assert done.stdout.split() == [str(int(number)) for number in expected], done.stderr
    return folder


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run that was not killed, and whose folder keeps every checkpoint."""
    trainer = tiny_trainer(tmp_path_factory.mktemp("whole"), **SETTINGS | {"save_total_limit": None})
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


def test_a_run_whose_folder_was_moved_finds_its_best_checkpoint_again(whole_run, tmp_path):
    shutil.copytree(whole_run.args.output_dir, tmp_path / "moved")
    resumed = tiny_trainer(tmp_path / "moved", **SETTINGS | {"save_total_limit": None})
    resumed.train(resume_from_checkpoint=True)
    best = Path(whole_run.state.best_model_checkpoint).name
    assert resumed.state.best_model_checkpoint == str(tmp_path / "moved" / best)
    assert same_state(resumed.model, whole_run.model)


def test_what_a_killed_process_was_writing_does_not_stand_in_the_way(image_folder, tmp_path):
    fields = IMAGES | {"dataset": str(image_folder)}
    (tmp_path / ".recipe.yaml.12.partial").write_text("dataset: ")
    (tmp_path / ".lock").touch()
    for resume in (False, True):
        run = train(Recipe.from_dict(fields), tmp_path, resume=resume)
        assert same_state(load_model(tmp_path), run.model)


def test_a_push_that_fails_leaves_the_checkpoint(tmp_path, monkeypatch):
    trainer = tiny_trainer(tmp_path, save_strategy="epoch")
    trainer.args.push_to_hub = True

    def fail(*args, **kwargs):
        raise OSError("The server is away.")

    monkeypatch.setattr(type(trainer), "push_to_hub", fail)
    with pytest.raises(OSError, match=r"^The server is away\.$"):
        trainer.train()
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-7")


def run_groups(folder, *groups, launcher=(), **settings):
    """Groups of processes in a process of their own; gives what it ended with."""
    script = Path(__file__).parents[1] / "process_groups.py"
    command = [sys.executable, *launcher, script, folder, *groups]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, **settings)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """A folder of what groups of 2 and 4 processes left, and of one that lost a process; and what they printed."""
    folder = tmp_path_factory.mktemp("groups")
    return folder, run_groups(folder, "2", "4", "2 shared", "2 proxies", "2 norm", "dying")


@pytest.mark.parametrize("group", ["2", "4", "2 shared", "2 proxies"])
def test_several_processes_end_with_the_assignment_of_one_that_sees_the_same_batches(group, groups, tmp_path):
    folder, ended = groups
    assert f"{group}{' 0' * int(group[0])}\n" in ended.stdout, ended.stderr
    several = torch.load(folder / group / "result.pt")
    size = SIZES.get(group, 22)
    settings = {"per_device_train_batch_size": BATCH_SIZE, "model_fields": FIELDS.get(group)}
    one = tiny_trainer(tmp_path, size=size, learning_rate=1e-3, **settings)
    expected = vectors_of(one)
    one.train()
    assert torch.equal(several["assignment"], one.model.assignment)
    assert several["weights"].sum(1).tolist() == [size] * 3  # and not 24: the last batch is filled up with repetitions
    proxies = [torch.load(path) for path in (folder / group).glob("proxies-*")]
    assert len(proxies) == (2 if "proxies" in group else 0)
    for vectors in proxies:
        last = [step for step in expected if step is not None][-1]
        torch.testing.assert_close(vectors, last, rtol=1e-3, atol=1e-5)


def test_the_figures_of_several_processes_are_those_of_the_model_that_they_save(groups, tmp_path):
    folder, ended = groups
    assert "2 norm 0 0\n" in ended.stdout, ended.stderr
    found = []
    for step in (3, 6, 9):
        one = tiny_trainer(tmp_path, model_fields=FIELDS["2 norm"])
        saved = CRHModel.from_pretrained(folder / "2 norm" / f"checkpoint-{step}")
        one.model.load_state_dict(saved.state_dict())
        found.append(one.evaluate()["eval_map"])
    assert found == torch.load(folder / "2 norm" / "result.pt")["figures"]


def test_where_a_process_dies_the_others_end_with_a_sentence(groups):
    _, ended = groups
    assert ended.stdout.endswith("dying 1 3\n"), ended.stderr
    assert "Error: Another process of this run has ended, and so does this one" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_where_a_process_dies_the_launcher_ends_too(tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    ended = run_groups(tmp_path, "dying", launcher=launcher)
    assert ended.returncode == 1
    assert "exitcode  : 3" in ended.stderr
    assert find_last_checkpoint(tmp_path / "dying") == str(tmp_path / "dying" / "checkpoint-3")


ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
ACCELERATE += ("--mixed_precision", "no", "--dynamo_backend", "no")


def write_long_run(folder, **training):
    """A recipe whose training takes for ever, and its features."""
    folder.mkdir()
    training = {"num_train_epochs": 100_000, "per_device_train_batch_size": 4, "use_cpu": True} | training
    fields = {"dataset": write_features(folder, np.arange(60) % 3), "features_column": "features"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(fields | {"model": {"num_bits": 16}, "training": training}))


def test_a_process_that_is_stopped_is_not_waited_for_longer_than_the_recipe_says(tmp_path):
    write_long_run(tmp_path / "stopped", ddp_timeout=5)
    ended = run_groups(tmp_path, "stopped")
    assert ended.stdout == "stopped 2 -9\n", ended.stderr
    assert "Another process of this run has not answered within 5 seconds" in ended.stderr
    assert "`ddp_timeout` under `training` in a recipe gives it" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("target", ["launcher", "group"])
def test_an_interruption_of_the_launcher_alone_or_of_all_ends_all_processes(target, tmp_path):
    group = f"interrupted {target}"
    write_long_run(tmp_path / group)
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    ended = run_groups(tmp_path, group, launcher=ACCELERATE, env=environment, start_new_session=True)
    assert ended.returncode == 1  # and its output is closed, so that no process is left which holds it
    assert ended.stderr.count("Interrupted.") == 2, ended.stderr
    assert f"with `--resume` goes on from the last checkpoint in {tmp_path / group / 'run'}." in ended.stderr
