"""What fuses with what: runs become fleets, from the runs alone and always the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from actlab.errors import summarize_error
from actlab.fleet.layers import as_formula, constants
from actlab.fleet.probe import fleet_problem, out_of_memory
from actlab.fleet.run import Run
from actlab.fleet.sequential_step import step_of
from actlab.fleet.settings import FleetSettings
from actlab.fleet.trace import Link, straight_line

_PROBE = 2  # rows, and nets, that a net is tried with
_DRAWS = "the network draws random numbers while it trains; in a fleet the other networks would change them"


@dataclass(frozen=True)
class Fleet:
    """Runs that train in one loop.

    Attributes:
        places: Which runs, by their place in the list that was planned.
        layer_by_layer: Whether their nets are straight lines, to be stepped by hand.
        reason_alone: Why a run is by itself; empty when it might have had company.
        draws: Whether it draws random numbers while it trains.
        needs_skorch: Whether no fleet can train it, not even alone.
    """

    places: tuple[int, ...]
    layer_by_layer: bool
    reason_alone: str = ""
    draws: bool = False
    needs_skorch: bool = False


@dataclass(frozen=True)
class _Net:
    """What decides with which others a net can train."""

    weights: tuple[Any, ...] = ()
    size: int = 0
    layers: Any = None
    activations: str = ""
    layer_by_layer: bool = False
    reason_alone: str = ""
    draws: bool = False
    needs_skorch: bool = False


def plan(runs: Sequence[Run], X: Tensor, y: Tensor, settings: FleetSettings) -> list[Fleet]:
    """Group runs into fleets.

    Args:
        runs: What is to be trained.
        X: Inputs (n, ...); two rows are tried.
        y: Targets (n, ...).
        settings: How many networks make a fleet.

    Returns:
        The fleets, in the order of their first runs.
    """
    nets: dict[int, _Net] = {}  # runs that differ in numbers share the object that makes their net
    groups: dict[Any, list[int]] = {}
    for place, run in enumerate(runs):
        if id(run.net) not in nets:
            nets[id(run.net)] = _look(run, X[:_PROBE], y[:_PROBE], settings)
        net = nets[id(run.net)]
        apart = bool(net.reason_alone) or not _batches(run)
        groups.setdefault(place if apart else _key(run, net), []).append(place)
    fleets = []
    for places in groups.values():
        first = runs[places[0]]
        net = nets[id(first.net)]
        if not _batches(first):  # skorch validates the network that it has not trained, or raises
            given = f"batch_size={first.batch_size} and drop_last={first.drop_last}"
            reason = f"{given} give no batch from {len(first.rows)} training samples"
            net = dataclasses.replace(net, reason_alone=reason, needs_skorch=True)
        # Equal activations stand together: each is then computed in one piece.
        seen = list(dict.fromkeys(nets[id(runs[place].net)].activations for place in places))
        places.sort(key=lambda place: seen.index(nets[id(runs[place].net)].activations))
        most = 1 if net.reason_alone else settings.runs_per_fleet(net.size, len(places))
        cuts = -(-len(places) // most)
        for cut in range(cuts):
            share = places[cut * len(places) // cuts : (cut + 1) * len(places) // cuts]
            fleets.append(
                Fleet(tuple(share), net.layer_by_layer, net.reason_alone, net.draws, net.needs_skorch)
            )
    return sorted(fleets, key=lambda fleet: fleet.places)


def _look(run: Run, x: Tensor, y: Tensor, settings: FleetSettings) -> _Net:
    """Try a net with two rows: alone, then beside a copy of itself."""
    try:
        module = run.build()
    except Exception as error:  # anybody's module; it fails again when its turn comes
        return _Net(reason_alone=f"the network cannot be built: {summarize_error(error)}")
    try:
        with run.noise():
            before = torch.get_rng_state()
            if problem := fleet_problem(run, module, x, y):
                return _Net(reason_alone=problem, needs_skorch=True)
            draws = not torch.equal(before, torch.get_rng_state())
            line = straight_line(module) if settings.layer_by_layer else None
            problem = _problem([module], line, run, x, y)
            if problem and line is not None:  # a layer that a chain cannot step, such as an embedding
                line, problem = None, _problem([module], None, run, x, y)
    except Exception as error:  # too little memory: there may be more when its turn comes
        return _Net(reason_alone=summarize_error(error))
    if problem:
        return _Net(reason_alone=f"a fleet cannot train the network: {problem}", needs_skorch=True)
    tensors = [*module.named_parameters(), *module.named_buffers()]
    weights = tuple((name, tuple(t.shape), t.dtype, t.requires_grad) for name, t in tensors)
    size = sum(p.numel() for p in module.parameters())
    parts = [
        as_formula(module.get_submodule(link.name[:-1])) for link in line or () if link.kind == "formula"
    ]
    activations = str([(part.activation.name, constants(part)) for part in parts if part])
    layers: Any = tuple((link.kind, link.name, link.text) for link in line or ())
    if line is None or any(link.kind == "module" for link in line):
        # What a module computes cannot be read off it: only nets that one maker makes are sure to agree.
        layers = (layers, id(run.net))
    net = _Net(weights, size, layers, activations, line is not None)
    if draws:
        return _Net(layer_by_layer=net.layer_by_layer, reason_alone=_DRAWS, draws=True)
    if problem := _problem([module, module], line, run, x, y):
        return _Net(
            layer_by_layer=net.layer_by_layer, reason_alone=f"torch.vmap cannot run the network: {problem}"
        )
    return net


def _problem(modules: Sequence[nn.Module], line: list[Link] | None, run: Run, x: Tensor, y: Tensor) -> str:
    """Return the error of a step; an empty text if it can be made."""
    try:
        _try(modules, line, run, x, y)
    except Exception as error:  # anybody's module
        if out_of_memory(error):
            raise
        return summarize_error(error)
    return ""


def _batches(run: Run) -> int:
    return run.steps if run.batch_size > 0 else 0


def _try(modules: Sequence[nn.Module], line: list[Link] | None, run: Run, x: Tensor, y: Tensor) -> None:
    step = step_of(modules, line, run.loss, "cpu", False)
    step.gradients(x.expand(len(modules), *x.shape), y.expand(len(modules), *y.shape))


def _key(run: Run, net: _Net) -> tuple[Any, ...]:
    """Return what the runs of a fleet agree in."""

    def rows(part: Any) -> int:
        return -1 if part is None else len(part)

    options = {**vars(run.loss), **{name: value.tolist() for name, value in run.loss.named_buffers()}}
    loss = (type(run.loss), str({name: value for name, value in options.items() if name != "_buffers"}))
    rule = (run.optimizer.name, run.optimizer.flags, tuple(run.optimizer.numbers))
    pace = run.schedule and run.schedule.every
    sizes = (rows(run.rows), rows(run.valid), rows(run.test), run.epochs, run.batch_size, run.piece)
    ways = (run.shuffle, run.drop_last, run.scoring, run.device, run.precision, run.looks)
    return (net.weights, net.layers, net.layer_by_layer, loss, rule, pace, sizes, ways)
