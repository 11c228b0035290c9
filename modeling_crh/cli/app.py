"""`crh app`."""

from pathlib import Path
from typing import Annotated

import typer


def app(
    index: Annotated[str, typer.Argument(help="What `crh index` wrote, of codes of images: a file, or a table.")],
    model: Annotated[str, typer.Option(help="Folder or Hub id of the model that made the codes.")],
    image_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the database's images. Paths that lead out of it are not followed."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; *0.0.0.0* lets other machines in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port.", show_default="first free one from 7860 on")
    ] = None,
) -> None:
    """Show the search page of an index in a browser, until Ctrl-C."""
    from modeling_crh.app import build_page, serve

    serve(build_page(index, model, image_root=image_root), host, port)
