"""Trains many nets at once: what fuses with what, the training step, calibration."""

from actlab.fleet.run import Optimizer, Result, Run, Schedule, Stopping

__all__ = ["Optimizer", "Result", "Run", "Schedule", "Stopping"]
