"""`crh export`, `crh push`, `crh app` and `crh demo`."""

import json
import random
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from modeling_crh.cli.options import Compiled, Json, Precision, argument, option
from modeling_crh.runtime.terminal import print_summary, stderr_console

_CALIBRATION_IMAGES = 256


def export(
    checkpoint: Annotated[str, argument("Folder or Hub id of a model.")],
    out: Annotated[Path, option("New file to write, such as `model.onnx`; for sentence-transformers, a new folder.")],
    to: Annotated[
        Literal["onnx", "sentence-transformers"],
        option(
            "*onnx*; or *sentence-transformers*, for a model of texts, whose `encode(texts, precision='ubinary')` "
            "gives the codes."
        ),
    ] = "onnx",
    precision: Annotated[
        Literal["float32", "float16", "bfloat16", "int8"],
        option("*float16* and *bfloat16* store weights in half the bytes; *int8* computes in int8."),
    ] = "float32",
    calibration: Annotated[
        Path | None,
        option(
            f"Folder of images; {_CALIBRATION_IMAGES} of them give the ranges of activations for *int8*.",
            shown="ranges of every batch",
        ),
    ] = None,
    pixel_values: Annotated[
        bool, option("Read normalized `pixel_values` instead of `images` of uint8.", "--pixel-values")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a model in a format that computes packed codes without this library."""
    from modeling_crh.configuration_crh import is_hub_id
    from modeling_crh.encoding.loading import load_checkpoint

    name = checkpoint if is_hub_id(checkpoint) else Path(checkpoint).resolve().name
    if to == "sentence-transformers":
        for option, value, default in (
            ("precision", precision, "float32"),
            ("calibration", calibration, None),
            ("pixel_values", pixel_values, False),
        ):
            if value != default:
                raise ValueError(f"`{option}` must be left out for sentence-transformers, but got {str(value)!r}.")
        from modeling_crh.export import export_sentence_transformers

        model, tokenizer = load_checkpoint(checkpoint)
        folder = export_sentence_transformers(model, out, tokenizer=cast(Any, tokenizer), name=name)
        summary = {"folder": str(folder), "format": to, "num_bits": model.config.num_bits}
        print_summary(summary, f"{model.config.num_bits} bits, for sentence-transformers, in {folder}", as_json)
        return
    from modeling_crh.export import check_new_file, export_onnx

    check_new_file(out)
    model, processor = load_checkpoint(checkpoint)
    with stderr_console().status(f"Exporting {model.num_parameters():,} weights"):
        path = export_onnx(
            model,
            out,
            processor=processor,
            pixel_values=pixel_values,
            precision=precision,
            calibration=None if calibration is None else _some_images(calibration),
            model_name=name,
        )
    bits, size = model.config.num_bits, path.stat().st_size
    summary = {"file": str(path), "format": to, "precision": precision, "num_bits": bits, "bytes": size}
    print_summary(summary, f"{bits} bits, {precision}, {size:,} bytes in {path}", as_json)


def _some_images(folder: Path) -> list[Path]:
    """Draw a fixed random sample of the image files of a folder: the first ones might all be of one class."""
    from modeling_crh.data.folders import media_files

    files = [folder / file for file in media_files(folder, "image").files] if folder.is_dir() else []
    if not files:
        raise ValueError(f"`calibration` must be a folder with images, but got {str(folder)!r}.")
    return random.Random(0).sample(files, min(_CALIBRATION_IMAGES, len(files)))


def push(
    source: Annotated[str, argument("Folder of a run, a checkpoint or codes (from `crh encode`); or an index.")],
    repo_id: Annotated[str, argument("Repository ORG/NAME on the Hub, created if it does not exist.")],
    kind: Annotated[
        Literal["model", "dataset"], option("*model*; or *dataset*, for codes and the codes of an index.", "--type")
    ] = "model",
    space: Annotated[bool, option("Publish the search page of an index, as a Space.", "--space")] = False,
    private: Annotated[
        bool, option("Make a new repository private.", "--private", shown="the account's setting")
    ] = False,
    revision: Annotated[str | None, option("Branch, created if it does not exist.", shown="main")] = None,
    license: Annotated[str | None, option("Licence for the card, such as *apache-2.0*.")] = None,
    model: Annotated[str | None, option("Hub id of the model that made the codes, for codes and for an index.")] = None,
    with_pictures: Annotated[
        bool, option("Publish images of the data: a run's contact sheet, or thumbnails.", "--with-pictures")
    ] = False,
    example: Annotated[
        Path | None, option("Image to publish for the widget of a model's page.", shown="no image")
    ] = None,
    image_root: Annotated[
        Path | None, option("Folder of the images of the database, for a Space with pictures.")
    ] = None,
    adapter: Annotated[
        bool, option("Upload the LoRA adapter of a run instead of its merged model.", "--adapter")
    ] = False,
    dry_run: Annotated[
        bool, option("Show files and texts that would be uploaded, and ask nothing of the Hub.", "--dry-run")
    ] = False,
    as_json: Json = False,
) -> None:
    """Upload a model with its code, processor and card, or codes as a dataset, or the search page of an index."""
    from modeling_crh.encoding.adapters import ADAPTER_FOLDER
    from modeling_crh.encoding.loading import load_checkpoint
    from modeling_crh.hub.push import push_model

    _check_push(source, kind, space, model, image_root, with_pictures)
    if adapter and (space or kind == "dataset"):
        raise ValueError("`adapter` must be given with the run of a model only.")
    if example is not None and (space or kind == "dataset"):
        raise ValueError(f"`example` must be given with a model only, but got {str(example)!r} without.")
    if dry_run and as_json:
        raise ValueError("`json` must be left out with `dry_run`, which shows texts.")
    settings: dict[str, Any] = {"license": license, "private": private or None, "revision": revision}
    settings["dry_run"] = dry_run
    if space:
        from modeling_crh.hub.space import push_space  # with FAISS, which is optional

        settings |= {"image_root": image_root, "with_pictures": with_pictures}
        commit = push_space(source, repo_id, model=str(model), **settings)
    elif kind == "dataset" and _is_index(source):
        from modeling_crh.search import read_index

        commit = read_index(source, "flat").push_to_hub(repo_id, model=model, **settings)
    elif kind == "dataset":
        from modeling_crh.hub.published_codes import push_codes

        commit = push_codes(source, repo_id, model=model, **settings)
    else:
        trained, processor = load_checkpoint(source)
        run = source if Path(source).is_dir() else None
        settings |= {"with_pictures": with_pictures, "example": example, "run": run}
        settings["adapter"] = Path(source, ADAPTER_FOLDER) if adapter else None
        commit = push_model(trained, repo_id, processor=processor, **settings)
    if commit is None:
        return
    summary = {
        "repo": commit.repo_url.repo_id,
        "type": "space" if space else kind,
        "revision": revision or "main",
        "commit": commit.oid,
        "url": str(commit.repo_url),
    }
    print_summary(summary, f"{source} is at {commit.repo_url}, revision {summary['revision']}", as_json)


def _is_index(source: str) -> bool:
    from modeling_crh.search.code_index import is_table_uri
    from modeling_crh.search.index_file import is_index_file

    return is_table_uri(source) or (Path(source).is_file() and is_index_file(source))


def _check_push(
    source: str, kind: str, space: bool, model: str | None, image_root: Path | None, with_pictures: bool
) -> None:
    if space and kind != "model":
        raise ValueError(f"`type` must be left out with `space`, but got {kind!r}.")
    if image_root is not None and not space:
        raise ValueError(f"`image_root` must be given with `space` only, but got {str(image_root)!r} without.")
    if model is not None and kind == "model" and not space:
        raise ValueError(f"`model` must be given with codes or an index only, but got {model!r} with a model.")
    if model is None and space:
        raise ValueError("`model` must be given with `space`: the id of the model on the Hub that made the codes.")
    if kind == "model" and not space and (_is_index(source) or any(Path(source).glob("codes-*.parquet"))):
        raise ValueError(f"`type` must be 'dataset', or `space` be given, to push the codes in {source!r}.")
    if with_pictures and kind == "dataset":
        raise ValueError("`with_pictures` must be left out with codes, which have no pictures.")


def app(
    index: Annotated[str, argument("File or table of codes of images, from `crh index`.")],
    model: Annotated[str, option("Folder or Hub id of the model that made the codes.")],
    text_model: Annotated[
        str | None,
        option(
            "Folder or Hub id of a model of texts, trained by `--centers-from` to the centers of that model, to "
            "search by words.",
            shown="no words",
        ),
    ] = None,
    image_root: Annotated[
        Path | None, option("Folder of the database's images. Paths that lead out of it are refused.")
    ] = None,
    host: Annotated[str, option("Address to listen on; *0.0.0.0* admits other machines.")] = "127.0.0.1",
    allowed_host: Annotated[
        list[str] | None,
        option(
            "Name by which browsers may ask for the page, such as *photos.example.org*, beside the host and this "
            "machine; may be given several times.",
            shown=False,
        ),
    ] = None,
    port: Annotated[int | None, option("Port to listen on.", shown="first free from 7860 on", min=1, max=65535)] = None,
    dtype: Precision = "auto",
    compiled: Compiled = False,
) -> None:
    """Show the search page of an index in a browser, until Ctrl-C."""
    from modeling_crh.app import build_page, serve

    settings: dict[str, Any] = {"dtype": dtype, "compiled": compiled}
    page = build_page(index, model, text_model=text_model, image_root=image_root, **settings)
    serve(page, host, port, allowed_host or ())


def demo(
    dataset: Annotated[
        Literal["fashion_mnist", "emoji"],
        option("*fashion_mnist*, or *emoji*, which compares fixed centers with reassigned centers."),
    ] = "fashion_mnist",
    out: Annotated[Path | None, option("Folder to write, new or empty.", shown="runs/demo or runs/demo-emoji")] = None,
    data_dir: Annotated[Path | None, option("Folder of the whole emoji benchmark.", shown="the bundled sample")] = None,
    seed: Annotated[int, option("Seed of all random numbers.", min=0)] = 0,
) -> None:
    """Train, evaluate, search and write a report on a bundled sample. The last line of output is JSON."""
    from modeling_crh.demo.demos import run_demo, run_emoji_demo

    if dataset == "emoji":
        summary = run_emoji_demo(out or Path("runs/demo-emoji"), data_dir, seed)
    elif data_dir is not None:
        raise ValueError(f"`data_dir` must be given with emoji only, but got {str(data_dir)!r} with {dataset}.")
    else:
        summary = run_demo(out or Path("runs/demo"), seed)
    typer.echo(json.dumps(summary))
