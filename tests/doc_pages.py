"""Read README.md and the pages of docs/: their fenced blocks, and their command lines."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
_FENCE = re.compile(r"^( *)```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMANDS = ("accelerate", "apt-get", "cp", "crh", "for", "make", "pip", "pytest", "python", "sha256sum")
_COMMAND = re.compile(rf"^ {{4,}}((?:[A-Z_]+=\S+ )*(?:{'|'.join(_COMMANDS)}) .*)$", re.MULTILINE)


def blocks(page, language):
    """The fenced blocks of a language, each with its title (None without) and the number of its first line."""
    text = page.read_text()
    for fence in _FENCE.finditer(text):
        if fence[2] == language:
            width = len(fence[1])
            code = "".join(line[width:] or "\n" for line in fence[4].splitlines(keepends=True))
            yield code, fence[3], text[: fence.start(4)].count("\n")


def command_lines(page):
    """The command lines of a page, in indented blocks or fences of `sh`; continued lines are joined."""
    text = _FENCE.sub("", page.read_text()) + "".join(
        f"    {line}\n" for code, *_ in blocks(page, "sh") for line in code.splitlines()
    )
    return [line[1] for line in _COMMAND.finditer(re.sub(r" *\\\n *", " ", text))]


def prose(page):
    """The page without its fenced blocks and inline code."""
    return re.sub(r"(`+).+?\1", "", _FENCE.sub("", page.read_text()), flags=re.DOTALL)
