import httpx
import pytest
from tiny_commands import refusal


@pytest.fixture
def interrupted(monkeypatch):
    """Let the command serve, look at what it serves, and press Ctrl-C."""
    seen = []

    def press():
        seen.append(True)
        raise KeyboardInterrupt

    monkeypatch.setattr("modeling_crh.app.server.wait_for_interrupt", press)
    return seen


def test_the_command_serves_until_it_is_interrupted(crh, index_path, checkpoint, image_root, interrupted):
    code, output, errors = crh("app", index_path, "--model", checkpoint, "--image-root", image_root)
    assert (code, output, interrupted) == (130, "", [True])
    assert errors.startswith("The search page is at http://127.0.0.1:")
    assert errors.endswith("\nInterrupted.\n")
    with pytest.raises(httpx.ConnectError):
        httpx.get(errors.split()[-2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.crh", "--model", "CHECKPOINT"], "`path` must be the file of an index, but there is no file"),
        (["INDEX", "--model", "org/other"], "`model` must be the one that made the codes of the index"),
        (["INDEX", "--model", "CHECKPOINT", "--image-root", "nowhere"], "`image_root` must be a folder, but got"),
        (["INDEX", "--model", "CHECKPOINT", "--image-root", "."], "`image_root` must hold images of the index"),
        (["INDEX", "--model", "CHECKPOINT", "--allowed-host", "http://x"], "`allowed_hosts` must be names or"),
        (["INDEX"], "--model"),
        (["INDEX", "--model", "CHECKPOINT", "--port", "0"], "--port"),
    ],
)
def test_bad_arguments_get_one_sentence(crh, index_path, checkpoint, arguments, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given = {"INDEX": index_path, "CHECKPOINT": checkpoint}
    assert message in refusal(crh("app", *(given.get(word, word) for word in arguments)))
