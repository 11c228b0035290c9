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


@pytest.fixture
def run(crh):
    """Run a command that ends with this exit code, and look at its output; gives standard output and standard error."""
    datasets.disable_progress_bars()  # as a command does, if it is first to import `datasets`

    def look(*arguments, code=0):
        ended, output, errors = crh(*arguments)
        assert controls(output + errors) == set(), (arguments, errors)
        assert "Traceback" not in errors
        assert ended == code, (arguments, errors)
        assert code == 0 or ("Error" in errors and output == ""), arguments
        return output, errors

    yield look
    datasets.enable_progress_bars()


def controls(text):
    """Characters that do more than stand in a line."""
    return {mark for mark in text if mark != "\n" and not mark.isprintable()}


def shows_plain(output):
    """Whether what is left of the name is shown, in whatever lines a table breaks it."""
    return all(part in output.replace("\n", "") for part in ("[2J", "]0;x"))


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
    for name, column in (("kind", label), ("key", range(60))):
        rows[f"{name}{HOSTILE}"] = [f"{number}{HOSTILE}" for number in column]
    file = tmp_path / f"rows{HOSTILE}.parquet"
    datasets.Dataset.from_dict(rows).to_parquet(str(file))
    return file


def test_training_and_evaluation(run, table, tmp_path):
    out, new = tmp_path / f"run{HOSTILE}", ["--out", tmp_path / "new"]
    columns = ["--features-column", f"vector{HOSTILE}", "--label-column", f"kind{HOSTILE}"]
    data = ["--dataset", table, *columns]
    settings = ["--epochs", 1, "--num-bits", 16, "--out", out]
    assert shows_plain(run("train", *data, *settings)[0])
    assert CRHModel.from_pretrained(out / "model").config.id2label[0] == f"0{HOSTILE}"
    run("evaluate", out, *data)
    assert json.loads(run("evaluate", out, *data, "--json")[0])["dataset"] == str(table)
    for command in (
        ["train", *data, *settings],
        ["train", *data, *settings, "--resume", "--seed", 5],
        ["train", "--dataset", table, "--features-column", HOSTILE, *new],
        ["train", "--dataset", table, *columns[:2], "--label-column", HOSTILE, *new],
        ["train", HOSTILE],
        ["train", *data, "--method", f"os:{HOSTILE}", *new],
        ["train", *data, "--method", HOSTILE, *new],
        ["train", *data, "--protocol", HOSTILE, *new],
        ["train", *data, "--backbone", tmp_path / HOSTILE, *new],
        ["evaluate", HOSTILE],
        ["evaluate", out, "--dataset", HOSTILE],
        ["evaluate", out, *data, "--reference", "taxonomy"],
    ):
        run(*command, code=2)


def test_training_on_pictures_that_are_left_out(run, pictures, tmp_path):
    data = ["--dataset", pictures, "--out", tmp_path / "run", "--dry-run"]
    for options, code in ((["--skip-bad"], 0), ([], 2)):
        assert "bad\N{REPLACEMENT CHARACTER}[2J" in run("train", *data, *options, code=code)[1]


def test_a_recipe(run, tmp_path):
    recipe = tmp_path / f"recipe{HOSTILE}.yaml"
    for content in (HOSTILE, f"? {json.dumps(HOSTILE)}\n: 1", f"dataset: {json.dumps(HOSTILE)}", 'seed: "\\e[2J"'):
        recipe.write_text(content)
        run("train", recipe, "--out", tmp_path / "run", code=2)


def test_codes_and_what_is_made_of_them(run, pictures, tiny_checkpoint, tmp_path):
    codes, index = tmp_path / f"codes{HOSTILE}", tmp_path / f"index{HOSTILE}.crh"
    encode = ["encode", tiny_checkpoint, pictures, "--out", codes]
    run(*encode, code=2)
    output, errors = run(*encode, "--skip-bad")
    assert (shows_plain(output), "bad" in errors) == (True, True)
    run("index", codes, "--out", index, "--model", f"model{HOSTILE}")
    assert shows_plain(run("search", index, "0f0f", "-k", 3)[0])
    (found,) = json.loads(run("search", index, "0f0f", "-k", 1, "--json")[0])["results"]
    assert found["hits"][0]["label"] in (f"cat{HOSTILE}", f"dog{HOSTILE}")
    for options in ([], ["--json"], ["--out", tmp_path / f"groups{HOSTILE}.csv"]):
        run("dedupe", index, "--radius", 16, *options)
    assert shows_plain(run("push", codes, "org/name", "--type", "dataset", "--revision", HOSTILE, "--dry-run")[0])
    for command in (
        ["encode", HOSTILE, pictures, "--out", codes],
        ["encode", tiny_checkpoint, tmp_path / HOSTILE, "--out", codes],
        [*encode, "--skip-bad", "--split", HOSTILE],
        [*encode, "--skip-bad", "--image-column", HOSTILE],
        [*encode, "--skip-bad", "--shard-size", 5],
        ["index", codes, "--out", index, "--kind", HOSTILE],
        ["index", HOSTILE, "--out", index],
        ["index", codes, "--out", pictures / HOSTILE / HOSTILE],
        ["index", codes, "--out", tmp_path / f"table{HOSTILE}.lance"],
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
        run(*command, code=2)


def test_a_model_that_is_shown_before_it_is_pushed(run, tiny_model, tmp_path):
    model = tmp_path / f"model{HOSTILE}"
    names = {number: f"class {number}{HOSTILE}" for number in range(3)}
    tiny_model(None, id2label=names, label2id={name: number for number, name in names.items()}).save_pretrained(model)
    (model / "recipe.yaml").write_text(f"dataset: {json.dumps(HOSTILE)}\n")
    (model / "figures.json").write_text(json.dumps({HOSTILE: 0.5}))
    assert shows_plain(run("push", model, "org/name", "--license", HOSTILE, "--dry-run")[0])


def test_a_table_of_features_is_encoded_with_its_ids(run, table, tiny_model, tmp_path):
    tiny_model(None).save_pretrained(tmp_path / "model")
    encode = ["encode", tmp_path / "model", table, "--out", tmp_path / "codes"]
    run(*encode, "--features-column", f"vector{HOSTILE}", "--id-column", f"key{HOSTILE}")
    run("index", tmp_path / "codes", "--out", tmp_path / "index")
    assert shows_plain(run("search", tmp_path / "index", "0f0f")[0])
    for name in ("features", "id", "label"):
        errors = run(*encode, f"--{name}-column", HOSTILE, code=2)[1]
        assert "key" in errors or "vector" in errors


def test_features_are_stored(run, pictures, tiny_checkpoint, tmp_path):
    out = ["--out", tmp_path / f"features{HOSTILE}"]
    store = ["features", tiny_checkpoint, pictures, *out]
    run(*store, code=2)
    output, errors = run(*store, "--skip-bad")
    assert (shows_plain(output), "bad" in errors) == (True, True)
    for options in (["--skip-bad"], ["--augmentation", HOSTILE]):
        run(*store, *options, code=2)
    run("features", tmp_path / HOSTILE, pictures, *out, code=2)


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
    run(*arguments, code=2)


def test_a_script_of_one_command(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["script.py", f"--bad{HOSTILE}"])
    with pytest.raises(SystemExit):
        cli.run(cli.evaluate)
    errors = capfd.readouterr().err
    assert (controls(errors), "No such option" in errors) == (set(), True)


def test_choices_that_a_mistaken_option_has_are_still_named(run):
    assert "onnx" in run("export", "run", "--out", "file", "--to", "x", code=2)[1]


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
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(sys.stderr)])
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
    assert shows_plain(run("search", tmp_path / "index", "0f0f")[0])
    assert shows_plain(run("dedupe", tmp_path / "index", "--radius", 1)[0])
    run("search", tmp_path / "index", "--text", "x", "--model", tmp_path, code=2)
