"""The pictures of a run: one HTML page that opens offline, and the table on the terminal."""

from astrid.report.data import Events, ReportData, Stamps, completeness_curve
from astrid.report.page import write_report
from astrid.report.terminal import metrics_table

__all__ = ["Events", "ReportData", "Stamps", "completeness_curve", "metrics_table", "write_report"]
