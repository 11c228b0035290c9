"""Text from files that somebody else may have made, as a terminal may show it."""

from rich.text import Text


def printable(value: object) -> Text:
    r"""`value` as text without markup, and without what could steer a terminal.

    Example:
        >>> printable("[red]a\x1b[2Jb").plain
        '[red]a�[2Jb'
    """
    return Text("".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(value)))
