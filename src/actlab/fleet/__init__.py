"""Train many networks in one loop."""

from actlab.fleet.run import Optimizer, Result, Run, Schedule, Stopping

__all__ = ["Optimizer", "Result", "Run", "Schedule", "Stopping"]
