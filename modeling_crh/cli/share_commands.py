"""`crh export`, `crh push`, `crh app` and `crh demo`."""

import json
import random
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from modeling_crh.cli.options import Json
from modeling_crh.runtime.terminal import errors, print_summary

_CALIBRATION_IMAGES = 256


def export(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id of a model.")],
    out: Annotated[Path, typer.Option(help="The new file, such as `model.onnx`.")],
    to: Annotated[Literal["onnx"], typer.Option(help="Format of the file.")] = "onnx",
    precision: Annotated[
        Literal["float32", "float16", "bfloat16", "int8"],
        typer.Option(help="*float16* and *bfloat16* store weights in half the bytes; *int8* computes in int8."),
    ] = "float32",
    calibration: Annotated[
        Path | None, typer.Option(help="For *int8*: a folder of images, of which 256 tell the ranges of activations.")
    ] = None,
    pixel_values: Annotated[
        bool, typer.Option("--pixel-values", help="Read normalized `pixel_values`, and not `images` of uint8.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a model as one file that gives packed codes under onnxruntime, without torch."""
    from modeling_crh.configuration_crh import is_hub_id
    from modeling_crh.encoding.loading import load_checkpoint
    from modeling_crh.export import check_new_file, export_onnx

    check_new_file(out)
    model, processor = load_checkpoint(checkpoint)
    with errors.status(f"Exporting {model.num_parameters():,} weights"):
        path = export_onnx(
            model,
            out,
            processor=processor,
            pixel_values=pixel_values,
            precision=precision,
            calibration=None if calibration is None else _some_images(calibration),
            model_name=checkpoint if is_hub_id(checkpoint) else Path(checkpoint).resolve().name,
        )
    summary = {
        "file": str(path),
        "format": to,
        "precision": precision,
        "num_bits": model.config.num_bits,
        "bytes": path.stat().st_size,
    }
    print_summary(summary, f"{model.config.num_bits} bits, {precision}, {summary['bytes']:,} bytes in {path}", as_json)


def _some_images(folder: Path) -> list[Path]:
    """256 image files at any depth, by a draw that is always the same; folders are often in the order of classes."""
    import PIL.Image

    suffixes = PIL.Image.registered_extensions()
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    if not files:
        raise ValueError(f"`calibration` must be a folder with images, but got {str(folder)!r}.")
    return random.Random(0).sample(files, min(_CALIBRATION_IMAGES, len(files)))


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
        from modeling_crh.hub.published_space import push_space

        commit = push_space(source, repo_id, model=str(model), image_root=image_root, **settings)
    elif kind == "dataset":
        from modeling_crh.hub.published_codes import push_codes

        commit = push_codes(source, repo_id, model=model, **settings)
    else:
        from modeling_crh.encoding.loading import load_checkpoint
        from modeling_crh.hub.push import push_model

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


def app(
    index: Annotated[str, typer.Argument(help="What `crh index` wrote, of codes of images: a file, or a table.")],
    model: Annotated[str, typer.Option(help="Folder or Hub id of the model that made the codes.")],
    image_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the database's images. Paths that lead out of it are not followed."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; *0.0.0.0* lets other machines in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port.", show_default="first free one from 7860 on")
    ] = None,
) -> None:
    """Show the search page of an index in a browser, until Ctrl-C."""
    from modeling_crh.app import build_page, serve

    serve(build_page(index, model, image_root=image_root), host, port)


Data = Annotated[
    Literal["fashion_mnist", "emoji"],
    typer.Option(help="*fashion_mnist*; or *emoji*, which trains twice: with centers that stay, and that move."),
]
Out = Annotated[Path | None, typer.Option(help="The demo's folder, new or empty.", show_default="runs/demo...")]


def demo(
    dataset: Data = "fashion_mnist",
    out: Out = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the whole emoji benchmark; without one the bundled sample.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
) -> None:
    """All of it on a bundled sample: train, evaluate, search, and write a report. The last line is JSON."""
    from modeling_crh.demo import run_demo, run_emoji_demo

    if dataset == "emoji":
        summary = run_emoji_demo(out or Path("runs/demo-emoji"), data_dir, seed)
    elif data_dir is not None:
        raise ValueError(f"`data_dir` must be given with the emoji only, but got {str(data_dir)!r} with {dataset}.")
    else:
        summary = run_demo(out or Path("runs/demo"), seed)
    typer.echo(json.dumps(summary))
