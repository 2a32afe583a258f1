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
from actlab.models.networks import NeuralNet

_STATELESS = (NeuralNet, nn.Sequential, nn.Linear)


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
        Its layers in order; None when it branches, uses a layer twice or not at all, does in training what
        it does not in evaluation, applies an ``autograd.Function``, or cannot be traced.
    """
    was = module.training
    # Tracing calls forward directly, without hooks.
    if any(is_patched(part) for part in module.modules() if _contains_linear(part)):
        return None
    with _tracing, _applied() as applied:
        try:
            lines = [_links(module.train(mode)) for mode in (True, False)]
        except Exception:  # the user's forward, run on a proxy; autograd takes what cannot be traced
            return None
        finally:
            module.train(was)
    line = lines[0]
    if (
        applied
        or line is None
        or lines[1] is None
        or [link.text for link in line] != [link.text for link in lines[1]]
    ):
        return None
    names = [link.name for link in line if link.name]
    known = {name for name, _ in module.named_parameters()}
    own = [
        name + part
        for name in names
        for part, _ in module.get_submodule(name[:-1]).named_parameters(remove_duplicate=False)
    ]
    return line if len(set(names)) == len(names) and sorted(own) == sorted(known) else None


def is_stateless(module: nn.Module) -> bool:
    """Return whether a network has only library code that changes no state and draws no random numbers."""
    parts = list(module.modules())
    known = all(type(part) in _STATELESS or as_catalogue_activation(part) is not None for part in parts)
    return known and not any(map(is_patched, parts))


def is_patched(module: nn.Module) -> bool:
    """Return whether a module has hooks, or a ``forward`` of its own that replaces that of its class."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(module) or any(getattr(module, name) for name in hooks)


@contextlib.contextmanager
def _applied() -> Iterator[list[str]]:
    """Yield a list that gets an element for each ``autograd.Function`` that this thread applies.

    A trace records the operations of its forward and loses its backward.
    """
    apply: Any = autograd.Function.apply
    found, before, code = list[str](), sys.getprofile(), apply.__func__.__code__

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is code:
            found.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)


_tracing = threading.RLock()  # fx patches nn.Module for all threads while it traces


def _links(module: nn.Module) -> list[TracedLayer] | None:
    nodes = list(_Tracer().trace(module).nodes)
    links = []
    for before, node, after in zip(nodes, nodes[1:], nodes[2:], strict=False):
        if node.all_input_nodes != [before] or list(node.users) != [after] or node.args[:1] != (before,):
            return None
        link = _link(module, node)
        if link is None:
            return None
        links.append(link)
    ends = len(nodes) > 2 and nodes[0].op == "placeholder" and nodes[-1].op == "output"
    return links if ends and nodes[-1].args == (nodes[-2],) else None


def _link(net: nn.Module, node: fx.Node) -> TracedLayer | None:
    rest, kwargs = node.args[1:], node.kwargs
    if node.op == "call_module":
        if rest or kwargs:
            return None
        part, name = net.get_submodule(str(node.target)), f"{node.target}."
        if is_patched(part):
            return TracedLayer("module", name, "")
        if type(part) is nn.Linear and all(p.requires_grad for p in part.parameters()):
            return TracedLayer("linear", name, repr(part))
        if (formula := as_catalogue_activation(part)) is not None:
            parameters = parameter_values(formula)
            return TracedLayer("formula", name, "", f"{formula.activation.name}{parameters}")
        return TracedLayer("module", name, "")
    if node.op not in ("call_function", "call_method"):
        return None
    target = node.target if callable(node.target) else getattr(Tensor, node.target)

    def apply(x: Tensor) -> Tensor:
        result: Tensor = target(x, *rest, **kwargs)
        return result

    return TracedLayer("function", "", f"{node.target}{rest}{dict(kwargs)}", apply=apply)
