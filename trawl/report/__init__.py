"""Reports: self-contained HTML pages made of sections that each part of Trawl writes for itself."""

from trawl.report.charts import funnel, histogram, line_chart
from trawl.report.figures import Box, figure, gallery
from trawl.report.page import Section, page, sections_from_json, sections_to_json, table

__all__ = [
    "Box",
    "Section",
    "figure",
    "funnel",
    "gallery",
    "histogram",
    "line_chart",
    "page",
    "sections_from_json",
    "sections_to_json",
    "table",
]
