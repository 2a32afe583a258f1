"""Group runs into fleets. The groups depend on the runs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from actlab.fleet.run import Run
from actlab.fleet.settings import FleetSettings
from actlab.fleet.trial import ReasonAlone, Trial, try_in_fleet

_TRIAL_SAMPLES = 2


@dataclass(frozen=True)
class Fleet:
    """Runs that train in one loop.

    Attributes:
        indices: The indices of the runs in the list that was grouped.
        layer_by_layer: Whether the networks are sequential and use explicit gradients.
        alone: The kind of reason why a run trains by itself; None if it may train with others.
        reason_alone: The reason as a sentence; empty if there is none.
        channels_last: If the network trains alone, names of the convolutions to store in channels-last
            format.
        networks: Untrained networks that were built for the trial, by the index of their run.
    """

    indices: tuple[int, ...]
    layer_by_layer: bool
    alone: ReasonAlone | None = None
    reason_alone: str = ""
    channels_last: tuple[str, ...] = ()
    networks: Mapping[int, nn.Module] = field(default_factory=dict, compare=False, repr=False)


def group_into_fleets(runs: Sequence[Run], X: Tensor, y: Tensor, settings: FleetSettings) -> list[Fleet]:
    """Group runs into fleets.

    Args:
        runs: The runs. Runs with the same factory object have equal networks; one of them is tried.
        X: Inputs (n, ...). Each network is tried on two samples.
        y: Targets (n, ...).
        settings: How many networks form a fleet.

    Returns:
        The fleets, in the order of their first runs.
    """
    trials: dict[int, Trial] = {}  # by factory
    networks: dict[int, nn.Module] = {}
    groups: dict[Any, list[int]] = {}
    trial_of: list[Trial] = []  # by run
    x, y = X[:_TRIAL_SAMPLES], y[:_TRIAL_SAMPLES]
    has_batches = [run.batch_size > 0 and run.steps > 0 for run in runs]
    for index, run in enumerate(runs):
        if has_batches[index] and id(run.net) not in trials:
            trials[id(run.net)] = trial = try_in_fleet(run, x, y, settings)
            if trial.network is not None:
                networks[index] = trial.network
        trial = trials[id(run.net)] if has_batches[index] else _without_batches(run)
        trial_of.append(trial)
        groups.setdefault(index if trial.alone else _make_fleet_key(run, trial), []).append(index)
    fleets: list[Fleet] = []
    for indices in groups.values():
        # A fleet computes neighbours with equal activations together.
        order = list(dict.fromkeys(trial_of[index].activations for index in indices))
        indices.sort(key=lambda index: order.index(trial_of[index].activations))
        fleets += _split(indices, runs, trial_of[indices[0]], networks, settings)
    return sorted(fleets, key=lambda fleet: fleet.indices)


def _without_batches(run: Run) -> Trial:
    # skorch validates the network without training it, or raises an error
    settings = f"batch_size={run.batch_size} and drop_last={run.drop_last}"
    reason = f"{settings} give no batch from {len(run.rows)} training samples"
    return Trial(alone=ReasonAlone.NEEDS_SKORCH, reason_alone=reason)


def _split(
    indices: Sequence[int],
    runs: Sequence[Run],
    trial: Trial,
    networks: Mapping[int, nn.Module],
    settings: FleetSettings,
) -> Iterator[Fleet]:
    """Yield fleets of nearly equal size, none of them with too many runs."""
    run = runs[indices[0]]
    batch_size = min(run.batch_size, len(run.rows))
    saved_bytes = None if trial.saved_bytes is None else trial.saved_bytes * batch_size
    most = 1 if trial.alone else settings.runs_per_fleet(trial.size, len(indices), saved_bytes)
    count = -(-len(indices) // most)
    for i in range(count):
        part = tuple(indices[i * len(indices) // count : (i + 1) * len(indices) // count])
        stored = {index: networks[index] for index in part if index in networks}
        channels_last = trial.channels_last if len(part) == 1 else ()
        yield Fleet(part, trial.layer_by_layer, trial.alone, trial.reason_alone, channels_last, stored)


def _make_fleet_key(run: Run, trial: Trial) -> tuple[Any, ...]:
    """Return the properties that the runs of a fleet share."""

    def count(indices: Any) -> int:
        return -1 if indices is None else len(indices)

    options = {**vars(run.loss), **{name: value.tolist() for name, value in run.loss.named_buffers()}}
    loss = (type(run.loss), str({name: value for name, value in options.items() if name != "_buffers"}))
    optimizer = (run.optimizer.name, run.optimizer.flags, tuple(run.optimizer.numbers))
    schedule = run.schedule and run.schedule.every
    samples = (count(run.rows), count(run.valid), count(run.test), id(run.sample_weights))
    batches = (run.epochs, run.batch_size, run.piece, run.shuffle, run.drop_last)
    others = (run.clipping, run.scoring, run.scores, run.device, run.precision, run.diagnostic_epochs)
    network = (trial.shapes, trial.layers, trial.layer_by_layer)
    return (network, loss, optimizer, schedule, samples, batches, others)
