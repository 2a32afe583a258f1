"""Train one fleet. A fleet that fails is halved until the run that causes the failure is found."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from actlab.errors import UsageError, summarize_error
from actlab.fleet.grouping import Fleet
from actlab.fleet.loop import DeviceData, EpochCallback, Loop
from actlab.fleet.module_state import StateChanged
from actlab.fleet.run import FailureKind, Result, Run
from actlab.fleet.trial import ReasonAlone, is_out_of_memory

_ELSEWHERE = (ImportError, OSError, UsageError)  # a worker lacks the file or the package of a network


@dataclass
class FleetOutcome:
    """The results of a fleet.

    Attributes:
        results: The result of each run.
        notes: Messages for the user.
    """

    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_loop(runs: Sequence[Run], fleet: Fleet, data: DeviceData) -> Loop:
    """Return the loop of some runs of a fleet."""
    draws = fleet.alone is ReasonAlone.DRAWS
    return Loop(runs, fleet.layer_by_layer, data, draws, fleet.channels_last)


def train_or_split(
    runs: Sequence[Run],
    fleet: Fleet,
    data: DeviceData,
    report: EpochCallback,
    ready: list[Loop] | None = None,
    again: bool = False,
) -> FleetOutcome:
    """Train a fleet. If it fails, train its halves, down to the run that causes the failure.

    Args:
        runs: The runs of the fleet.
        fleet: How they train.
        data: Inputs and targets.
        report: As in :meth:`Loop.train`.
        ready: A list with the loop, if it is already built; the loop is removed from the list.
        again: Whether a single run that ran out of memory is being tried for the second time.

    Returns:
        The results, and messages for the user.
    """
    notes: list[str] = []
    try:
        loops = ready or [make_loop(runs, fleet, data)]
        # `pop` leaves no other reference, so the memory of a loop that fails is freed.
        return FleetOutcome(loops.pop().train(report, notes), notes)
    except StateChanged as change:
        return FleetOutcome([Result(reason_alone=str(change), passing=True) for _ in runs], notes)
    except Exception as error:  # a user's module may raise anything
        reason, memory = summarize_error(error), is_out_of_memory(error)
        passing = memory or isinstance(error, _ELSEWHERE)
    if memory:
        gc.collect()  # a loop and its steps refer to each other, so only gc frees them
    if memory and data.X.is_cuda:
        torch.cuda.empty_cache()
    if len(runs) == 1 and memory and not again:
        return train_or_split(runs, fleet, data, report, again=True)
    if len(runs) == 1:
        failure = f"{FailureKind.OUT_OF_MEMORY}: {reason}" if memory else f"{FailureKind.RAISED} {reason}"
        return FleetOutcome([Result(failure=failure, passing=passing)])
    outcome, half = FleetOutcome(), len(runs) // 2
    if memory:
        outcome.notes.append(f"out of memory with {len(runs)} runs at once; continuing with {half}")
    for share in (runs[:half], runs[half:]):
        # From the first epoch: half of a fleet is another fleet.
        part = train_or_split(share, fleet, data, report)
        outcome.results += part.results
        outcome.notes += part.notes
    return outcome
