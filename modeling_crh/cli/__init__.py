"""The command `crh`. A command imports what it needs when it runs, so that help and completion take no seconds."""

from typing import Annotated

import typer

from modeling_crh import __version__
from modeling_crh.cli.encode_commands import encode, evaluate, features
from modeling_crh.cli.running import Command, run
from modeling_crh.cli.search_commands import dedupe, index, search
from modeling_crh.cli.share_commands import app, demo, export, push
from modeling_crh.cli.train_command import train

__all__ = ["commands", "main", "run"]

commands = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
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
