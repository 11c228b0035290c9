"""The examples of README.md and docs/ run, and their command lines name what is there."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys

import pytest
import typer
from doc_pages import IDS, PAGES, ROOT, blocks, command_lines
from tiny_commands import done
from tiny_inputs import assert_same_state

from modeling_crh import CRHModel
from modeling_crh.cli import commands

CRH = typer.main.get_command(commands)
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# What the pages of other stores find is compared in test_neighbours.py.
WITH_CODE = [page for page in PAGES if page.parent.name != "neighbours" and any(blocks(page, "python"))]


def run_blocks(page):
    """Run the Python blocks of a page in order; one with a title is written to that file instead."""
    names = {"__name__": "__main__"}
    for code, title, line in blocks(page, "python"):
        if title is None:
            exec(compile("\n" * line + code, page, "exec"), names)
        else:
            sys.modules.pop(title.removesuffix(".py"), None)
            importlib.invalidate_caches()
            with open(title, "w") as file:
                file.write(code)
    return names


def check_script(path, options):
    """Whether a script of this repository is there and its text names every option."""
    source = (ROOT / path).read_text()
    unknown = [name for name in options if name not in source and name.strip("-").replace("-", "_") not in source]
    assert not unknown, f"{path} has no option {unknown[0]}"


def check_command(line):
    """Whether a command line is one of the shell, and its program, options and target are there."""
    subprocess.run(["bash", "-n", "-c", line], check=True)
    words = shlex.split(line, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    program, arguments = words[0], words[1:]
    options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    if program == "crh" and not arguments[0].startswith("-"):
        CRH.commands[arguments[0]].make_context(f"crh {arguments[0]}", arguments[1:])
    elif program == "python" and arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1])
    elif program == "python":
        check_script(arguments[0], options)
    elif program == "accelerate":
        script = next(word for word in arguments if word.endswith(".py"))
        assert (ROOT / script).is_file()
    elif program == "make":
        assert {word for word in arguments if "=" not in word} <= TARGETS


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=[IDS[PAGES.index(page)] for page in WITH_CODE])
def test_the_python_blocks_of_a_page_run_in_order(page, workplace):
    run_blocks(page)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_command_lines_of_a_page_can_be_parsed(page):
    for line in command_lines(page):
        check_command(line)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_within_a_sentence_name_commands_and_options_that_there_are(page):
    for line in re.findall(r"(?<!`)`crh ([a-z]+(?: [^`]*)?)`(?!`)", page.read_text()):
        name, *words = shlex.split(line)
        known = {option for one in CRH.commands[name].params for option in (*one.opts, *one.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known | {"--help"}


def test_blocks_that_need_a_server_or_another_library_are_python():
    for page in PAGES:
        for code, _, line in blocks(page, "py"):
            compile("\n" * line + code, page, "exec")


BROKEN = ["crh nothing", "crh train --no-such", "crh evaluate 'runs", "make nothing", "python benchmarks/none.py"]


@pytest.mark.parametrize("line", [*BROKEN, "python benchmarks/bench_onnx.py --no-such"])
def test_a_command_line_that_cannot_run_is_found(line):
    with pytest.raises((AssertionError, KeyError, OSError, subprocess.CalledProcessError, typer.BadParameter.__base__)):
        check_command(line)


@pytest.mark.slow
def test_the_training_of_the_readme_gives_the_model_of_its_command(workplace, crh):
    lines = command_lines(ROOT / "README.md")
    command = next(line for line in lines if line.startswith("crh train --dataset photos"))
    run_blocks(ROOT / "README.md")
    done(crh(*shlex.split(command)[1:], "--out", "runs/by-command"))  # the last `--out` counts
    models = (CRHModel.from_pretrained(f"runs/{name}/model") for name in ("by-command", "photos-64"))
    assert_same_state(*models)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "start.ipynb").read_text())["cells"]
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
            assert not cell["outputs"]
    assert names["strip"].size == (540, 56)
    assert names["figures"]["map"] > 0.2  # twice what chance gives to ten classes
