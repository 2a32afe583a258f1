"""Group runs into fleets. The groups depend on the runs alone."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from actlab.errors import summarize_error
from actlab.fleet.layers import TracedLayer
from actlab.fleet.probe import fleet_problem, out_of_memory
from actlab.fleet.run import Run
from actlab.fleet.sequential_step import create_step
from actlab.fleet.settings import FleetSettings
from actlab.fleet.trace import trace_layers

_TRIAL_SAMPLES = 2
_EXPLICIT = ("linear", "formula")  # layers that a fleet computes itself, without a call of the module
_DRAWS = (
    "the network draws random numbers during training; in a fleet, they would depend on the other networks"
)


class Alone(enum.Enum):
    """Why a run does not share its fleet with others."""

    FAILS = "its network cannot be built or run"
    DRAWS = "its network draws random numbers during training"
    NO_VMAP = "torch.vmap cannot run its network"
    NEEDS_SKORCH = "no fleet can train its network"


@dataclass(frozen=True)
class Fleet:
    """Runs that train in one loop.

    Attributes:
        indices: The indices of the runs in the list that was grouped.
        layer_by_layer: Whether the networks are sequential and use explicit gradients.
        alone: The kind of reason why a run trains by itself; None if it may train with others.
        reason_alone: The reason as a sentence; empty if there is none.
        networks: Untrained networks that were built for the trial, by the index of their run.
    """

    indices: tuple[int, ...]
    layer_by_layer: bool
    alone: Alone | None = None
    reason_alone: str = ""
    networks: Mapping[int, nn.Module] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class _Trial:
    """How a fleet can train a network.

    Attributes:
        shapes: Names, shapes and dtypes of parameters and buffers. The networks of a fleet share them.
        size: The number of weights.
        layers: The layers that the networks of a fleet share.
        activations: The formulas in which the networks of a fleet may differ.
        layer_by_layer: As in :class:`Fleet`.
        alone: As in :class:`Fleet`.
        reason_alone: As in :class:`Fleet`.
        network: The network, if it is as new.
    """

    shapes: tuple[Any, ...] = ()
    size: int = 0
    layers: Any = None
    activations: tuple[str, ...] = ()
    layer_by_layer: bool = False
    alone: Alone | None = None
    reason_alone: str = ""
    network: nn.Module | None = None


def group_into_fleets(runs: Sequence[Run], X: Tensor, y: Tensor, settings: FleetSettings) -> list[Fleet]:
    """Group runs into fleets.

    Args:
        runs: The runs. Runs with the same factory object have equal networks, of which one is tried.
        X: Inputs (n, ...). Each network is tried on two samples.
        y: Targets (n, ...).
        settings: How many networks make a fleet.

    Returns:
        The fleets, in the order of their first runs.
    """
    trials: dict[int, _Trial] = {}
    networks: dict[int, nn.Module] = {}
    groups: dict[Any, list[int]] = {}
    steps = [run.steps if run.batch_size > 0 else 0 for run in runs]
    for index, run in enumerate(runs):
        if id(run.net) not in trials:
            trials[id(run.net)] = trial = _try_network(run, X[:_TRIAL_SAMPLES], y[:_TRIAL_SAMPLES], settings)
            if trial.network is not None:
                networks[index] = trial.network
        trial = trials[id(run.net)]
        is_alone = trial.alone is not None or not steps[index]
        groups.setdefault(index if is_alone else _shared_settings(run, trial), []).append(index)
    fleets: list[Fleet] = []
    for indices in groups.values():
        run = runs[indices[0]]
        trial = trials[id(run.net)] if steps[indices[0]] else _without_batches(run)
        # Neighbours with equal activations are computed in one piece.
        activations = {index: trials[id(runs[index].net)].activations for index in indices}
        order = list(dict.fromkeys(activations.values()))
        indices.sort(key=lambda index: order.index(activations[index]))
        fleets += _split(indices, trial, networks, settings)
    return sorted(fleets, key=lambda fleet: fleet.indices)


def _without_batches(run: Run) -> _Trial:
    # skorch validates the network that it has not trained, or raises
    settings = f"batch_size={run.batch_size} and drop_last={run.drop_last}"
    reason = f"{settings} give no batch from {len(run.rows)} training samples"
    return _Trial(alone=Alone.NEEDS_SKORCH, reason_alone=reason)


def _split(
    indices: Sequence[int], trial: _Trial, networks: Mapping[int, nn.Module], settings: FleetSettings
) -> Iterator[Fleet]:
    """Yield fleets of nearly equal size, none of them with too many runs."""
    most = 1 if trial.alone else settings.runs_per_fleet(trial.size, len(indices))
    parts = -(-len(indices) // most)
    for part in range(parts):
        share = tuple(indices[part * len(indices) // parts : (part + 1) * len(indices) // parts])
        built = {index: networks[index] for index in share if index in networks}
        yield Fleet(share, trial.layer_by_layer, trial.alone, trial.reason_alone, built)


def _try_network(run: Run, x: Tensor, y: Tensor, settings: FleetSettings) -> _Trial:
    """Try a network on two samples: alone, then, if a fleet calls its modules, with a copy of itself."""
    try:
        network = run.build()
    except Exception as error:  # raised by the user's module, which raises it again in training
        return _Trial(
            alone=Alone.FAILS, reason_alone=f"the network cannot be built: {summarize_error(error)}"
        )
    lazy = not isinstance(network, nn.Module) or any(map(is_lazy, network.parameters()))
    buffers = {} if lazy else {name: value.clone() for name, value in network.named_buffers()}
    try:
        with run.noise():
            before = torch.get_rng_state()
            if problem := fleet_problem(run, network, x, y):
                return _Trial(alone=Alone.NEEDS_SKORCH, reason_alone=problem)
            draws = not torch.equal(before, torch.get_rng_state())
            layers = trace_layers(network) if settings.layer_by_layer else None
            problem = _step_problem([network], layers, run, x, y)
            if problem and layers is not None:  # a layer without explicit steps, such as an embedding
                layers, problem = None, _step_problem([network], None, run, x, y)
    except Exception as error:  # too little memory: there may be more in training
        return _Trial(alone=Alone.FAILS, reason_alone=summarize_error(error))
    if problem:
        reason = f"a fleet cannot train the network: {problem}"
        return _Trial(alone=Alone.NEEDS_SKORCH, reason_alone=reason)
    is_sequential = layers is not None
    if draws:
        return _Trial(layer_by_layer=is_sequential, alone=Alone.DRAWS, reason_alone=_DRAWS)
    is_explicit = layers is not None and all(layer.kind in _EXPLICIT for layer in layers)
    if not is_explicit and (problem := _step_problem([network, network], layers, run, x, y)):
        reason = f"torch.vmap cannot run the network: {problem}"
        return _Trial(layer_by_layer=is_sequential, alone=Alone.NO_VMAP, reason_alone=reason)
    tensors = [*network.named_parameters(), *network.named_buffers()]
    shapes = tuple((name, tuple(t.shape), t.dtype, t.requires_grad) for name, t in tensors)
    size = sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.copy_(buffers.get(name, value))
    reusable = not lazy and size <= settings.weights_per_fleet  # larger ones would take memory until then
    kinds = tuple((layer.kind, layer.name, layer.text) for layer in layers or ())
    # Modules compute the same for certain only if their networks come from one factory.
    calls_modules = layers is None or any(layer.kind == "module" for layer in layers)
    shared_layers: Any = (kinds, id(run.net)) if calls_modules else kinds
    activations = tuple(layer.activation for layer in layers or ())
    return _Trial(
        shapes, size, shared_layers, activations, is_sequential, network=network if reusable else None
    )


def _step_problem(
    modules: Sequence[nn.Module], layers: Sequence[TracedLayer] | None, run: Run, x: Tensor, y: Tensor
) -> str:
    """Return the error of a step; an empty text if it works."""
    try:
        step = create_step(modules, layers, run.loss, "cpu", False)
        step.gradients(x.expand(len(modules), *x.shape), y.expand(len(modules), *y.shape))
    except Exception as error:  # the user's module
        if out_of_memory(error):
            raise
        return summarize_error(error)
    return ""


def _shared_settings(run: Run, trial: _Trial) -> tuple[Any, ...]:
    """Return the properties that the runs of a fleet share."""

    def count(rows: Any) -> int:
        return -1 if rows is None else len(rows)

    options = {**vars(run.loss), **{name: value.tolist() for name, value in run.loss.named_buffers()}}
    loss = (type(run.loss), str({name: value for name, value in options.items() if name != "_buffers"}))
    optimizer = (run.optimizer.name, run.optimizer.flags, tuple(run.optimizer.numbers))
    schedule = run.schedule and run.schedule.every
    samples = (count(run.rows), count(run.valid), count(run.test))
    batches = (run.epochs, run.batch_size, run.piece, run.shuffle, run.drop_last)
    others = (run.scoring, run.device, run.precision, run.diagnostic_epochs)
    network = (trial.shapes, trial.layers, trial.layer_by_layer)
    return (network, loss, optimizer, schedule, samples, batches, others)
