"""Trace the layers of a sequential network."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import Tensor, autograd, fx, nn

from actlab.fleet.layers import TracedLayer, as_catalogue_activation, parameter_values
from actlab.functions import DEFINITIONS
from actlab.models.networks import NeuralNet

_STATELESS = (NeuralNet, nn.Sequential, nn.Linear)
_FAMILIES = {activation.__wrapped__.__module__ for activation in DEFINITIONS.values()}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Return False for modules that contain a linear layer, so that only these are traced."""
        return not _contains_linear(module)


def _contains_linear(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Linear) for part in module.modules() if part is not module)


def trace_layers(module: nn.Module) -> list[TracedLayer] | None:
    """Return the layers of a network that passes one tensor through them, one after the other.

    Args:
        module: Any network.

    Returns:
        Its layers in order. None if it branches, uses a layer twice or not at all, has different layers in
        training and evaluation, applies an ``autograd.Function``, or cannot be traced.
    """
    # Tracing calls forward directly, without hooks.
    if any(is_patched(part) for part in module.modules() if part is module or _contains_linear(part)):
        return None
    was_training = module.training
    with _tracing, _record_autograd_functions() as applied:
        try:
            layers, evaluation_layers = (_trace(module.train(mode)) for mode in (True, False))
        except Exception:  # the user's forward, called with a proxy; autograd trains what cannot be traced
            return None
        finally:
            module.train(was_training)
    if applied or layers is None or evaluation_layers is None:
        return None
    if [layer.description for layer in layers] != [layer.description for layer in evaluation_layers]:
        return None
    names = [layer.name for layer in layers if layer.name]
    parameters = [
        name + parameter
        for name in names
        for parameter, _ in module.get_submodule(name[:-1]).named_parameters(remove_duplicate=False)
    ]
    expected = sorted({name for name, _ in module.named_parameters()})
    return layers if len(set(names)) == len(names) and sorted(parameters) == expected else None


def is_stateless(module: nn.Module) -> bool:
    """Return whether a network has only torch's and actlab's code, without state changes or random numbers.

    A function in an attribute, such as the activation of a :class:`NeuralNet`, may be user code.
    """
    parts = list(module.modules())
    formulas = [as_catalogue_activation(part) for part in parts if type(part) not in _STATELESS]
    known = [f is not None and f.activation.__wrapped__.__module__ in _FAMILIES for f in formulas]
    has_functions = any(callable(value) for part in parts for value in vars(part).values())
    return all(known) and not has_functions and not any(map(is_patched, parts))


def is_patched(module: nn.Module) -> bool:
    """Return whether a module has hooks, or an attribute ``forward`` that replaces its class's method."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(module) or any(getattr(module, name) for name in hooks)


@contextlib.contextmanager
def _record_autograd_functions() -> Iterator[list[str]]:
    """Yield a list that gets an element for each ``autograd.Function`` that this thread applies.

    A trace records the operations of its forward and loses its backward.
    """
    applied, profiler, kind = list[str](), sys.getprofile(), type(autograd.Function)

    def record(_: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ == "apply" and isinstance(called.__self__, kind):
            applied.append(called.__name__)

    sys.setprofile(record)
    try:
        yield applied
    finally:
        sys.setprofile(profiler)


_tracing = threading.RLock()  # fx patches nn.Module for all threads while it traces


def _trace(module: nn.Module) -> list[TracedLayer] | None:
    """Return the layers in the current mode; None if a node has other inputs or users than its neighbours."""
    nodes = list(_Tracer().trace(module).nodes)
    layers = []
    for before, node, after in zip(nodes, nodes[1:], nodes[2:], strict=False):
        if node.all_input_nodes != [before] or list(node.users) != [after] or node.args[:1] != (before,):
            return None
        if (layer := _layer_of_node(module, node)) is None:
            return None
        layers.append(layer)
    has_ends = len(nodes) > 2 and nodes[0].op == "placeholder" and nodes[-1].op == "output"
    return layers if has_ends and nodes[-1].args == (nodes[-2],) else None


def _layer_of_node(module: nn.Module, node: fx.Node) -> TracedLayer | None:
    args, kwargs = node.args[1:], node.kwargs
    if node.op == "call_module":
        part, name = module.get_submodule(str(node.target)), f"{node.target}."
        return None if args or kwargs else _layer_of_module(part, name)
    if node.op not in ("call_function", "call_method"):
        return None
    target = node.target if callable(node.target) else getattr(Tensor, node.target)

    def apply(x: Tensor) -> Tensor:
        result: Tensor = target(x, *args, **kwargs)
        return result

    apply.__name__ = getattr(target, "__name__", str(node.target))
    return TracedLayer("function", "", f"{node.target}{args}{dict(kwargs)}", function=apply)


def _layer_of_module(module: nn.Module, name: str) -> TracedLayer:
    if is_patched(module):
        return TracedLayer("module", name, "")
    if type(module) is nn.Linear and all(p.requires_grad for p in module.parameters()):
        return TracedLayer("linear", name, repr(module))
    if (formula := as_catalogue_activation(module)) is not None:
        parameters = parameter_values(formula)
        return TracedLayer("formula", name, "", f"{formula.activation.name}{parameters}")
    return TracedLayer("module", name, "")
