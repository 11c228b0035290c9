"""What data are called never controls the terminal, whatever the command and however it ends."""

import json
import logging
import sys
import warnings

import datasets
import numpy as np
import pytest
from tiny_data import write_pictures

from modeling_crh import CRHModel, cli
from modeling_crh.runtime.terminal import progress_bar
from modeling_crh.search import HammingIndex

HOSTILE = "\x1b[2J\x1b]0;x\x07\r\u202e\u2066\n\x9b1mz"  # clears, names the window, turns the reading direction
PLAIN = ["[2J", "]0;x"]  # what is left of it


@pytest.fixture
def run(crh):
    """Run a command whose output is looked at; gives its exit code, standard output and standard error."""
    datasets.disable_progress_bars()  # as a command does, if it is first to import `datasets`

    def look(*arguments):
        code, output, errors = crh(*arguments)
        assert controls(output + errors) == set(), (arguments, errors)
        assert "Traceback" not in errors
        return code, output, errors

    yield look
    datasets.enable_progress_bars()


def controls(text):
    """Characters that do more than stand in a line."""
    return {mark for mark in text if mark != "\n" and not mark.isprintable()}


def shows_plain(output):
    """Whether the plain part of the name is shown, in whatever lines a table breaks it."""
    return all(part in output.replace("\n", "") for part in PLAIN)


@pytest.fixture
def pictures(tmp_path):
    """A folder of pictures of two classes; the names of folders, classes and files are hostile, and one is damaged."""
    root = tmp_path / f"photos{HOSTILE}"
    files = write_pictures(root, count=12, classes=(f"cat{HOSTILE}", f"dog{HOSTILE}"))
    for file in files:
        file.rename(file.with_name(f"{file.stem}{HOSTILE}.png"))
    (root / f"cat{HOSTILE}" / f"bad{HOSTILE}.png").write_bytes(b"bad")
    (root / f"cat{HOSTILE}" / f"notes.{HOSTILE}").write_text("notes")
    return root


@pytest.fixture
def table(tmp_path):
    """A table of features with hostile labels, ids and names of columns."""
    generator = np.random.default_rng(0)
    label = np.arange(60) % 3
    rows = {f"vector{HOSTILE}": list(generator.normal(size=(60, 4)) + np.eye(3, 4)[label] * 3)}
    rows |= {f"kind{HOSTILE}": [f"{number}{HOSTILE}" for number in label]}
    rows |= {f"key{HOSTILE}": [f"{number}{HOSTILE}" for number in range(60)]}
    file = tmp_path / f"rows{HOSTILE}.parquet"
    datasets.Dataset.from_dict(rows).to_parquet(str(file))
    return file


def test_training_and_evaluation(run, table, tmp_path):
    out = tmp_path / f"run{HOSTILE}"
    columns = ["--features-column", f"vector{HOSTILE}", "--label-column", f"kind{HOSTILE}"]
    data = ["--dataset", table, *columns]
    settings = ["--epochs", 1, "--num-bits", 16, "--out", out]
    code, output, errors = run("train", *data, *settings)
    assert (code, shows_plain(output)) == (0, True), errors
    assert CRHModel.from_pretrained(out / "model").config.id2label[0] == f"0{HOSTILE}"
    for options in ([], ["--json"]):
        code, output, errors = run("evaluate", out, *data, *options)
        assert code == 0, errors
    assert json.loads(output)["dataset"] == str(table)
    for command in (
        ["train", *data, *settings],
        ["train", *data, *settings, "--resume", "--seed", 5],
        ["train", "--dataset", table, "--features-column", HOSTILE, "--out", tmp_path / "new"],
        ["train", "--dataset", table, *columns[:2], "--label-column", HOSTILE, "--out", tmp_path / "new"],
        ["train", HOSTILE],
        ["train", *data, "--method", f"os:{HOSTILE}", "--out", tmp_path / "new"],
        ["train", *data, "--method", HOSTILE, "--out", tmp_path / "new"],
        ["train", *data, "--protocol", HOSTILE, "--out", tmp_path / "new"],
        ["train", *data, "--backbone", tmp_path / HOSTILE, "--out", tmp_path / "new"],
        ["evaluate", HOSTILE],
        ["evaluate", out, "--dataset", HOSTILE],
        ["evaluate", out, *data, "--reference", "taxonomy"],
    ):
        code, output, errors = run(*command)
        assert (code, output) == (2, ""), command
        assert "Error" in errors


def test_training_on_pictures_that_are_left_out(run, pictures, tmp_path):
    data = ["--dataset", pictures, "--out", tmp_path / "run", "--dry-run"]
    for options, code in ((["--skip-bad"], 0), ([], 2)):
        found, _, errors = run("train", *data, *options)
        assert found == code, errors
        assert "bad\N{REPLACEMENT CHARACTER}[2J" in errors


def test_a_recipe(run, tmp_path):
    recipe = tmp_path / f"recipe{HOSTILE}.yaml"
    for content in (HOSTILE, f"? {json.dumps(HOSTILE)}\n: 1", f"dataset: {json.dumps(HOSTILE)}", 'seed: "\\e[2J"'):
        recipe.write_text(content)
        code, output, _ = run("train", recipe, "--out", tmp_path / "run")
        assert (code, output) == (2, ""), content


def test_codes_and_what_is_made_of_them(run, pictures, tiny_checkpoint, tmp_path):
    codes, index = tmp_path / f"codes{HOSTILE}", tmp_path / f"index{HOSTILE}.crh"
    assert run("encode", tiny_checkpoint, pictures, "--out", codes)[0] == 2
    code, output, errors = run("encode", tiny_checkpoint, pictures, "--out", codes, "--skip-bad")
    assert (code, shows_plain(output), "bad" in errors) == (0, True, True), errors
    code, output, errors = run("index", codes, "--out", index, "--model", f"model{HOSTILE}")
    assert code == 0, errors
    code, output, errors = run("search", index, "0f0f", "-k", 3)
    assert (code, shows_plain(output)) == (0, True), errors
    code, output, _ = run("search", index, "0f0f", "-k", 1, "--json")
    assert json.loads(output)["results"][0]["hits"][0]["label"] in (f"cat{HOSTILE}", f"dog{HOSTILE}")
    for options in ([], ["--json"], ["--out", tmp_path / f"groups{HOSTILE}.csv"]):
        assert run("dedupe", index, "--radius", 16, *options)[0] == 0
    assert run("index", codes, "--out", tmp_path / f"table{HOSTILE}.lance")[0] in (0, 2)
    for command in (
        ["encode", HOSTILE, pictures, "--out", codes],
        ["encode", tiny_checkpoint, tmp_path / HOSTILE, "--out", codes],
        ["encode", tiny_checkpoint, pictures, "--out", codes, "--skip-bad", "--split", HOSTILE],
        ["encode", tiny_checkpoint, pictures, "--out", codes, "--skip-bad", "--image-column", HOSTILE],
        ["encode", tiny_checkpoint, pictures, "--out", codes, "--skip-bad", "--shard-size", 5],
        ["index", codes, "--out", index, "--kind", HOSTILE],
        ["index", HOSTILE, "--out", index],
        ["index", codes, "--out", pictures / HOSTILE / HOSTILE],
        ["search", index, HOSTILE],
        ["search", index, pictures],
        ["search", index, pictures, "--model", HOSTILE],
        ["search", index, "0f0f", "--where", f"label = '{HOSTILE}'"],
        ["search", index, "--text", HOSTILE],
        ["search", HOSTILE, "0f0f"],
        ["search", pictures, "0f0f"],
        ["search", index, "0f0f", "--html", tmp_path / HOSTILE / "a.html"],
        ["dedupe", HOSTILE, "--radius", 1],
        ["dedupe", index, "--radius", 1, "--out", tmp_path / HOSTILE / "groups.csv"],
        ["push", HOSTILE, "org/name"],
        ["push", codes, HOSTILE, "--type", "dataset"],
        ["push", index, f"org/{HOSTILE}", "--space", "--model", HOSTILE],
        ["app", HOSTILE, "--model", HOSTILE],
        ["export", HOSTILE, "--out", tmp_path / HOSTILE],
    ):
        code, output, errors = run(*command)
        assert (code, output) == (2, ""), command
        assert "Error" in errors


def test_a_table_of_features_is_encoded_with_its_ids(run, table, tiny_model, tmp_path):
    tiny_model(None).save_pretrained(tmp_path / "model")
    columns = ["--features-column", f"vector{HOSTILE}", "--id-column", f"key{HOSTILE}"]
    code, _, errors = run("encode", tmp_path / "model", table, *columns, "--out", tmp_path / "codes")
    assert code == 0, errors
    assert run("index", tmp_path / "codes", "--out", tmp_path / "index")[0] == 0
    code, output, _ = run("search", tmp_path / "index", "0f0f")
    assert (code, shows_plain(output)) == (0, True)
    for name in ("features", "id", "label"):
        code, _, errors = run("encode", tmp_path / "model", table, f"--{name}-column", HOSTILE, "--out", tmp_path / "x")
        assert (code, "key" in errors or "vector" in errors) == (2, True), errors


def test_features_are_stored(run, pictures, tiny_checkpoint, tmp_path):
    out = tmp_path / f"features{HOSTILE}"
    assert run("features", tiny_checkpoint, pictures, "--out", out)[0] == 2
    code, output, errors = run("features", tiny_checkpoint, pictures, "--out", out, "--skip-bad")
    assert (code, shows_plain(output), "bad" in errors) == (0, True, True), errors
    assert run("features", tiny_checkpoint, pictures, "--out", out, "--skip-bad")[0] == 2
    assert run("features", tmp_path / HOSTILE, pictures, "--out", out)[0] == 2
    assert run("features", tiny_checkpoint, pictures, "--out", out, "--augmentation", HOSTILE)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [HOSTILE],
        ["search", "index", f"--bad{HOSTILE}"],
        ["search", "index", f"-{HOSTILE}"],
        ["push", "run", "org/name", f"more{HOSTILE}"],
        ["export", "run", "--out", "file", "--to", HOSTILE],
        ["encode", "run", "photos", "--out", "codes", "--shard-size", HOSTILE],
        ["search", "index", f"--json={HOSTILE}"],
    ],
)
def test_a_command_line_that_is_no_good(run, arguments):
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert "Error" in errors


def test_a_script_of_one_command(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["script.py", f"--bad{HOSTILE}"])
    with pytest.raises(SystemExit):
        cli.run(cli.evaluate)
    errors = capfd.readouterr().err
    assert (controls(errors), "No such option" in errors) == (set(), True)


def test_choices_that_a_mistaken_option_has_are_still_named(run):
    assert "onnx" in run("export", "run", "--out", "file", "--to", "x")[2]


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_bug_a_warning_and_a_log_of_a_library(run, monkeypatch, capfd, debug):
    def search(*args):
        """Do what a library may: say something of a file in its own way, and fail in a way that no one knows."""
        warnings.warn(f"warned {HOSTILE}", UserWarning, stacklevel=1)
        logger.warning("logged %s", HOSTILE)
        try:
            raise KeyError(HOSTILE)
        except KeyError:
            logger.exception("failed %s", HOSTILE)
        raise TypeError(f"broken {HOSTILE}")

    def show(message, category, file, line, *_):
        sys.stderr.write(warnings.formatwarning(message, category, file, line))  # as without pytest

    logger = logging.getLogger("library")
    monkeypatch.setattr(warnings, "showwarning", show)
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr("modeling_crh.search.open_index", search)
    monkeypatch.setenv("CRH_DEBUG", debug)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["crh", "search", "index", "0f0f"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(TypeError, match="broken") as caught:
            cli.main()
    sys.excepthook(caught.type, caught.value, caught.tb)  # as Python does at the end
    output, errors = capfd.readouterr()
    assert controls(output + errors) == set()
    for word in ("warned", "logged", "failed", "KeyError", "TypeError: broken", "Traceback", "test_hostile_names.py"):
        assert word in errors, word


def test_the_name_of_a_progress_bar(capfd):
    with progress_bar(total=2, desc=f"Reading {HOSTILE}", delay=0, disable=False, leave=True) as bar:
        bar.update()
    assert controls(capfd.readouterr().err) == {"\r"}


def test_an_index_of_a_hostile_model(run, tmp_path):
    HammingIndex(np.zeros((3, 2), np.uint8), [HOSTILE, "b", "c"], model=HOSTILE).save(tmp_path / "index")
    for command in (["search", tmp_path / "index", "0f0f"], ["dedupe", tmp_path / "index", "--radius", 1]):
        code, output, errors = run(*command)
        assert (code, shows_plain(output)) == (0, True), errors
    assert run("search", tmp_path / "index", "--text", "x", "--model", tmp_path)[0] == 2
