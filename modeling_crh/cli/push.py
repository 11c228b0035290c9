"""`crh push`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from modeling_crh.cli.options import Json
from modeling_crh.cli.terminal import print_summary


def push(
    source: Annotated[
        str, typer.Argument(help="Folder of a run or a checkpoint; of codes, from `crh encode`; or an index.")
    ],
    repo_id: Annotated[str, typer.Argument(help="ORG/NAME on the Hub; it is made if it is not there.")],
    kind: Annotated[
        Literal["model", "dataset"], typer.Option("--type", help="*model*; or *dataset*, for codes.")
    ] = "model",
    space: Annotated[
        bool, typer.Option("--space", help="Of an index: make its search page, as a Space with thumbnails.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="A new repository is seen by you alone.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; it is made if it is not there.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence for the card, such as *apache-2.0*.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Of codes and of an index: the model on the Hub that made them.")
    ] = None,
    image_root: Annotated[Path | None, typer.Option(help="Of a Space: the folder of the database's images.")] = None,
    as_json: Json = False,
) -> None:
    """Put a model on the Hub, with its code, its processor and a card; codes as a data set; an index as a Space."""
    _check(kind, space, model, image_root)
    settings: dict[str, Any] = {"license": license, "private": True if private else None, "revision": revision}
    if space:
        from modeling_crh.app.space import push_space

        commit = push_space(source, repo_id, model=str(model), image_root=image_root, **settings)
    elif kind == "dataset":
        from modeling_crh.code_dataset import push_codes

        commit = push_codes(source, repo_id, model=model, **settings)
    else:
        from modeling_crh.checkpoint import load_checkpoint
        from modeling_crh.hub import push_model

        trained, processor = load_checkpoint(source)
        run = source if Path(source).is_dir() else None
        commit = push_model(trained, repo_id, processor=processor, run=run, **settings)
    summary = {
        "repo": commit.repo_url.repo_id,
        "type": "space" if space else kind,
        "revision": revision or "main",
        "commit": commit.oid,
        "url": str(commit.repo_url),
    }
    print_summary(summary, f"{source} is at {commit.repo_url}, revision {summary['revision']}", as_json)


def _check(kind: str, space: bool, model: str | None, image_root: Path | None) -> None:
    if space and kind != "model":
        raise ValueError(f"`type` must be left out with `space`, but got {kind!r}.")
    if image_root is not None and not space:
        raise ValueError(f"`image_root` must be given with `space` only, but got {str(image_root)!r} without.")
    if model is not None and kind == "model" and not space:
        raise ValueError(f"`model` must be given with codes only, but got {model!r} with a model.")
    if model is None and space:
        raise ValueError("`model` must be given with `space`: the id of the model on the Hub that made the codes.")
