"""A run as one self-contained HTML page that opens from disk, offline."""

from glassworks.report.page import Check, FileLink, Page, Row, Section, SummaryLine, Table
from glassworks.report.render import fragment, render

__all__ = ["Check", "FileLink", "Page", "Row", "Section", "SummaryLine", "Table", "fragment", "render"]
