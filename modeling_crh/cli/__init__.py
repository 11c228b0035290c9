"""The command `crh`; the module of a subcommand is imported only when it is called, so that help is fast."""

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from modeling_crh.runtime.terminal import run

__all__ = ["commands", "load_command", "main", "run"]

_COMMANDS = {
    "train": ("train_command", "Train a model, evaluate it and save it."),
    "evaluate": ("encode_commands", "Evaluate a model: queries of a dataset against its database."),
    "encode": ("encode_commands", "Encode images, sounds, texts or features into files of packed codes."),
    "features": ("encode_commands", "Store a backbone's features, to train a head on them."),
    "index": ("search_commands", "Build an index over packed codes."),
    "search": ("search_commands", "Find the nearest items of an index."),
    "dedupe": ("search_commands", "List groups of near-duplicates."),
    "export": ("share_commands", "Write a model as one file for onnxruntime."),
    "push": ("share_commands", "Publish a model, codes or a search page on the Hub."),
    "app": ("share_commands", "Show the search page of an index."),
    "demo": ("share_commands", "Train, evaluate and search on a bundled sample."),
}
"""Module and one-line help of each command, by name."""


class _LazyGroup(TyperGroup):
    """List commands without importing them, and import the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        return TyperCommand(cmd_name, help=_COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, stub, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if stub is not None and name is not None else stub, rest


def load_command(name: str) -> Any:
    """Import one command and convert it to a click command."""
    module = importlib.import_module(f"{__name__}.{_COMMANDS[name][0]}")
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(name)(getattr(module, name))
    return get_command(single)


commands = typer.Typer(
    cls=_LazyGroup,
    help="Learn short binary codes from labelled images, sounds, texts or features, and search by them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@commands.callback()
def _crh() -> None:
    """Learn short binary codes from labelled images, sounds, texts or features, and search by them."""


def main() -> None:
    """Run `crh`; bad input ends with one sentence and exit code 2. `CRH_DEBUG=1` shows the whole traceback."""
    run(commands)
