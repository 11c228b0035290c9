"""Options shared by several commands; data options are made from the fields of `DataSource` and `Division`."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer

NumWorkers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Number of processes that decode images or sounds.",
        show_default="one per core with a GPU, one per four cores without",
    ),
]
NumBits = Annotated[
    int | None,
    typer.Option(
        help="Number of first bits of the codes, one of the `prefix_bits` that the model was trained with.",
        show_default="all bits",
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option("--dtype", help="Precision to compute in; *auto* is bfloat16 where the hardware is fast at it."),
]
Compiled = Annotated[
    bool, typer.Option("--compile", help="Compile the model first, which is worth it for many thousands of items.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of items that go through the model at a time.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, all else on standard error.")
]

# The literals are `Tower` and `Pooling` of `modeling_crh.backbones`, which takes seconds to import.
Tower = Annotated[
    Literal["vision", "text", "audio"] | None,
    typer.Option(help="Tower of a dual encoder such as CLIP that is the backbone.", show_default="vision, or audio"),
]
Pooling = Annotated[
    Literal["pooler", "cls", "mean", "last"] | None,
    typer.Option(
        help="How the backbone's output becomes one vector: its *pooler*, its *cls* or *last* token, or their *mean*.",
        show_default="that of its authors",
    ),
]

Command = Callable[..., None]


class DataOptions(dict[str, Any]):
    """Data options that were given on the command line, by field name; options not given are absent."""


def with_data_options(
    *kinds: type, argument: str | None = None, leave_out: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Decorate a command: its parameter annotated `DataOptions` becomes one option for each field.

    Args:
        *kinds: `DataSource`, `Division` or both.
        argument: Name of the positional argument that names the data; None makes it the option `--dataset`.
        leave_out: Fields that this command does not offer as options.
    """

    def decorate(command: Command) -> Command:
        offered = [entry for kind in kinds for entry in fields(kind) if entry.name not in leave_out]
        signature = inspect.signature(command)
        hints = get_type_hints(command, include_extras=True)
        place = next(name for name, hint in hints.items() if hint is DataOptions)
        parameters: list[inspect.Parameter] = []
        for name, parameter in signature.parameters.items():
            if name == place:
                parameters += [_parameter(entry, argument) for entry in offered]
            else:
                kept = parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
                parameters.append(kept)

        @functools.wraps(command)
        def expanded(**values: Any) -> None:
            given = {entry.name: values.pop(entry.name) for entry in offered}
            kept = {name: value for name, value in given.items() if value is not None and value is not False}
            command(**values, **{place: DataOptions(kept)})

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
        info = typer.Option(*flags, help=entry.metadata["help"], show_default="off")
        return inspect.Parameter(name, keyword, default=False, annotation=Annotated[bool, info])
    info = typer.Option(help=entry.metadata["help"], show_default=entry.metadata.get("shown", False))
    return inspect.Parameter(name, keyword, default=None, annotation=Annotated[_plain(entry.type) | None, info])


def _plain(hint: Any) -> Any:
    """Return the type of an option: the first number or text type of the field's annotation; data have a name."""
    return next((kind for kind in (*get_args(hint), hint) if kind in (int, float, str)), str)
