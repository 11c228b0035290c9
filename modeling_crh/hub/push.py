"""Upload a model, codes or a search page to the Hub in one commit."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypedDict, Unpack

import PIL.Image
import yaml
from huggingface_hub import CommitInfo, HfApi, RepoCard
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # by its `__getattr__`
from transformers import PreTrainedModel

from modeling_crh.checks import first_line, one_reason
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.adapters import ADAPTER_FILE, merged_copy, read_adapter
from modeling_crh.encoding.inputs import load_processor
from modeling_crh.file_bytes import httpx
from modeling_crh.hub.cards import is_written, model_card
from modeling_crh.hub.run_record import RunRecord, is_public_id, public_config, read_run
from modeling_crh.images import ImageSource, read_image
from modeling_crh.processors import fit_processor
from modeling_crh.runtime.atomic_files import write_json
from modeling_crh.runtime.terminal import print_files

_REASONS = {
    401: "the Hub does not know the token, or there is none; `hf auth login` stores one",
    403: "the token may not write there",
    404: "there is no such repository, or the token may not see it",
    409: "it was changed at the same time",
}
_MESSAGES = {"model": "Upload model", "dataset": "Upload codes", "space": "Upload search page"}
_EXAMPLE = "example.png"
_SPACE_FIELDS = ("sdk", "sdk_version", "python_version", "app_file", "models")  # what a Space needs to run


class Destination(TypedDict, total=False):
    """Keyword arguments of every push: branch, access and commit message.

    Attributes:
        private: Whether a new repository is private; None means the default of the account.
        revision: Branch, created if it does not exist; None means the main branch.
        token: Access token; None means the token that `hf auth login` has stored.
        create_pr: Whether to open a pull request instead.
        commit_message: First line of the commit message; by default the kind of upload.
        commit_description: Rest of the commit message.
        dry_run: Whether to print what would be uploaded, its files and texts, and to ask nothing of the Hub.
    """

    private: bool | None
    revision: str | None
    token: str | bool | None
    create_pr: bool
    commit_message: str
    commit_description: str | None
    dry_run: bool


def push_model(
    model: PreTrainedModel,
    repo_id: str,
    *,
    processor: Any = None,
    run: str | Path | RunRecord | None = None,
    with_pictures: bool = False,
    example: ImageSource | None = None,
    adapter: str | Path | None = None,
    license: str | None = None,
    tags: list[str] | None = None,
    max_shard_size: int | str = "50GB",
    **destination: Unpack[Destination],
) -> CommitInfo | None:
    """Upload a model: weights as safetensors, config, code, processor, record of its run and card.

    LoRA weights that are not merged yet are merged in what is uploaded.
    A card that a person wrote, in the run's folder or in the repository, stays as it is.

    Args:
        model: Trained `CRHModel`.
        repo_id: Repository such as `org/name`, created if it does not exist.
        processor: Image processor or tokenizer; None takes the one saved with the loaded model.
        run: Folder of the run that trained the model, for the card; None makes a card without figures.
        with_pictures: Whether to publish the run's contact sheet, which shows images of the data.
        example: Image to publish as `example.png`, of at most 512 pixels a side, for the widget of the model's page.
        adapter: Folder of the model's LoRA adapter, such as `adapter` in that of its run, to upload instead of weights
            and code. It is loaded with this library, on the base that it names, which must be on the Hub.
        license: Hub name of the licence, such as `apache-2.0`.
        tags: More tags of the card.
        max_shard_size: Size above which the weights are split into several files.
        **destination: Branch, access token and commit message, see `Destination`.

    Returns:
        The commit; None for a dry run.

    Raises:
        ValueError: If an argument has a value that its rule does not allow, or `private` is True and the repository
            exists and is public.
        OSError: If the upload failed; nothing is then uploaded.
    """
    check_names(repo_id)
    if run is None:
        run = RunRecord()
    record = run if isinstance(run, RunRecord) else read_run(run, with_pictures=with_pictures)
    if processor is None:
        processor = _find_processor(model, destination.get("token"))
    processor = fit_processor(processor, model)
    base = None if adapter is None else _public_base(Path(adapter, ADAPTER_FILE))
    revision = destination.get("revision")
    if example is not None and model.main_input_name != "pixel_values":
        raise ValueError(f"`example` must be left out for a model that reads `{model.main_input_name}`.")
    picture = None if example is None else PIL.Image.fromarray(read_image(example))
    words: dict[str, Any] = {"license": license, "revision": revision, "tags": tags, "adapter_base": base}
    card = model_card(model, repo_id, record, example=None if picture is None else _EXAMPLE, **words)

    def stage(folder: Path) -> None:
        if adapter is None:
            merged_copy(model).save_pretrained(folder, max_shard_size=max_shard_size)
        else:
            for name in (ADAPTER_FILE, "config.json"):
                shutil.copyfile(Path(adapter, name), folder / name)
        if processor is not None:
            processor.save_pretrained(folder)
        file = folder / "config.json"
        write_json(file, public_config(json.loads(file.read_bytes()), type(model.config)))
        record.save(folder)
        if picture is not None:
            picture.thumbnail((512, 512))
            picture.save(folder / _EXAMPLE)  # without the metadata of the file, such as the place of a photo
        text = record.readme if record.readme is not None and is_written(record.readme) else str(card)
        (folder / "README.md").write_text(text, encoding="utf-8")

    replaced = [ADAPTER_FILE] if adapter is None else ["model*.safetensors*", "*.py"]
    return upload(stage, repo_id, destination, delete_patterns=replaced)


def upload(
    stage: Callable[[Path], None],
    repo_id: str,
    destination: Destination,
    *,
    repo_type: Literal["model", "dataset", "space"] = "model",
    delete_patterns: list[str] | None = None,
) -> CommitInfo | None:
    """Upload the files and the card, `README.md`, that `stage` writes into a folder, in one commit; see `push_model`.

    Files of earlier pushes that match `delete_patterns`, such as `codes*.parquet`, are deleted.
    """
    commit: dict[str, Any] = {"commit_message": _MESSAGES[repo_type], **destination}
    private, revision, is_dry = commit.pop("private", None), commit.get("revision"), commit.pop("dry_run", False)
    with TemporaryDirectory() as name:
        folder = Path(name)
        stage(folder)
        own = _read_card(folder / "README.md")
        if is_dry:
            print_files(folder, f"{repo_type.capitalize()} {repo_id} would have")
            return None
        api = HfApi(token=commit.get("token"))
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        try:
            sdk = "gradio" if repo_type == "space" else None
            api.create_repo(repo_id, repo_type=repo_type, space_sdk=sdk, private=private, exist_ok=True)
            if private and not api.repo_info(repo_id, repo_type=repo_type).private:
                raise ValueError(f"`private` must be left out for {repo_id!r}, which exists and is public.")
            if revision is not None and not revision.startswith("refs/"):
                api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
            _keep_card(api, own, folder / "README.md", repo_id, repo_type, revision)
            done: CommitInfo = api.upload_folder(
                repo_id=repo_id, repo_type=repo_type, folder_path=folder, delete_patterns=delete_patterns, **commit
            )
        except (OSError, httpx.HTTPError, RuntimeError) as error:
            # the client raises a RuntimeError for a connection that broke in a large file
            if isinstance(error, RuntimeError) and not isinstance(error.__cause__, OSError | httpx.HTTPError):
                raise
            raise OSError(
                f"Nothing was uploaded to {repo_id!r}, none of the {len(files)} files ({', '.join(files)}): "
                f"{_reason(error)}. Running it again uploads them."
            ) from error
    return done


def check_names(repo_id: str, model: str | None = None) -> None:
    """Check that `repo_id` is a valid name of a repository, and `model` is a Hub id."""
    if model is not None and not is_hub_id(model):
        raise ValueError(f"`model` must be the id of a model on the Hub, such as 'org/name', but got {model!r}.")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"`repo_id` must be a name such as 'org/name', but got {repo_id!r}.") from error


def _public_base(file: Path) -> str:
    """Return the Hub id of the base of an adapter."""
    if not file.is_file():
        raise FileNotFoundError(f"`adapter` must be a folder with {file.name}, but {str(file.parent)!r} is none.")
    name = str(read_adapter(file)[0]["base"]["name"])
    if not is_public_id(name):
        raise ValueError(
            f"`adapter` must have a base on the Hub, such as 'org/name', to be uploaded without it, but has {name!r}."
        )
    return name


def _read_card(file: Path, **settings: Any) -> RepoCard:
    with one_reason("`README.md` must begin with a mapping in YAML or none, but does not", ValueError, yaml.YAMLError):
        return RepoCard(file.read_text(encoding="utf-8"), **settings)


def _keep_card(api: HfApi, own: RepoCard, card: Path, repo_id: str, repo_type: str, revision: str | None) -> None:
    """Keep the text of the repository's card if a person wrote it; of any other card, keep the licence."""
    if is_written(own.content):
        return  # the card comes from the run's folder
    try:
        file = api.hf_hub_download(repo_id, "README.md", repo_type=repo_type, revision=revision)
    except EntryNotFoundError:
        return
    found = _read_card(Path(file), ignore_metadata_errors=True)
    if not is_written(found.content):
        if own.data.get("license") is None and found.data.get("license") is not None:
            own.data["license"] = found.data["license"]
            card.write_text(str(own), encoding="utf-8")
        return
    if repo_type == "space":
        for name in _SPACE_FIELDS:
            found.data[name] = own.data[name]
    card.write_text(str(found) if repo_type == "space" else found.content, encoding="utf-8")


def _find_processor(model: PreTrainedModel, token: str | bool | None) -> Any:
    """Load the image processor or tokenizer of the model, or else of its backbone; None for a model of features."""
    if model.main_input_name == "features":
        return None
    config: Any = model.config
    for name in (config._name_or_path, getattr(config.backbone_config, "_name_or_path", None)):
        if name:
            with suppress(OSError, ValueError):
                return load_processor(name, model, token=token)
    raise ValueError("`processor` must be the model's image processor or tokenizer: none was saved with the model.")


def _reason(error: BaseException) -> str:
    """Describe in a few words why an upload failed."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    for cause in chain:
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            return _REASONS.get(status, f"the Hub answered {status} {cause.server_message or ''}".rstrip(" ."))
    words = [first_line(cause) for cause in chain]
    broken = next((row for row, cause in enumerate(chain) if isinstance(cause, httpx.HTTPError)), None)
    return words[0] if broken is None else ": ".join([*words[:broken], "the connection broke", words[broken]])
