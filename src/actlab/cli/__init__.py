"""The command line ``actlab``."""

from actlab.cli.main import main

__all__ = ["main"]
