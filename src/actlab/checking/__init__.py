"""Proves any activation: what is right about it, what is wrong, and the input that shows it."""

from actlab.checking.outcome import CheckReport, Row, junit
from actlab.checking.run import check

__all__ = ["CheckReport", "Row", "check", "junit"]
