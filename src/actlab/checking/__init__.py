"""Verify any activation function, and report the input that shows a fault."""

from actlab.checking.check_report import CheckReport, Row, junit
from actlab.checking.checker import check

__all__ = ["CheckReport", "Row", "check", "junit"]
