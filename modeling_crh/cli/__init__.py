"""The command `crh`: one file a command; `options` names what several take, `terminal` how any of them ends."""

import typer

from modeling_crh.cli.app import app
from modeling_crh.cli.dedupe import dedupe
from modeling_crh.cli.demos import demo
from modeling_crh.cli.encoding import encode
from modeling_crh.cli.evaluation import evaluate
from modeling_crh.cli.export import export
from modeling_crh.cli.features import features
from modeling_crh.cli.index import index
from modeling_crh.cli.push import push
from modeling_crh.cli.search import search
from modeling_crh.cli.terminal import run
from modeling_crh.cli.training import train

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
