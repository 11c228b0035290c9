"""What `crh` answers at once: help, version, a mistyped command and completion load no library that takes seconds."""

import os
import subprocess
import sys
from typing import get_args

import pytest
from tiny_runs import IMAGES

from modeling_crh.backbones import Pooling, Tower
from modeling_crh.cli import options
from modeling_crh.training.recipe import Recipe

SLOW_TO_IMPORT = ["torch", "transformers", "datasets", "numpy", "pandas", "huggingface_hub"]
CRH = f"""
import sys, modeling_crh_command
sys.argv[0] = "crh"
try:
    modeling_crh_command.main()
finally:
    print("loaded:", [name for name in {SLOW_TO_IMPORT} if name in sys.modules], file=sys.stderr)
"""


def run_crh(*arguments, **environment):
    """Run `crh` by its entry point; its output ends with the slow libraries that it has loaded."""
    command = [sys.executable, "-c", CRH, *map(str, arguments)]
    environment = os.environ | {"TERMINAL_WIDTH": "200"} | environment
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    return ended.returncode, ended.stdout + ended.stderr


def completing(typed):
    return {"_CRH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "shown"),
    [
        (["--help"], {}, 0, "Train a model, evaluate it and save it."),
        (["--version"], {}, 0, "modeling-crh 0."),
        (["train", "--help"], {}, 0, "--learning-rate"),
        (["trian"], {}, 2, "Did you mean 'train'?"),
        (["train", "--epoks", "3"], {}, 2, "--epochs"),
        (["search", "--radius", "near"], {}, 2, "--radius"),
        ([], completing("crh fea"), 0, "features"),
        ([], completing("crh train --lora"), 0, "--lora-rank"),
        ([], completing("crh encode --tex"), 0, "--text"),
    ],
)
def test_help_mistyped_commands_and_completion_load_no_slow_library(arguments, environment, code, shown):
    ended, output = run_crh(*arguments, **environment)
    assert (ended, "loaded: []" in output) == (code, True), output
    assert shown in output


@pytest.mark.parametrize(("option", "known"), [(options.Tower, Tower), (options.Pooling, Pooling)])
def test_towers_and_poolings_of_the_command_line_are_those_of_the_backbones(option, known):
    values, no_value = get_args(get_args(option)[0])
    assert (get_args(values), no_value) == (get_args(known), type(None))


@pytest.mark.slow
def test_a_command_registers_the_model_before_it_runs(image_folder, tmp_path):
    recipe = Recipe.from_dict(IMAGES, dataset=str(image_folder), training={"num_train_epochs": 1})
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    ended, output = run_crh("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert ended == 0, output
    assert (tmp_path / "run" / "model" / "modeling_crh.py").is_file()
