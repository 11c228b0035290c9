"""How the HTML pages are filled in: everything that data say is escaped, and a value that is missing is an error."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def page_templates(*folders: Path) -> "Environment":
    """The templates of some folders, of which the first that has a name gives it.

    Raises:
        ModuleNotFoundError: If Jinja is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"A page needs {error.name}; run `pip install 'modeling-crh[search]'`.", name=error.name
        ) from error
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
