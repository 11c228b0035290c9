"""write_report: all files of a report, each of them whole or not there."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from modeling_crh.report.canvas import LIGHT
from modeling_crh.report.contact_sheet import draw_contact_sheet
from modeling_crh.report.content import ReportContent
from modeling_crh.report.page import draw_plots, render_page


def write_report(content: ReportContent, folder: str | Path) -> Path:
    """Write `report.html`, which needs nothing else, and its pictures as PNG files beside it.

    Everything is drawn before anything is written, and every file takes its place only once it is whole; files of
    these names that are already there are replaced.

    Args:
        content: What to show.
        folder: Where to; it is made if it is not there.

    Returns:
        The path of `report.html`.

    Raises:
        ValueError: If `folder` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`folder` must be a folder, but {folder} is a file.")
    plots = draw_plots(content)
    page = render_page(content, plots)
    files = {f"{name}.png": plot.light for name, plot in plots.items()}
    files["contact_sheet.png"] = draw_contact_sheet(content.results, LIGHT)
    files["report.html"] = page.encode("utf-8", "replace")  # a label may hold half a surrogate pair
    _replace_files(folder, files)
    return folder / "report.html"


def _replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as unfinished:
        for name, content in files.items():
            Path(unfinished, name).write_bytes(content)
        for name in files:
            os.replace(Path(unfinished, name), folder / name)
