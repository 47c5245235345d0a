"""A study, or all studies of a ``tuning_id``, as a page of HTML that needs no network."""

from codes.results.report.write import write_report, write_reports

__all__ = ["write_report", "write_reports"]
