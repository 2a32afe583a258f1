"""Try a network on two samples, to find out whether and how a fleet can train it."""

from __future__ import annotations

import dataclasses
import enum
import random
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from actlab.errors import summarize_error
from actlab.fleet.diagnostics import try_saved_bytes
from actlab.fleet.layers import EXPLICIT, TracedLayer
from actlab.fleet.losses import compute_loss
from actlab.fleet.module_state import StateWatch, read_random_state
from actlab.fleet.run import Run
from actlab.fleet.settings import FleetSettings
from actlab.fleet.trace import is_stateless, trace_layers
from actlab.fleet.training_step import create_step

_DRAWS = (
    "the network draws random numbers during training; in a fleet, they would depend on the other networks"
)


class ReasonAlone(enum.Enum):
    """Why a run does not share its fleet with others."""

    FAILS = "its network cannot be built or run"
    DRAWS = "its network draws random numbers during training"
    NO_VMAP = "torch.vmap cannot run its network"
    NEEDS_SKORCH = "no fleet can train its network"


@dataclass(frozen=True)
class Trial:
    """How a fleet can train a network.

    Attributes:
        shapes: Names, shapes and dtypes of parameters and buffers. The networks of a fleet share them.
        size: The number of weights.
        saved_bytes: Bytes that a step saves for backward per sample; None if all layers have explicit
            gradients.
        layers: The layers that the networks of a fleet share.
        activations: The formulas in which the networks of a fleet may differ.
        layer_by_layer: Whether the network is sequential and uses explicit gradients.
        channels_last: If the network trains alone, names of the convolutions to store in channels-last
            format.
        alone: The kind of reason why a run trains by itself; None if it may train with others.
        reason_alone: The reason as a sentence; empty if there is none.
        network: The network in its initial state; None if it has changed or is too large to store.
    """

    shapes: tuple[Any, ...] = ()
    size: int = 0
    saved_bytes: float | None = None
    layers: Any = None
    activations: tuple[str, ...] = ()
    layer_by_layer: bool = False
    channels_last: tuple[str, ...] = ()
    alone: ReasonAlone | None = None
    reason_alone: str = ""
    network: nn.Module | None = None


def try_in_fleet(run: Run, x: Tensor, y: Tensor, settings: FleetSettings) -> Trial:
    """Try to train the network of a run alone and, if a fleet calls its modules, together with a copy.

    Args:
        run: A run of the network.
        x: Two samples (2, ...).
        y: Their targets (2, ...).
        settings: How fleets compute. The trial does not store a network that fills a fleet by itself.
    """
    try:
        network = run.build()
    except Exception as error:  # raised by the user's module, which raises it again in training
        reason = f"the network cannot be built: {summarize_error(error)}"
        return Trial(alone=ReasonAlone.FAILS, reason_alone=reason)
    has_lazy = not isinstance(network, nn.Module) or any(map(is_lazy, network.parameters()))
    buffers = {} if has_lazy else {name: value.clone() for name, value in network.named_buffers()}
    try:
        with run.seed_noise():
            state = torch.get_rng_state()
            if problem := find_fleet_problem(run, network, x, y):
                return Trial(alone=ReasonAlone.NEEDS_SKORCH, reason_alone=problem)
            draws = not torch.equal(state, torch.get_rng_state())
            layers = _find_layers(network) if settings.layer_by_layer else None
            problem = _find_step_problem([network], layers, run, x, y)
            if problem and layers is not None:  # a layer that has no gradient, such as a lookup
                layers, problem = None, _find_step_problem([network], None, run, x, y)
            channels_last = () if layers else _find_channels_last(network, run, x, y)
    except Exception as error:  # too little memory, which may be available in training
        return Trial(alone=ReasonAlone.FAILS, reason_alone=summarize_error(error))
    if problem:
        reason = f"a fleet cannot train the network: {problem}"
        return Trial(alone=ReasonAlone.NEEDS_SKORCH, reason_alone=reason)
    trial = Trial(layer_by_layer=layers is not None, channels_last=channels_last)
    if draws:
        return dataclasses.replace(trial, alone=ReasonAlone.DRAWS, reason_alone=_DRAWS)
    is_explicit = layers is not None and all(layer.kind in EXPLICIT for layer in layers)
    if not is_explicit and (reason := _find_vmap_problem(network, layers, run, x, y)):
        return dataclasses.replace(trial, alone=ReasonAlone.NO_VMAP, reason_alone=reason)
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.copy_(buffers.get(name, value))
    if not is_explicit:
        trial = dataclasses.replace(trial, saved_bytes=(try_saved_bytes(network, x, len(x)) or 0) / len(x))
    return _describe(trial, run, network, layers, -1 if has_lazy else settings.weights_per_fleet)


def _find_layers(network: nn.Module) -> list[TracedLayer] | None:
    """Return the layers of a network if autograd trains none of its matrices.

    Autograd trains convolutions faster in one graph of all layers.
    """
    layers = trace_layers(network)
    modules = [network.get_submodule(layer.name[:-1]) for layer in layers or () if layer.kind == "module"]
    return None if any(p.ndim > 1 for module in modules for p in module.parameters()) else layers


def _find_channels_last(network: nn.Module, run: Run, x: Tensor, y: Tensor) -> tuple[str, ...]:
    """Return the names of convolutions if the network pools images: torch pools faster with channels last."""
    if run.device != "cpu" or not any(isinstance(part, nn.MaxPool2d) for part in network.modules()):
        return ()
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    convolutions = [name for name, part in network.named_modules() if type(part) is nn.Conv2d]
    names = tuple(name for name in (f"{conv}.weight" for conv in convolutions) if name in trained)
    try:  # a call such as x.view(n, -1) needs the usual layout
        step = create_step([network], None, run.loss, "cpu", False, names)
        step.compute_gradients(x.unsqueeze(0), y.unsqueeze(0))
        with torch.no_grad():
            step.compute_outputs(x.unsqueeze(0))
    except Exception as error:
        _summarize_unless_out_of_memory(error)
        return ()
    return names


def _describe(
    trial: Trial,
    run: Run,
    network: nn.Module,
    layers: Sequence[TracedLayer] | None,
    max_stored_size: int,
) -> Trial:
    """Return the trial of a network that can train with others."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    shapes = tuple((name, tuple(t.shape), t.dtype, t.requires_grad) for name, t in tensors)
    size = sum(p.numel() for p in network.parameters())
    shared: Any = tuple((layer.kind, layer.name, layer.description) for layer in layers or ())
    # Equal modules certainly compute the same only if one factory made them.
    if layers is None or any(layer.kind == "module" for layer in layers):
        shared = shared, id(run.net)
    activations = tuple(layer.activation for layer in layers or ())
    stored = network if size <= max_stored_size else None
    found = {"shapes": shapes, "size": size, "layers": shared, "activations": activations}
    return dataclasses.replace(trial, **found, network=stored)


def _find_step_problem(
    modules: Sequence[nn.Module], layers: Sequence[TracedLayer] | None, run: Run, x: Tensor, y: Tensor
) -> str:
    """Return the error of a training step; an empty string if it works."""
    try:
        step = create_step(modules, layers, run.loss, "cpu", False)
        step.compute_gradients(x.expand(len(modules), *x.shape), y.expand(len(modules), *y.shape))
    except Exception as error:  # raised by the user's module
        return _summarize_unless_out_of_memory(error)
    return ""


def _find_vmap_problem(
    network: nn.Module, layers: Sequence[TracedLayer] | None, run: Run, x: Tensor, y: Tensor
) -> str:
    """Return why :func:`torch.vmap` should not stack a network, as a sentence; empty if it should."""
    with warnings.catch_warnings():
        if run.device == "cpu":  # a graphics card has batching rules for its own kernels
            warnings.filterwarnings("error", "There is a performance drop")
        problem = _find_step_problem([network, network], layers, run, x, y)
    if operation := re.search(r"batching rule for (\S+)\. ", problem):
        return f"torch.vmap computes {operation[1]} for one network at a time"
    return problem and f"torch.vmap cannot run the network: {problem}"


def find_fleet_problem(run: Run, module: nn.Module, x: Tensor, y: Tensor) -> str:
    """Return why no fleet can train a network, as a sentence; an empty string if a fleet may be able to.

    Args:
        run: A run of the network.
        module: A new network of the run. A training step may change its buffers.
        x: Two samples (2, ...).
        y: Their targets (2, ...).

    Raises:
        Exception: There is too little memory.
    """
    if is_stateless(module):
        return ""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # skorch shows them
            return _find_fleet_problem(run, module, x, y)
    except Exception as error:  # raised by the user's module
        return f"the network failed on two samples: {_summarize_unless_out_of_memory(error)}"
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _find_fleet_problem(run: Run, module: nn.Module, x: Tensor, y: Tensor) -> str:
    dtypes = {str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.requires_grad}
    if len(dtypes) > 1 or any(p.is_complex() for p in module.parameters()):
        return f"the network has parameters in {' and '.join(sorted(dtypes))}; a fleet needs one real dtype"
    watch, generators = StateWatch(module), read_random_state()
    for mode in ("training", "evaluation"):
        module.train(mode == "training")
        before = {name: value.detach().clone() for name, value in _constant_tensors(module).items()}
        with torch.set_grad_enabled(module.training):
            outputs = module(x)
        if not isinstance(outputs, Tensor):
            return f"the network returns a {type(outputs).__name__}; a fleet needs one tensor"
        if module.training and (unused := _unused_parameter(run, module, outputs, y)):
            return f"the loss does not depend on the parameter {unused}; a fleet updates every parameter"
        if change := watch.find_change():
            return change
        if generators != read_random_state():
            return (
                "the network draws from Python's or NumPy's global random generator; "
                "the networks of a fleet would share these draws"
            )
        for name, value in _constant_tensors(module).items():
            if not torch.equal(value, before[name]) and not value.isnan().any():
                return (
                    f"the network changes {name} when it is called in {mode} mode; a fleet keeps it constant"
                )
    if _depends_on_batch(module, x):
        return (
            "an output of the network in evaluation mode depends on the other samples of the batch; "
            "a fleet evaluates larger batches"
        )
    return ""


def _depends_on_batch(module: nn.Module, x: Tensor) -> bool:
    """Whether the output for a sample depends on the other sample, in evaluation mode."""
    state, outputs = torch.get_rng_state(), []
    for batch in (x, x[:1].expand_as(x).clone()):
        torch.set_rng_state(state)
        with torch.no_grad():
            outputs.append(module(batch)[0])
    first, second = outputs
    return not torch.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True)


def _unused_parameter(run: Run, module: nn.Module, outputs: Tensor, y: Tensor) -> str:
    """Run backward; return the name of a parameter that the loss does not depend on."""
    weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
    loss = compute_loss(run.loss, outputs, y)
    if weights:
        loss.backward()  # type: ignore[no-untyped-call] # unlike grad, it fails if a derivative is missing
    unused = next((name for name, weight in weights.items() if weight.grad is None), "")
    for weight in weights.values():
        weight.grad = None
    return unused


def _constant_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a call must not change: parameters, and in evaluation mode buffers too."""
    buffers = {} if module.training else dict(module.named_buffers())
    return {name: t for name, t in {**dict(module.named_parameters()), **buffers}.items() if not is_lazy(t)}


def _summarize_unless_out_of_memory(error: Exception) -> str:
    if is_out_of_memory(error):
        raise error
    return summarize_error(error)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that there is too little memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
