"""The command `crh`: one file a command; `options` names what several take, `terminal` how any of them ends."""

import typer

from modeling_crh.cli.encode_commands import encode, evaluate, features
from modeling_crh.cli.search_commands import dedupe, index, search
from modeling_crh.cli.share_commands import app, demo, export, push
from modeling_crh.cli.train_command import train
from modeling_crh.runtime.terminal import run

__all__ = [
    "app",
    "dedupe",
    "demo",
    "encode",
    "evaluate",
    "export",
    "features",
    "index",
    "main",
    "push",
    "run",
    "search",
    "train",
]

commands = typer.Typer(
    help="Learn short binary codes from labelled images, and find images by them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
for command in (train, evaluate, encode, features, index, search, dedupe, export, push, app, demo):
    commands.command()(command)


def main() -> None:
    """Run `crh`; bad input ends with one sentence and exit code 2. `CRH_DEBUG=1` shows the whole traceback."""
    run(commands)
