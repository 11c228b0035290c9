"""Print messages, tables and progress bars; no other module prints."""

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tqdm import tqdm

_is_silenced: ContextVar[bool] = ContextVar("is_silenced", default=False)
_SHOWN = 10_000  # characters of a text
_WIDEST = 10_000  # characters of a line of a table
_NAMED = 20  # bad rows that are listed; the others are counted


def progress_bar(items: Iterable[Any] | None = None, **settings: Any) -> "tqdm[Any]":
    """Make a `tqdm` on standard error, shown after two seconds and only in a terminal, never in a log file."""
    from tqdm import tqdm

    desc = printable(settings.pop("desc", "")).plain
    return tqdm(items, **{"delay": 2, "disable": None, "leave": False, "desc": desc} | settings)


def printable(value: object) -> Text:
    r"""Convert an untrusted value to text without markup and without characters that control a terminal.

    Example:
        >>> printable("[red]a\x1b[2Jb").plain
        '[red]a�[2Jb'
    """
    return Text("".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(value)))


def printable_lines(text: str) -> str:
    """Clean a message of several lines as `printable` does."""
    return "\n".join(printable(line.expandtabs()).plain for line in text.split("\n"))


class _PlainRecord(logging.LogRecord):
    """Log record whose message and traceback are cleaned."""

    def getMessage(self) -> str:  # noqa: N802 (it is the name in `logging`)
        return printable_lines(super().getMessage())

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, printable_lines(value) if name == "exc_text" and value else value)


@contextmanager
def clean_messages() -> Iterator[None]:
    """Clean what libraries warn of and log, such as the names of files, while the context lasts."""
    make_record, format_warning = logging.getLogRecordFactory(), warnings.formatwarning

    def format_cleaned(*args: Any, **settings: Any) -> str:
        return printable_lines(format_warning(*args, **settings))

    logging.setLogRecordFactory(_PlainRecord)
    warnings.formatwarning = format_cleaned
    try:
        yield
    finally:
        logging.setLogRecordFactory(make_record)
        warnings.formatwarning = format_warning


class _PlainStream:
    """Stream that cleans the text which it hands on to another."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable_lines(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """Clean whatever this process prints while the context lasts, colors and progress bars included."""
    stdout: Any = _PlainStream(sys.stdout)
    stderr: Any = _PlainStream(sys.stderr)
    with redirect_stdout(stdout), redirect_stderr(stderr):
        yield


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nothing has caught, cleaned; it is an exception hook of Python."""
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    stderr_console().print(Text(printable_lines(lines)), soft_wrap=True)


def say(sentence: str) -> None:
    """Print one line on standard error, in the first process of a distributed run only."""
    if os.environ.get("RANK", "0") == "0" and not _is_silenced.get():
        stderr_console().print(printable(sentence), soft_wrap=True)


@contextmanager
def silenced() -> Iterator[None]:
    """Print nothing by `say`, for work that is done again and then says the same."""
    token = _is_silenced.set(True)
    try:
        yield
    finally:
        _is_silenced.reset(token)


def stderr_console() -> Console:
    """Make a console on the current standard error."""
    return Console(stderr=True, highlight=False)


def name_bad_rows(bad_rows: Sequence[Any]) -> None:
    """Report on standard error how many rows were left out, and list the first of them."""
    if not bad_rows:
        return
    say(f"Left out {len(bad_rows):,} {'rows' if len(bad_rows) > 1 else 'row'} that cannot be read:")
    for bad in bad_rows[:_NAMED]:
        say(f"  {bad.path}: {bad.reason}")
    if len(bad_rows) > _NAMED:
        say(f"  and {len(bad_rows) - _NAMED:,} more")


def print_figures(figures: dict[str, Any], title: str, as_json: bool, context: dict[str, Any]) -> None:
    """Print a table of figures on standard output, or one JSON document of the context and the figures."""
    if as_json:
        typer.echo(json.dumps(context | figures))
    else:
        print_table(("figure", "value"), [(name, format_figure(value)) for name, value in figures.items()], title=title)


def format_figure(value: Any) -> str:
    """Write a count with commas, any other number with four decimals, and None as none."""
    if value is None:
        return "none"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Print a table on standard output, as wide as it needs in a file or a pipe; the cells may be untrusted.

    Args:
        columns: Headings; one that ends in `>` is aligned to the right.
        rows: Cells of each row.
        title: Title of the table; empty for none.
    """
    if title:  # a title of the table would be broken where the table is narrower
        Console().print(printable(title), style="italic", soft_wrap=True)
    table = Table()
    for column in columns:
        is_right = column.endswith(">")
        table.add_column(column.rstrip(">"), justify="right" if is_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(printable("" if cell is None else cell) for cell in row))
    is_fixed = Console().is_terminal or "COLUMNS" in os.environ
    Console(width=None if is_fixed else _WIDEST).print(table)


def print_files(folder: Path, title: str) -> None:
    """Print names and sizes of the files in a folder, and how the texts of its YAML, Markdown and JSON files begin."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = [(file.relative_to(folder), f"{file.stat().st_size:,}") for file in files]
    print_table(("file", "bytes>"), rows, title=title)
    for file in files:
        if file.suffix in (".md", ".yaml", ".json"):
            text = file.read_text(encoding="utf-8")
            Console().rule(printable(file.relative_to(folder)), align="left")
            for line in text[:_SHOWN].splitlines():
                Console().print(printable(line), soft_wrap=True)
            if len(text) > _SHOWN:
                Console().print(f"and {len(text) - _SHOWN:,} more characters")


def print_summary(summary: dict[str, Any], sentence: str, as_json: bool) -> None:
    """Print the summary of a command on standard output, as one sentence or as one JSON document."""
    typer.echo(json.dumps(summary) if as_json else printable(sentence).plain)


def print_error(sentence: str) -> None:
    """Print on standard error in every process, since the one that fails need not be the first."""
    text = printable(sentence)
    text.highlight_words(["Error:"], "bold red")
    stderr_console().print(text, soft_wrap=True)
