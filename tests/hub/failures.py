"""What goes wrong between here and the Hub; collected by test_hub.py, in whose process the Hub is a loopback one."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError
from tiny_inputs import CODE_FILES

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
    name = f"ada/broken-{next(iter(fault))}"
    before = fingerprint(checkpoint)
    faults(**fault)
    code, output, errors = crh("push", checkpoint, name)
    assert (code, output) == (2, "")
    sentence = errors.strip().splitlines()[-1]
    count = len(CODE_FILES) + 4
    assert sentence.startswith(f"Error: Nothing was uploaded to '{name}', none of the {count} files (README.md, ")
    assert reason in sentence
    assert fingerprint(checkpoint) == before
    assert api.list_repo_files(name) == [".gitattributes"]
    faults()
    assert crh("push", checkpoint, name)[0] == 0
    assert len(api.list_repo_files(name)) == count + 1
    assert fingerprint(checkpoint) == before


def test_a_connection_that_breaks_off_once_is_taken_up_again(crh, checkpoint, faults, tmp_path):
    faults(upload=1)
    assert crh("push", checkpoint, "ada/once")[0] == 0
    faults(download=2)
    loaded, local = load_model("ada/once"), load_model(checkpoint)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in local.state_dict().items())


@pytest.mark.parametrize(
    ("token", "reason"),
    [("hf_nobody", "the Hub does not know the token"), ("hf_reader", "the token may not write there")],
)
def test_a_token_that_may_not_write_is_an_error(token, reason, crh, checkpoint, monkeypatch, api):
    monkeypatch.setenv("HF_TOKEN", token)
    code, output, errors = crh("push", checkpoint, "ada/denied")
    assert (code, output) == (2, "")
    assert reason in errors
    monkeypatch.setenv("HF_TOKEN", "hf_ada")
    assert not api.repo_exists("ada/denied")


def test_a_private_repository_is_seen_with_a_token_only(crh, checkpoint, api):
    assert crh("push", checkpoint, "ada/private", "--private")[0] == 0
    assert api.repo_info("ada/private").private
    assert CRHModel.from_pretrained("ada/private").config.num_bits == 16
    with pytest.raises(RepositoryNotFoundError, match="401"):
        api.repo_info("ada/private", token=False)


def test_what_is_public_does_not_pass_for_private(crh, checkpoint, api):
    assert crh("push", checkpoint, "ada/public")[0] == 0
    before = api.repo_info("ada/public").sha
    code, _, errors = crh("push", checkpoint, "ada/public", "--private")
    assert code == 2
    assert "`private` must be left out for 'ada/public', which exists and is public" in errors
    assert api.repo_info("ada/public").sha == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "ada/x"], "`checkpoint` must be a CRH model's folder or Hub id, but 'nowhere' is not"),
        (["CHECKPOINT", "ada/x", "--model", "ada/y"], "`model` must be given with codes or an index only"),
        (
            ["CHECKPOINT", "ada/x", "--type", "dataset", "--with-pictures"],
            "`with_pictures` must be left out with codes",
        ),
        (["CHECKPOINT", "ada/x", "--type", "dataset"], "`codes` must be a parquet file, or a folder that holds"),
    ],
)
def test_a_wrong_argument_is_an_error_before_anything_is_made(arguments, message, crh, checkpoint, api):
    code, output, errors = crh("push", *(checkpoint if word == "CHECKPOINT" else word for word in arguments))
    assert (code, output) == (2, "")
    assert message in errors
    assert not api.repo_exists("ada/x")


def test_what_is_not_on_the_hub_is_an_error_in_one_sentence(crh, checkpoint):
    crh("push", checkpoint, "ada/there")
    with pytest.raises(ValueError, match=r"`checkpoint` must be .*'ada/not-there' is not: "):
        load_checkpoint("ada/not-there")
    with pytest.raises(ValueError, match=r"`checkpoint` must be .*'ada/there' is not: .*v9"):
        load_model("ada/there", revision="v9")


def test_a_repository_of_pickles_is_refused(crh, checkpoint, api):
    crh("push", checkpoint, "ada/pickle")
    api.upload_file(path_or_fileobj=b"pickle", path_in_repo="pytorch_model.bin", repo_id="ada/pickle")
    api.delete_file("model.safetensors", "ada/pickle")
    with pytest.raises(ValueError, match=r"'ada/pickle' is not: .* model.safetensors"):
        load_model("ada/pickle")
