"""Verify any activation function, and report the input that shows a fault."""

from actlab.checking.check_report import CheckReport, Row, format_junit
from actlab.checking.checker import check

__all__ = ["CheckReport", "Row", "check", "format_junit"]
