"""The report of a run: one self-contained HTML page, with its pictures as PNG files beside it."""

from modeling_crh.checks import needs_extra

with needs_extra("A report", "report"):
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401

from modeling_crh.report.content import Comparison, Neighbour, ReportContent, SearchResult
from modeling_crh.report.report_page import write_report

__all__ = ["Comparison", "Neighbour", "ReportContent", "SearchResult", "write_report"]
