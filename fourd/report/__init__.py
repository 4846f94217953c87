"""Tables, plots and one self-contained page, from rows and pictures alone."""

from fourd.report.page import Story, write_report
from fourd.report.terminal import terminal_table

__all__ = ["Story", "terminal_table", "write_report"]
