"""Train many networks in one loop."""

from actlab.fleet.run import EarlyStopping, Optimizer, Result, Run, Schedule

__all__ = ["EarlyStopping", "Optimizer", "Result", "Run", "Schedule"]
