"""The report of a run: one self-contained HTML page, with its pictures as PNG files beside it."""

try:
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"A report needs {error.name}; run `pip install 'modeling-crh[report]'`.", name=error.name
    ) from error

from modeling_crh.report.content import Comparison, Neighbour, ReportContent, SearchResult
from modeling_crh.report.report_page import write_report

__all__ = ["Comparison", "Neighbour", "ReportContent", "SearchResult", "write_report"]
