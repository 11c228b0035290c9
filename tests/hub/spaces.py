"""Search pages on the Hub, as Spaces; collected by test_hub.py, in whose process the Hub is a loopback one."""

import runpy
from pathlib import Path

import gradio
import httpx
import pytest
from app.talk import ask
from huggingface_hub import SpaceCard
from tiny_commands import done, refusal

from modeling_crh import CRHModel
from modeling_crh.app.finder import stored_pictures
from modeling_crh.encoding import Encoder
from modeling_crh.search import HammingIndex

SPACE = ["--space", "--model", "ada/eyes"]


@pytest.fixture(scope="module")
def database(tiny_checkpoint, image_folder, tmp_path_factory):
    """An index of 60 images by a checkpoint of this machine, which is on the Hub too."""
    file = tmp_path_factory.mktemp("database") / "index.crh"
    paths = sorted(map(str, image_folder.rglob("*.png")))
    packed = Encoder.load(tiny_checkpoint).packed(paths)
    labels = [Path(path).parent.name for path in paths]
    HammingIndex(packed, labels=labels, paths=paths, model=str(tiny_checkpoint)).save(file)
    CRHModel.from_pretrained(tiny_checkpoint).push_to_hub("ada/eyes")
    return file


@pytest.fixture
def served(monkeypatch):
    """Run the page of a Space as the Hub does, and ask it something before it is interrupted."""
    addresses, answers = [], []

    def look():
        (address,) = addresses
        answers.append(httpx.get(address, headers={"Host": "ada-search.hf.space"}).raise_for_status().text)
        answers.append(ask(address, "by_item", [5, 16], {"position": 7}))
        raise KeyboardInterrupt

    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("SPACE_HOST", "ada-search.hf.space")
    monkeypatch.setattr("modeling_crh.app.server.wait_for_interrupt", look)
    monkeypatch.setattr("modeling_crh.app.server.say", lambda text: addresses.append(text.split()[-1]))

    def serve(folder):
        with pytest.raises(KeyboardInterrupt):
            runpy.run_path(str(folder / "app.py"), run_name="__main__")
        return answers

    return serve


def test_a_search_page_goes_up_and_runs_as_it_stands(
    crh, database, image_folder, tiny_checkpoint, api, served, tmp_path
):
    options = [*SPACE, "--image-root", image_folder, "--with-pictures", "--license", "mit", "--json"]
    summary = done(crh("push", database, "ada/search", *options))
    assert (summary["repo"], summary["type"]) == ("ada/search", "space")
    assert summary["url"].endswith("/spaces/ada/search")
    folder = tmp_path / "space"
    api.snapshot_download("ada/search", repo_type="space", local_dir=folder)
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert set(files) == {".gitattributes", "README.md", "app.py", "index.crh", "pictures.bin", "requirements.txt"}
    for private in (image_folder, tiny_checkpoint):
        assert not any(str(private).encode() in content for content in files.values())
    local, public = HammingIndex.load(database), HammingIndex.load(folder / "index.crh")
    assert public.model == "ada/eyes"
    assert public.packed.tolist() == local.packed.tolist()
    assert public.records([3])[0]["path"] is None
    assert all(stored_pictures(folder / "pictures.bin")(position, None).uri for position in range(60))
    assert files["requirements.txt"].startswith(b"modeling-crh[app]==")
    page, answer = served(folder)
    assert "ada/eyes" in page
    shown = answer["output"]["data"][2]
    assert (shown.count("data-position"), shown.count("data:image/png;base64,")) == (5, 6)


def test_its_card_tells_the_hub_how_to_run_it(crh, database, api):
    done(crh("push", database, "ada/card", *SPACE))
    card = SpaceCard.load("ada/card")
    card.validate()
    assert (card.data.sdk, card.data.sdk_version, card.data.app_file) == ("gradio", gradio.__version__, "app.py")
    assert card.data.models == ["ada/eyes"]
    assert card.data.python_version.startswith("3.")
    assert "Search 60 images by codes of 16 bits" in card.text
    assert "holds no pictures of" in card.text
    assert not api.file_exists("ada/card", "pictures.bin", repo_type="space")


def test_a_card_that_somebody_has_written_keeps_its_text(crh, database, api):
    api.create_repo("ada/kept", repo_type="space", space_sdk="static")
    for text, kept in (("See https://huggingface.co/docs/hub/spaces-config-reference", False), ("My words.", True)):
        written = f"---\ntitle: Mine\nsdk: static\n---\n\n{text}\n".encode()
        api.upload_file(path_or_fileobj=written, path_in_repo="README.md", repo_id="ada/kept", repo_type="space")
        done(crh("push", database, "ada/kept", *SPACE))
        card = SpaceCard.load("ada/kept")
        assert (card.data.sdk, card.data.models) == ("gradio", ["ada/eyes"])
        assert (card.data.title == "Mine", text in card.text) == (kept, kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space"], "`model` must be given with `space`"),
        (["--space", "--type", "dataset", "--model", "ada/eyes"], "`type` must be left out with `space`, but got"),
        (["--image-root", "."], "`image_root` must be given with `space` only, but got '.' without"),
        (["--space", "--model", "/a/folder"], "`model` must be the id of a model on the Hub, such as 'org/name'"),
        (["--space", "--model", "ada/nothing"], "`checkpoint` must be a CRH model's folder or Hub id"),
        ([*SPACE, "--image-root", "."], "`image_root` and `with_pictures` must come together"),
        ([*SPACE, "--with-pictures"], "`image_root` and `with_pictures` must come together"),
        ([*SPACE, "--with-pictures", "--image-root", "nowhere"], "`image_root` must be a folder, but"),
        ([*SPACE, "--with-pictures", "--image-root", "EMPTY"], "`image_root` must hold images of the index"),
    ],
)
def test_a_wrong_argument_is_an_error_before_anything_is_made(arguments, message, crh, database, api, tmp_path):
    given = [tmp_path if word == "EMPTY" else word for word in arguments]
    assert message in refusal(crh("push", database, "ada/wrong", *given))
    assert not api.repo_exists("ada/wrong", repo_type="space")


def test_the_index_of_another_model_of_the_hub_is_refused(crh, database, tmp_path):
    HammingIndex(HammingIndex.load(database).packed, model="ada/others").save(tmp_path / "index")
    said = refusal(crh("push", tmp_path / "index", "ada/wrong", *SPACE))
    assert "`model` must be the one that made the codes of the index, 'ada/others', but got 'ada/eyes'" in said
