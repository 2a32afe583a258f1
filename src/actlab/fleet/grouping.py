"""Group runs into fleets. The groups depend on the runs alone."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from actlab.errors import summarize_error
from actlab.fleet.layers import as_catalogue_activation, parameter_values
from actlab.fleet.probe import fleet_problem, out_of_memory
from actlab.fleet.run import Run
from actlab.fleet.sequential_step import create_step
from actlab.fleet.settings import FleetSettings
from actlab.fleet.trace import TracedLayer, trace_layers

_TRIAL_SAMPLES = 2
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
        places: The indices of the runs in the list that was planned.
        layer_by_layer: Whether the networks are sequential and use explicit gradients.
        alone: The kind of reason why a run trains by itself; None if it may train with others.
        reason_alone: The reason as a sentence; empty if there is none.
        networks: Untrained networks of some runs, by their index: those that were built for the trial.
    """

    places: tuple[int, ...]
    layer_by_layer: bool
    alone: Alone | None = None
    reason_alone: str = ""
    networks: Mapping[int, nn.Module] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class _GroupTraits:
    """The properties that networks of a fleet share."""

    weights: tuple[Any, ...] = ()
    size: int = 0
    layers: Any = None
    activations: str = ""
    layer_by_layer: bool = False
    alone: Alone | None = None
    reason_alone: str = ""
    network: nn.Module | None = None


def group_into_fleets(runs: Sequence[Run], X: Tensor, y: Tensor, settings: FleetSettings) -> list[Fleet]:
    """Group runs into fleets.

    Args:
        runs: The runs.
        X: Inputs (n, ...). Each network is tried on two samples.
        y: Targets (n, ...).
        settings: How many networks make a fleet.

    Returns:
        The fleets, in the order of their first runs.
    """
    traits: dict[
        int, _GroupTraits
    ] = {}  # runs that differ in numbers share the object that makes their network
    networks: dict[int, nn.Module] = {}
    groups: dict[Any, list[int]] = {}
    for place, run in enumerate(runs):
        if id(run.net) not in traits:
            traits[id(run.net)] = found = _traits_of(run, X[:_TRIAL_SAMPLES], y[:_TRIAL_SAMPLES], settings)
            if found.network is not None:
                networks[place] = found.network
        group = traits[id(run.net)]
        is_alone = group.alone is not None or not _batches(run)
        groups.setdefault(place if is_alone else _must_agree_in(run, group), []).append(place)
    fleets: list[Fleet] = []
    for places in groups.values():
        group = traits[id(runs[places[0]].net)]
        # Equal activations stand together: each is then computed in one piece.
        kinds = [traits[id(runs[place].net)].activations for place in places]
        order = list(dict.fromkeys(kinds))
        places = [place for kind in order for place, own in zip(places, kinds, strict=True) if own == kind]
        fleets += _split(places, _with_batches(group, runs[places[0]]), networks, settings)
    return sorted(fleets, key=lambda fleet: fleet.places)


def _with_batches(traits: _GroupTraits, run: Run) -> _GroupTraits:
    if _batches(run):
        return traits
    # skorch validates the network that it has not trained, or raises
    given = f"batch_size={run.batch_size} and drop_last={run.drop_last}"
    reason = f"{given} give no batch from {len(run.rows)} training samples"
    return dataclasses.replace(traits, alone=Alone.NEEDS_SKORCH, reason_alone=reason)


def _split(
    places: Sequence[int], traits: _GroupTraits, networks: Mapping[int, nn.Module], settings: FleetSettings
) -> Iterator[Fleet]:
    """Yield fleets of nearly equal size, none of them with too many runs."""
    most = 1 if traits.alone else settings.runs_per_fleet(traits.size, len(places))
    parts = -(-len(places) // most)
    for part in range(parts):
        share = tuple(places[part * len(places) // parts : (part + 1) * len(places) // parts])
        built = {place: networks[place] for place in share if place in networks}
        yield Fleet(share, traits.layer_by_layer, traits.alone, traits.reason_alone, built)


def _traits_of(run: Run, x: Tensor, y: Tensor, settings: FleetSettings) -> _GroupTraits:
    """Try a network on two samples: alone, then together with a copy of itself."""
    try:
        network = run.build()
    except Exception as error:  # raised by the user's module, which raises it again in training
        return _GroupTraits(
            alone=Alone.FAILS, reason_alone=f"the network cannot be built: {summarize_error(error)}"
        )
    lazy = not isinstance(network, nn.Module) or any(map(is_lazy, network.parameters()))
    buffers = {} if lazy else {name: value.clone() for name, value in network.named_buffers()}
    try:
        with run.noise():
            before = torch.get_rng_state()
            if problem := fleet_problem(run, network, x, y):
                return _GroupTraits(alone=Alone.NEEDS_SKORCH, reason_alone=problem)
            draws = not torch.equal(before, torch.get_rng_state())
            layers = trace_layers(network) if settings.layer_by_layer else None
            problem = _problem([network], layers, run, x, y)
            if problem and layers is not None:  # a layer without explicit steps, such as an embedding
                layers, problem = None, _problem([network], None, run, x, y)
    except Exception as error:  # too little memory: there may be more in training
        return _GroupTraits(alone=Alone.FAILS, reason_alone=summarize_error(error))
    if problem:
        reason = f"a fleet cannot train the network: {problem}"
        return _GroupTraits(alone=Alone.NEEDS_SKORCH, reason_alone=reason)
    is_sequential = layers is not None
    if draws:
        return _GroupTraits(layer_by_layer=is_sequential, alone=Alone.DRAWS, reason_alone=_DRAWS)
    if problem := _problem([network, network], layers, run, x, y):
        reason = f"torch.vmap cannot run the network: {problem}"
        return _GroupTraits(layer_by_layer=is_sequential, alone=Alone.NO_VMAP, reason_alone=reason)
    tensors = [*network.named_parameters(), *network.named_buffers()]
    weights = tuple((name, tuple(t.shape), t.dtype, t.requires_grad) for name, t in tensors)
    size = sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.copy_(buffers.get(name, value))
    reusable = not lazy and size <= settings.weights_per_fleet  # larger ones would take memory until then
    kinds, activations = _layers_key(run, network, layers)
    return _GroupTraits(
        weights, size, kinds, activations, is_sequential, network=network if reusable else None
    )


def _layers_key(run: Run, network: nn.Module, layers: Sequence[TracedLayer] | None) -> tuple[Any, str]:
    """Return the properties that layers must share, and the formulas in which they may differ."""
    parts = [
        as_catalogue_activation(network.get_submodule(link.name[:-1]))
        for link in layers or ()
        if link.kind == "formula"
    ]
    activations = str([(part.activation.name, parameter_values(part)) for part in parts if part])
    kinds: Any = tuple((link.kind, link.name, link.text) for link in layers or ())
    if layers is None or any(link.kind == "module" for link in layers):
        # Only networks from one factory are sure to compute the same in a module.
        kinds = (kinds, id(run.net))
    return kinds, activations


def _problem(
    modules: Sequence[nn.Module], line: Sequence[TracedLayer] | None, run: Run, x: Tensor, y: Tensor
) -> str:
    """Return the error of a step; an empty text if it works."""
    try:
        _try(modules, line, run, x, y)
    except Exception as error:  # the user's module
        if out_of_memory(error):
            raise
        return summarize_error(error)
    return ""


def _batches(run: Run) -> int:
    return run.steps if run.batch_size > 0 else 0


def _try(
    modules: Sequence[nn.Module], line: Sequence[TracedLayer] | None, run: Run, x: Tensor, y: Tensor
) -> None:
    step = create_step(modules, line, run.loss, "cpu", False)
    step.gradients(x.expand(len(modules), *x.shape), y.expand(len(modules), *y.shape))


def _must_agree_in(run: Run, traits: _GroupTraits) -> tuple[Any, ...]:
    """Return the settings that the runs of a fleet share."""

    def rows(part: Any) -> int:
        return -1 if part is None else len(part)

    options = {**vars(run.loss), **{name: value.tolist() for name, value in run.loss.named_buffers()}}
    loss = (type(run.loss), str({name: value for name, value in options.items() if name != "_buffers"}))
    rule = (run.optimizer.name, run.optimizer.flags, tuple(run.optimizer.numbers))
    pace = run.schedule and run.schedule.every
    sizes = (rows(run.rows), rows(run.valid), rows(run.test), run.epochs, run.batch_size, run.piece)
    ways = (run.shuffle, run.drop_last, run.scoring, run.device, run.precision, run.diagnostic_epochs)
    return (traits.weights, traits.layers, traits.layer_by_layer, loss, rule, pace, sizes, ways)
