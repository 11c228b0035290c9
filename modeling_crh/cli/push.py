"""`crh push`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from modeling_crh.cli.options import Json
from modeling_crh.cli.terminal import print_summary


def push(
    source: Annotated[str, typer.Argument(help="Folder of a run or a checkpoint; or of codes, from `crh encode`.")],
    repo_id: Annotated[str, typer.Argument(help="ORG/NAME on the Hub; it is made if it is not there.")],
    kind: Annotated[
        Literal["model", "dataset"], typer.Option("--type", help="*model*; or *dataset*, for codes.")
    ] = "model",
    private: Annotated[bool, typer.Option("--private", help="A new repository is seen by you alone.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; it is made if it is not there.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence for the card, such as *apache-2.0*.")] = None,
    model: Annotated[str | None, typer.Option(help="Of codes: the model on the Hub that made them.")] = None,
    as_json: Json = False,
) -> None:
    """Put a model on the Hub, with its code, its processor and a card; or codes as a data set."""
    from modeling_crh.checkpoint import load_checkpoint
    from modeling_crh.code_dataset import push_codes
    from modeling_crh.hub import push_model

    visibility = True if private else None
    if kind == "dataset":
        commit = push_codes(source, repo_id, model=model, license=license, private=visibility, revision=revision)
    elif model is not None:
        raise ValueError(f"`model` must be given with codes only, but got {model!r} with a model.")
    else:
        trained, processor = load_checkpoint(source)
        run = source if Path(source).is_dir() else None
        commit = push_model(
            trained, repo_id, processor=processor, run=run, license=license, private=visibility, revision=revision
        )
    summary = {
        "repo": commit.repo_url.repo_id,
        "type": kind,
        "revision": revision or "main",
        "commit": commit.oid,
        "url": str(commit.repo_url),
    }
    print_summary(summary, f"{source} is at {commit.repo_url}, revision {summary['revision']}", as_json)
