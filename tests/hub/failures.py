"""What goes wrong between here and the Hub; collected by test_hub.py, in whose process the Hub is a loopback one."""

import hashlib
import shutil
from pathlib import Path

import pytest
from huggingface_hub.errors import RepositoryNotFoundError
from tiny_commands import done, refusal
from tiny_inputs import CODE_FILES, assert_same_state

from modeling_crh import CRHModel
from modeling_crh.encoding.loading import load_checkpoint, load_model


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def fingerprint(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"upload": 99}, "Error while uploading 'model.safetensors' to the Hub: the connection broke"),
        ({"conflict": 1}, "it was changed at the same time"),
    ],
)
def test_a_push_that_fails_says_what_was_not_uploaded_and_the_next_one_completes_it(
    fault, reason, crh, checkpoint, faults, api
):
    name, count = f"ada/broken-{next(iter(fault))}", len(CODE_FILES) + 4
    before = fingerprint(checkpoint)
    faults(**fault)
    said = refusal(crh("push", checkpoint, name))
    assert f"Error: Nothing was uploaded to '{name}', none of the {count} files (README.md, " in said
    assert reason in said
    assert api.list_repo_files(name) == [".gitattributes"]
    faults()
    done(crh("push", checkpoint, name))
    assert len(api.list_repo_files(name)) == count + 1
    assert fingerprint(checkpoint) == before


def test_a_connection_that_breaks_off_once_is_taken_up_again(crh, checkpoint, faults, tmp_path):
    faults(upload=1)
    done(crh("push", checkpoint, "ada/once"))
    faults(download=2)
    assert_same_state(load_model("ada/once"), load_model(checkpoint))


@pytest.mark.parametrize(
    ("token", "reason"),
    [("hf_nobody", "the Hub does not know the token"), ("hf_reader", "the token may not write there")],
)
def test_a_token_that_may_not_write_is_an_error(token, reason, crh, checkpoint, monkeypatch, api):
    with monkeypatch.context() as patch:
        patch.setenv("HF_TOKEN", token)
        assert reason in refusal(crh("push", checkpoint, "ada/denied"))
    assert not api.repo_exists("ada/denied")


def test_a_private_repository_is_seen_with_a_token_only(crh, checkpoint, api):
    done(crh("push", checkpoint, "ada/private", "--private"))
    assert api.repo_info("ada/private").private
    assert CRHModel.from_pretrained("ada/private").config.num_bits == 16
    with pytest.raises(RepositoryNotFoundError, match="401"):
        api.repo_info("ada/private", token=False)


def test_what_is_public_does_not_pass_for_private(crh, checkpoint, api):
    done(crh("push", checkpoint, "ada/public"))
    before = api.repo_info("ada/public").sha
    said = refusal(crh("push", checkpoint, "ada/public", "--private"))
    assert "`private` must be left out for 'ada/public', which exists and is public" in said
    assert api.repo_info("ada/public").sha == before


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nowhere", [], "`checkpoint` must be a CRH model's folder or Hub id, but 'nowhere' is not"),
        ("CHECKPOINT", ["--model", "ada/y"], "`model` must be given with codes or an index only"),
        ("CHECKPOINT", ["--type", "dataset", "--with-pictures"], "`with_pictures` must be left out with codes"),
        ("CHECKPOINT", ["--type", "dataset"], "`codes` must be a parquet file, or a folder that holds"),
    ],
)
def test_a_wrong_argument_is_an_error_before_anything_is_made(source, options, message, crh, checkpoint, api):
    source = checkpoint if source == "CHECKPOINT" else source
    assert message in refusal(crh("push", source, "ada/x", *options))
    assert not api.repo_exists("ada/x")


def test_what_is_not_on_the_hub_or_there_as_a_pickle_is_an_error_in_one_sentence(crh, checkpoint, api):
    crh("push", checkpoint, "ada/there")
    with pytest.raises(ValueError, match=r"`checkpoint` must be .*'ada/not-there' is not: "):
        load_checkpoint("ada/not-there")
    with pytest.raises(ValueError, match=r"`checkpoint` must be .*'ada/there' is not: .*v9"):
        load_model("ada/there", revision="v9")
    api.upload_file(path_or_fileobj=b"pickle", path_in_repo="pytorch_model.bin", repo_id="ada/there")
    api.delete_file("model.safetensors", "ada/there")
    with pytest.raises(ValueError, match=r"'ada/there' is not: .* model.safetensors"):
        load_model("ada/there")
