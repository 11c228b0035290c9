"""`crh export`."""

import random
from pathlib import Path
from typing import Annotated, Literal

import typer

from modeling_crh.cli.options import Json
from modeling_crh.cli.terminal import errors, print_summary

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
    from modeling_crh.checkpoint import load_checkpoint
    from modeling_crh.configuration_crh import is_hub_id
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
