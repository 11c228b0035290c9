import shutil

import numpy as np
import pytest
from tiny_commands import refusal

from modeling_crh.search import HammingIndex

SOURCE = ("--backbone", "org/vit", "--dataset")
SENTENCE = "has not ended; its command with `--resume` goes on"


@pytest.mark.parametrize("form", ["with a checkpoint", "before its first checkpoint", "its checkpoints", "its model"])
@pytest.mark.parametrize("command", ["evaluate", "encode", "features", "search", "app", "export", "push", "train"])
def test_a_command_that_is_given_an_unfinished_run_says_how_to_finish_it(
    command, form, crh, tiny_checkpoint, image_folder, tmp_path
):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("{dataset: photos, backbone: org/vit}")
    if form in ("with a checkpoint", "its checkpoints"):
        shutil.copytree(tiny_checkpoint, run / "checkpoints" / "checkpoint-5")
    given = {"its checkpoints": run / "checkpoints", "its model": run / "model"}.get(form, run)
    index = tmp_path / "index.crh"
    HammingIndex(np.zeros((3, 2), np.uint8), model=str(given)).save(index)
    arguments = {
        "evaluate": (given, "--dataset", image_folder),
        "encode": (given, image_folder, "--out", tmp_path / "out"),
        "features": (given, image_folder, "--out", tmp_path / "out"),
        "search": (index, image_folder / "dark" / "00.png", "--model", given),
        "app": (index, "--model", given),
        "export": (given, "--out", tmp_path / "out"),
        "push": (given, "org/name", "--dry-run"),
        "train": (*SOURCE, image_folder, "--centers-from", given, "--out", tmp_path / "out"),
    }
    assert SENTENCE in refusal(crh(command, *arguments[command]))
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_that_may_not_search_an_index_is_named_for_what_it_is(crh, tiny_checkpoint, tmp_path):
    HammingIndex(np.zeros((3, 2), np.uint8), model=str(tiny_checkpoint)).save(tmp_path / "index.crh")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    said = refusal(crh("search", tmp_path / "index.crh", "--text", "a heart", "--model", tmp_path / "run"))
    assert SENTENCE in said
