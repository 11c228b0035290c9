import json

import huggingface_hub
import pytest
import transformers
from tiny_commands import refusal
from tiny_data import write_pictures


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A folder that nobody can make, since a file is in its way, as the cache of `datasets` and of the Hub."""
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "cache"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hub"))
    return folder


@pytest.mark.parametrize("command", ["train", "evaluate", "encode", "features"])
def test_a_cache_that_cannot_be_written_ends_a_command_with_the_variable_that_moves_it(
    command, crh, nowhere, tiny_checkpoint, tmp_path
):
    files = write_pictures(tmp_path / "pictures", 8)
    rows = [{"image": str(file), "label": file.parent.name} for file in files]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table, out = tmp_path / "rows.jsonl", tmp_path / "out"
    arguments = {
        "train": ("--dataset", table, "--out", out),
        "evaluate": (tiny_checkpoint, "--dataset", table),
        "encode": (tiny_checkpoint, table, "--out", out),
        "features": (tiny_checkpoint, table, "--out", out),
    }
    said = refusal(crh(command, *arguments[command]))
    assert f"Error: The cache {nowhere}/datasets must be a folder that can be written to, but is not: Not a dir" in said
    assert "`HF_DATASETS_CACHE` in the environment" in said
    assert not out.exists()


def test_so_does_the_cache_of_models(crh, nowhere, image_folder, monkeypatch):
    def download(*_, **__):
        (nowhere / "hub" / "models--org--model").mkdir(parents=True)

    monkeypatch.setattr(transformers.utils.hub, "hf_hub_download", download)
    said = refusal(crh("evaluate", "org/model", "--dataset", image_folder))
    assert f"Error: The cache {nowhere}/hub must be a folder that can be written to, but is not: " in said
    assert "`HF_HUB_CACHE` in the environment" in said


def test_another_folder_that_cannot_be_written_keeps_its_own_error(crh, nowhere, tiny_checkpoint, image_folder):
    said = refusal(crh("encode", tiny_checkpoint, image_folder, "--out", nowhere.parent / "codes"))
    assert "cache" not in said.replace(str(nowhere.parent), "")
