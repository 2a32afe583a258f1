"""Verify any activation function, and report the input that shows a fault."""

from actlab.checking.report import CheckReport, Row, junit
from actlab.checking.run import check

__all__ = ["CheckReport", "Row", "check", "junit"]
