"""The command `crh`. A command imports what it needs when it runs, so that help and completion take no seconds."""

import errno
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from modeling_crh import __version__
from modeling_crh.cli.encode_commands import encode, evaluate, features
from modeling_crh.cli.search_commands import dedupe, index, search
from modeling_crh.cli.share_commands import app, demo, export, push
from modeling_crh.cli.train_command import train
from modeling_crh.runtime.terminal import clean_messages, print_error, print_traceback, printable_lines

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT)

__all__ = ["commands", "main", "run"]


_UsageError = cast(type[typer.BadParameter], typer.BadParameter.__base__)  # typer exports this subclass alone


@contextmanager
def _clean_usage_errors() -> Iterator[None]:
    """Clean the arguments that a message of typer repeats, which may be names of files."""
    try:
        yield
    except _UsageError as error:
        error.message = printable_lines(error.message)
        raise


class Command(TyperCommand):
    """A command that loads torch and transformers when it runs, and not for its help or its completion."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Read the arguments."""
        with _clean_usage_errors():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Load the library without the warnings and progress bars of transformers, then run the command."""
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # read when `datasets` is imported
        importlib.import_module("modeling_crh.registration")
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        return super().invoke(ctx)


class _Commands(TyperGroup):
    """All commands."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Read the arguments before the name of a command."""
        with _clean_usage_errors():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Find the command and run it."""
        with _clean_usage_errors():
            return super().invoke(ctx)


def run(command: typer.Typer | Callable[..., None]) -> None:
    """Run a typer app, or a function as a command line of its own.

    Bad input ends with one sentence and exit code 2; a bug ends with its traceback. With `CRH_DEBUG=1` every error
    ends with its traceback.
    """
    if not isinstance(command, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        single.command(cls=Command)(command)
        command = single
    debugs = bool(os.environ.get("CRH_DEBUG"))
    try:
        with clean_messages():
            command()
    except SystemExit as ended:
        if ended.code == 130:
            print_error("Interrupted.")
        raise
    except (ValueError, OSError, ModuleNotFoundError, _strict_error()) as error:
        if debugs:
            raise
        print_error(f"Error: {_describe_cache(error) or ' '.join(str(error).split()) or type(error).__name__}")
        sys.exit(2)
    except RuntimeError as error:
        from modeling_crh.runtime.processes import describe_failure  # it imports torch

        told = None if debugs else describe_failure(error)
        if told is None:
            raise
        print_error(f"Error: {told}")
        sys.exit(1)
    finally:
        sys.excepthook = print_traceback  # typer sets its own, which prints messages as they are


def _strict_error() -> type[Exception]:
    """Return the error of `@strict` dataclasses; it is imported only when a command has failed."""
    from huggingface_hub.errors import StrictDataclassError

    return StrictDataclassError


def _describe_cache(error: BaseException | None) -> str | None:
    """Say how to move a cache of Hugging Face's libraries that an error or a cause of it could not write to."""
    import datasets.config
    from huggingface_hub import constants

    caches = {"HF_DATASETS_CACHE": datasets.config.HF_DATASETS_CACHE, "HF_HUB_CACHE": constants.HF_HUB_CACHE}
    while error is not None:
        if isinstance(error, OSError) and isinstance(error.filename, str) and error.errno in _NOT_WRITABLE:
            for variable, folder in caches.items():
                cache, place = Path(str(folder)).absolute(), Path(error.filename).absolute()
                if place.is_relative_to(cache) or (cache.is_relative_to(place) and not cache.is_dir()):
                    return (
                        f"The cache {folder} must be a folder that can be written to, but is not: {error.strerror}. "
                        f"`{variable}` in the environment, or `HF_HOME` for all caches, names another."
                    )
        error = error.__cause__ or error.__context__
    return None


commands = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode="markdown")
for _function in (train, evaluate, encode, features, index, search, dedupe, export, push, app, demo):
    commands.command(cls=Command)(_function)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"modeling-crh {__version__}")
        raise typer.Exit


@commands.callback()
def _crh(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Learn short binary codes from labelled images, sounds, texts or features, and search by them."""


def main() -> None:
    """Run `crh`; bad input ends with one sentence and exit code 2. `CRH_DEBUG=1` shows the whole traceback."""
    run(commands)
