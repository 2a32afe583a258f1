"""Call a network with two samples, as skorch does, to find out whether a fleet can train it."""

from __future__ import annotations

import random
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from actlab.errors import summarize_error
from actlab.fleet.losses import single_loss
from actlab.fleet.module_state import StateWatch, random_state
from actlab.fleet.run import Run
from actlab.fleet.trace import is_stateless


def fleet_problem(run: Run, module: nn.Module, x: Tensor, y: Tensor) -> str:
    """Return why no fleet can train a network, as a sentence; an empty text if a fleet may be able to.

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
    generators = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # skorch shows them
            return _problem(run, module, x, y)
    except Exception as error:  # the user's module
        if out_of_memory(error):
            raise
        return f"the network failed on two samples: {summarize_error(error)}"
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])


def _problem(run: Run, module: nn.Module, x: Tensor, y: Tensor) -> str:
    dtypes = {str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.requires_grad}
    if len(dtypes) > 1 or any(p.is_complex() for p in module.parameters()):
        return f"the network has parameters in {' and '.join(sorted(dtypes))}; a fleet needs one real dtype"
    watch, drawn = StateWatch(module), random_state()
    for mode in ("training", "evaluation"):
        module.train(mode == "training")
        before = {name: value.detach().clone() for name, value in _fixed(module).items()}
        with torch.set_grad_enabled(module.training):
            outputs = module(x)
        if not isinstance(outputs, Tensor):
            return f"the network returns a {type(outputs).__name__}; a fleet needs one tensor"
        if module.training and (unused := _unused(run, module, outputs, y)):
            return f"the loss does not depend on the parameter {unused}; a fleet updates every parameter"
        if change := watch.change():
            return change
        if drawn != random_state():
            return (
                "the network draws from Python's or NumPy's global random generator; "
                "the networks of a fleet would share these draws"
            )
        for name, value in _fixed(module).items():
            if not torch.equal(value, before[name]) and not value.isnan().any():
                return f"the network changes {name} when it is called in {mode} mode; a fleet does not"
    return ""


def _unused(run: Run, module: nn.Module, outputs: Tensor, y: Tensor) -> str:
    """Run backward; return the name of a parameter that the loss does not depend on."""
    weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
    loss = single_loss(run.loss, outputs, y)
    grads = torch.autograd.grad(loss, list(weights.values()), allow_unused=True) if weights else ()
    return next((name for name, grad in zip(weights, grads, strict=True) if grad is None), "")


def _fixed(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a call must not change: parameters, and in evaluation mode buffers too."""
    buffers = {} if module.training else dict(module.named_buffers())
    return {name: t for name, t in {**dict(module.named_parameters()), **buffers}.items() if not is_lazy(t)}


def out_of_memory(error: Exception) -> bool:
    """Return whether an error means that there is too little memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
