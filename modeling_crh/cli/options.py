"""Options shared by several commands; data options are made from the fields of `DataSource` and `Division`."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer


def option(help: str, *flags: str, shown: str | bool = True, **rules: Any) -> Any:
    """Make an option of a command, with its help text and the default that the help shows."""
    return typer.Option(*flags, help=help, show_default=shown, **rules)


def argument(help: str, shown: str | bool = True) -> Any:
    """Make an argument of a command likewise."""
    return typer.Argument(help=help, show_default=shown)


NumWorkers = Annotated[
    int | None,
    option(
        "Number of processes that decode images or sounds.",
        shown="one per core with a GPU, one per four cores without",
        min=0,
    ),
]
NumBits = Annotated[
    int | None,
    option(
        "Number of first bits of the codes, one of the `prefix_bits` that the model was trained with.", shown="all bits"
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    option("Precision to compute in; *auto* is bfloat16 where the hardware is fast at it.", "--dtype"),
]
Compiled = Annotated[
    bool, option("Compile the model first, which is worth it for many thousands of items.", "--compile")
]
BatchSize = Annotated[int, option("Number of items that go through the model at a time.", min=1)]
Json = Annotated[bool, option("Print one JSON document on standard output, all else on standard error.", "--json")]

# The literals are `Tower` and `Pooling` of `modeling_crh.backbones`, which takes seconds to import.
Tower = Annotated[
    Literal["vision", "text", "audio"] | None,
    option("Tower of a dual encoder such as CLIP that is the backbone.", shown="vision, or audio"),
]
Pooling = Annotated[
    Literal["pooler", "cls", "mean", "last"] | None,
    option(
        "How the backbone's output becomes one vector: its *pooler*, its *cls* or *last* token, or their *mean*.",
        shown="that of its authors",
    ),
]

Command = Callable[..., None]


DataOptions = dict[str, Any]
"""Data options that were given on the command line, by field name; options not given are absent."""


def with_data_options(
    *kinds: type, argument: str | None = None, leave_out: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Decorate a command: its parameter `data` becomes one option for each field of these classes.

    `argument` is the name of the positional argument that names the data; None makes it the option `--dataset`.
    """

    def decorate(command: Command) -> Command:
        offered = [entry for kind in kinds for entry in fields(kind) if entry.name not in leave_out]
        signature = inspect.signature(command)
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for name, parameter in signature.parameters.items():
            if name == "data":
                parameters += [_parameter(entry, argument) for entry in offered]
            else:
                parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

        @functools.wraps(command)
        def expanded(**values: Any) -> None:
            given = {entry.name: values.pop(entry.name) for entry in offered}
            kept = {name: value for name, value in given.items() if value is not None and value is not False}
            command(**values, data=kept)

        expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return expanded

    return decorate


def _parameter(entry: Field[Any], argument: str | None) -> inspect.Parameter:
    name, keyword = entry.name, inspect.Parameter.KEYWORD_ONLY
    if name == "dataset" and argument is not None:
        info: Any = typer.Argument(help=entry.metadata["help"], metavar=argument)
        return inspect.Parameter(name, keyword, annotation=Annotated[str, info])
    if entry.type is bool:
        flags = ("--skip-bad", "--skip-bad-images") if name == "skip_bad" else (f"--{name.replace('_', '-')}",)
        info = option(entry.metadata["help"], *flags, shown="off")
        return inspect.Parameter(name, keyword, default=False, annotation=Annotated[bool, info])
    info = option(entry.metadata["help"], shown=entry.metadata.get("shown", False))
    kinds = (kind for kind in (*get_args(entry.type), entry.type) if kind in (int, float, str))
    kind: Any = next(kinds, str)  # data have a name
    return inspect.Parameter(name, keyword, default=None, annotation=Annotated[kind | None, info])
