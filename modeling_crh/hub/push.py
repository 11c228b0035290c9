"""Put a model on the Hub: all that loading and running it needs, and nothing of the machine that it comes from."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitInfo, HfApi, ModelCard
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from huggingface_hub.utils import httpx, validate_repo_id  # type: ignore[attr-defined] # by its `__getattr__`
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel

from modeling_crh.hub.cards import is_written, model_card
from modeling_crh.hub.run_record import RunRecord, read_run

_FAILURES = (OSError, RuntimeError, httpx.HTTPError)  # RuntimeError: what the client makes of a failed large file
_REASONS = {
    401: "the Hub does not know the token, or there is none; `hf auth login` stores one",
    403: "the token may not write there",
    404: "there is no such repository, or the token may not see it",
    409: "it was changed at the same time",
}


def push_model(
    model: PreTrainedModel,
    repo_id: str,
    *,
    processor: Any = None,
    run: str | Path | RunRecord | None = None,
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
    commit_message: str = "Upload model",
    commit_description: str | None = None,
    max_shard_size: int | str = "50GB",
    tags: list[str] | None = None,
) -> CommitInfo:
    """Put a model on the Hub in one commit: weights as safetensors, config, code, processor, record of its run, card.

    A card that somebody has written, in the run's folder or in the repository, stays as it is.

    Args:
        model: A `CRHModel`.
        repo_id: Such as `org/name`; it is made if it is not there.
        processor: Image processor or tokenizer. None takes the one that was saved with what the model was loaded from.
        run: Folder of the run that ended in this model, of which the card tells; None leaves the card without figures.
        license: As the Hub names licences, such as `apache-2.0`.
        private: Of a new repository; None is the organization's default.
        revision: Branch, made if it is not there; None is the main one.
        token: None takes the one that `hf auth login` has stored.
        create_pr: Open a pull request instead.
        commit_message: First line of the commit.
        commit_description: The rest of it.
        max_shard_size: Of one file of weights.
        tags: Further ones for the card.

    Returns:
        The commit.

    Raises:
        ValueError: If an argument breaks its rule, or `private` is asked for and the repository is there and public.
        OSError: If it was not uploaded; then the repository holds nothing of it.
    """
    check_repo_id(repo_id)
    record = run if isinstance(run, RunRecord) else RunRecord() if run is None else read_run(run)
    processor = processor if processor is not None else _find_processor(model, token)
    card = model_card(
        model.config,  # type: ignore[arg-type]
        model.main_input_name,
        repo_id,
        record,
        license=license,
        revision=revision,
        tags=tags,
    )
    with TemporaryDirectory() as name:
        folder = Path(name)
        _fill(folder, model, processor, record, str(card), max_shard_size)
        return upload(
            folder,
            repo_id,
            keep_card=not is_written(record.readme),
            private=private,
            revision=revision,
            token=token,
            create_pr=create_pr,
            commit_message=commit_message,
            commit_description=commit_description,
        )


def _fill(
    folder: Path, model: PreTrainedModel, processor: Any, record: RunRecord, card: str, max_shard_size: int | str
) -> None:
    """Write all that a repository is to hold; a card that somebody has written takes the place of `card`."""
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    if processor is not None:
        processor.save_pretrained(folder)
    record.save(folder)
    written = record.readme if is_written(record.readme) else None
    (folder / "README.md").write_text(written or card, encoding="utf-8")


def upload(
    folder: Path,
    repo_id: str,
    *,
    keep_card: bool,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    **commit: Any,
) -> CommitInfo:
    """Upload a folder in one commit, which is there whole or not at all.

    Args:
        folder: Its files, and their names in the repository.
        repo_id: Such as `org/name`.
        keep_card: Whether a card that somebody has written in the repository takes the place of the folder's.
        repo_type: `model`, `dataset` or `space`.
        private: See `push_model`.
        revision: See `push_model`.
        token: See `push_model`.
        **commit: What `HfApi.upload_folder` takes beside these.

    Raises:
        ValueError: See `push_model`.
        OSError: See `push_model`.
    """
    api = HfApi(token=token)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    try:
        sdk = "gradio" if repo_type == "space" else None
        api.create_repo(repo_id, repo_type=repo_type, space_sdk=sdk, private=private, exist_ok=True)
        if private and not api.repo_info(repo_id, repo_type=repo_type).private:
            raise ValueError(f"`private` must be left out for {repo_id!r}, which is there already, and public.")
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
        if keep_card:
            _keep_card(api, folder, repo_id, repo_type, revision)
        done: CommitInfo = api.upload_folder(
            repo_id=repo_id, repo_type=repo_type, folder_path=folder, revision=revision, **commit
        )
    except _FAILURES as error:
        raise OSError(
            f"Nothing was uploaded to {repo_id!r}, none of the {len(files)} files ({', '.join(files)}): "
            f"{_reason(error)}. Running it again uploads them."
        ) from error
    return done


def check_repo_id(repo_id: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        ValueError: If it is none.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"`repo_id` must be a name such as 'org/name', but got {repo_id!r}.") from error


def _keep_card(api: HfApi, folder: Path, repo_id: str, repo_type: str, revision: str | None) -> None:
    """Leave the repository's card where somebody has written it; of a mere licence, keep that."""
    try:
        file = api.hf_hub_download(repo_id, "README.md", repo_type=repo_type, revision=revision)
    except EntryNotFoundError:
        return
    found, own = Path(file).read_text(encoding="utf-8"), folder / "README.md"
    if is_written(found):
        own.write_text(found, encoding="utf-8")
        return
    license = ModelCard(found, ignore_metadata_errors=True).data.get("license")
    card = ModelCard(own.read_text(encoding="utf-8"))
    if license is not None and card.data.get("license") is None:
        card.data["license"] = license
        own.write_text(str(card), encoding="utf-8")


def _find_processor(model: PreTrainedModel, token: str | bool | None) -> Any:
    """Image processor or tokenizer of what the model, or else its backbone, was loaded from; None for features."""
    if model.main_input_name == "features":
        return None
    config: Any = model.config
    for name in (config._name_or_path, getattr(config.backbone_config, "_name_or_path", None)):
        if not name:
            continue
        try:
            if model.main_input_name == "input_ids":
                return AutoTokenizer.from_pretrained(name, token=token)
            return AutoImageProcessor.from_pretrained(name, token=token, do_convert_rgb=True)
        except (OSError, ValueError):
            continue
    raise ValueError("`processor` must be the model's image processor or tokenizer: none was found where it is from.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _reason(error: BaseException) -> str:
    """Why an upload failed, in a few words."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            return _REASONS.get(status, f"the Hub answered {status} {cause.server_message or ''}".rstrip(" ."))
    words = [str(cause).strip().partition("\n")[0].rstrip(".") or type(cause).__name__ for cause in chain]
    broken = next((row for row, cause in enumerate(chain) if isinstance(cause, httpx.HTTPError)), None)
    return words[0] if broken is None else ": ".join([*words[:broken], "the connection broke", words[broken]])
