"""The one place that prints: progress bars, tables, messages, and text that others may have made."""

import json
import os
import sys
from functools import partial
from typing import Any

import typer
from huggingface_hub.errors import StrictDataclassError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

progress_bar = partial(tqdm, delay=2, disable=None, leave=False)
"""`tqdm` on standard error that appears after two seconds, and only where a person looks: never in a log file."""


def printable(value: object) -> Text:
    r"""`value` as text without markup, and without what could steer a terminal.

    Example:
        >>> printable("[red]a\x1b[2Jb").plain
        '[red]a�[2Jb'
    """
    return Text("".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(value)))


errors = Console(stderr=True)


def run(command: Any) -> None:
    """Run a typer app or a function as a command line of its own, with `crh`'s way to end on an error."""
    _quiet_libraries()
    if not isinstance(command, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        single.command()(command)
        command = single
    try:
        command()
    except SystemExit as ended:
        if ended.code == 130:
            errors.print("Interrupted.")
        raise
    except (ValueError, OSError, StrictDataclassError, ModuleNotFoundError) as error:
        if os.environ.get("CRH_DEBUG"):
            raise
        _print_error(_one_sentence(error))
        sys.exit(2)
    except RuntimeError as error:
        from modeling_crh.runtime.processes import is_lost_process

        if os.environ.get("CRH_DEBUG") or not is_lost_process(error):
            raise
        _print_error("Another process of this run has ended, and so does this one; see what that one says.")
        sys.exit(1)


def report_bad_images(bad_images: list[Any]) -> None:
    """Name the images that were left out, on standard error."""
    if bad_images:
        count = f"{len(bad_images)} image{'s' if len(bad_images) > 1 else ''}"
        errors.print(f"Left out {count} that cannot be decoded:", highlight=False)
        for bad in bad_images:
            errors.print(f"  {bad.path}: {bad.reason}", highlight=False, markup=False, soft_wrap=True)


def print_figures(figures: dict[str, Any], title: str, as_json: bool, context: dict[str, Any]) -> None:
    """A table of figures; or as JSON, after what they belong to."""
    if as_json:
        typer.echo(json.dumps(context | figures))
        return
    table = Table("figure", "value", title=title, title_justify="left")
    for name, value in figures.items():
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(name, shown)
    Console().print(table)


def print_summary(summary: dict[str, Any], sentence: str, as_json: bool) -> None:
    """One sentence; or as JSON, what it is made of."""
    typer.echo(json.dumps(summary) if as_json else sentence)


def _quiet_libraries() -> None:
    """Leave standard error to what a person wants to see."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # read when `datasets` is imported
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _print_error(sentence: str) -> None:
    errors.print(f"[bold red]Error:[/] {sentence}", highlight=False, soft_wrap=True)


def _one_sentence(error: Exception) -> str:
    text = escape(" ".join(str(error).split()))
    return text or type(error).__name__
