"""The forward of a module, traced: which activations it calls, and the module with others in their places."""

from __future__ import annotations

import abc
import itertools
import math
import os
import pickle
import random
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from actlab import functional
from actlab.activation.definition import Activation, _lookup
from actlab.errors import UsageError, summarize_error
from actlab.models.activation_sites import CALLS, Call, Function, is_function, kind_of, kind_of_module
from actlab.models.bytecode import read_forward, where_of

# What a class whose forward was replaced keeps its own class as.
BASE = "_class_before_swap"
_TORCH = os.path.dirname(torch.__file__)
_TRACING = (os.path.dirname(fx.__file__), abc.__file__, nn.parameter.__file__)
# Functions and methods whose result is no view of what they were given.
_MAKERS = frozenset(
    "add sub mul truediv matmul mm bmm cat stack linear conv1d conv2d conv3d batch_norm layer_norm".split()
)


class Forward:
    """What the forward of a module calls, and why that cannot be replaced, if it cannot.

    A torch.nn layer has no calls here: what it does inside is its own.
    """

    def __init__(self, path: str, module: nn.Module) -> None:
        script = isinstance(module, torch.jit.ScriptModule)
        name = f"{module.original_name if script else type(module).__name__}.forward"
        self.title, self.module = f"{path}: {name}" if path else name, module
        self.calls: list[Call] = []
        self.graph, self.why, self.advice = fx.Graph(), "", "make it a module of its own"
        if kind_of_module(module).activation:
            return
        graph = own_graph(module)
        if script or graph is not None:
            self.calls = script_calls(module) if graph is None else calls_in(graph)
            self.why = "its forward is not one that its class defines"
            self.advice = "replace it before the model is traced, exported or scripted"
        elif not _is_of_torch(module):
            self._find(module)

    def _find(self, module: nn.Module) -> None:
        self.graph, self.why = trace(module, module.training)
        self.calls = calls_in(self.graph)
        around = [call for call in read_forward(module, "__call__") if isinstance(call, Call)]
        read = [] if hasattr(module, BASE) else list(read_forward(module))
        asked = [what for what in read if isinstance(what, str)]
        if asked and not self.why:
            self.why = f"{asked[0]}, which a trace answers for good"
        if around:
            self.why = self.why or "its class has a __call__ of its own"
        if self.why:  # a trace that broke off has not seen everything
            seen = {(call.kind.activation, call.where) for call in self.calls}
            calls = [call for call in (*read, *around) if isinstance(call, Call)]
            self.calls += [call for call in calls if (call.kind.activation, call.where) not in seen]

    def refuse_if(self, why: str, call: Call) -> None:
        """Raise that a call cannot be replaced, if there is a reason."""
        if why:
            raise UsageError(
                f"swap: {self.title} calls {call.kind.text} ({call.where}), which cannot be replaced: {why}; "
                f"{self.advice}"
            )


class _Proxy(fx.Proxy):
    """A value of a trace that notices when somebody else than fx asks for its type."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        if not sys._getframe(1).f_code.co_filename.startswith(_TRACING):
            tracer: Any = self.tracer
            tracer.unsafe = "it asks for the type of a value, which a trace answers for good"
        return _Proxy


class _Tracer(fx.Tracer):
    """Traces one forward; a module that it calls stays a call."""

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__(autowrap_modules=(math, functional))  # type: ignore[arg-type]
        self.unsafe, self.mode = "", _mode()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, kind: str, target: Any, args: Any, *rest: Any, **options: Any) -> fx.Node:
        if _mode() != self.mode:
            self.unsafe = "it switches gradients or autocast on or off"
        if isinstance(target, Activation):  # which the code of a graph cannot name
            target, args = _defined, (*target.__reduce__()[1], *args)
        node = super().create_node(kind, target, args, *rest, **options)
        frame = sys._getframe(1)
        while frame.f_back and frame.f_code.co_filename.startswith((_TORCH, __file__)):
            frame = frame.f_back
        node.meta["where"] = where_of(frame.f_code, frame.f_lineno)
        return node


def _mode() -> tuple[bool, ...]:
    autocast = (torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast


def _state(module: nn.Module) -> dict[str, Any]:
    """Return what a forward may change, by the name that an error gives it."""
    state: dict[str, Any] = {}
    for name, value in vars(module).items():
        text = "a tensor" if name.startswith("_tensor_constant") else f"self.{name}"
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        state[text] = [id(part) for part in parts]
    draws = random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()
    return {**state, "the random numbers": pickle.dumps(draws)}


def _is_of_torch(module: nn.Module) -> bool:
    """Whether torch has written what runs when a module is called."""
    if "forward" in vars(module):
        return type(module).__module__.startswith("torch.")
    owners = (
        next(cls for cls in type(module).__mro__ if name in vars(cls)) for name in ("forward", "__call__")
    )
    return all(owner.__module__.startswith("torch.") for owner in owners)


def own_graph(module: nn.Module) -> fx.Graph | None:
    """Return the graph of a module that is one, from a trace or an export."""
    graph = vars(module).get("_graph", vars(module).get("graph"))
    return graph if type(graph) is fx.Graph else None


def script_calls(module: Any) -> list[Call]:
    """Return the calls of activations in the forward of a module that TorchScript compiled."""
    graph = getattr(module, "graph", None)  # one without a forward has none
    if graph is None:
        return []
    called = [next(node.inputs()).node().s("name") for node in graph.findAllNodes("prim::CallFunction")]
    kinds = [CALLS.get(f"aten::{name}") for name in called]
    kinds += [kind for name, kind in CALLS.items() if str(name).startswith("aten::") and graph.findNode(name)]
    return [Call(kind, "TorchScript") for kind in dict.fromkeys(kinds) if kind]


def trace(module: nn.Module, training: bool) -> tuple[fx.Graph, str]:
    """Return the graph of a forward, as far as it came, and why it is not all that the forward does."""
    if "forward" in vars(module):
        return fx.Graph(), "its forward is not one that its class defines"
    modes: list[tuple[nn.Module, bool]] = []
    tracer = None
    with torch.set_grad_enabled(training), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            twin = object.__new__(type(module))  # what the forward sets is set on the twin
            own = vars(module).items()
            vars(twin).update({n: v.copy() if isinstance(v, dict | list) else v for n, v in own})
            for name in [name for name, value in own if is_function(value)]:
                twin._modules[name] = Function(vars(twin).pop(name))  # a place, not a call
            modes = [(part, part.training) for part in twin.modules()]
            tracer = _Tracer()
            for part, _ in modes:
                part.training = training
            before = _state(twin)
            tracer.trace(twin)
            changed = [name for name, value in _state(twin).items() if before.get(name) != value]
            why = tracer.unsafe or (f"it makes or changes {changed[0]}" if changed else "")
        except (Exception, SystemExit) as error:  # anybody's forward, run on a proxy
            why = summarize_error(error)
        finally:
            for part, mode in modes:
                part.training = mode
    return getattr(tracer, "graph", fx.Graph()), why


def _defined(module: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call the activation of that name."""
    return _lookup(module, name)(*args, **kwargs)


def calls_in(graph: fx.Graph) -> list[Call]:
    """Return the calls of activations in a graph."""
    calls = []
    for node in graph.nodes:
        own = node.target is _defined
        if node.op in ("call_function", "call_method"):
            kind = kind_of(_lookup(*node.args[:2])) if own else CALLS.get(node.target)
            if kind is not None:
                calls.append(Call(kind, node.meta.get("where", node.name), node))
    return calls


def _input(node: fx.Node) -> Any:
    given = node.args[2:] if node.target is _defined else node.args
    return given[0] if given else node.kwargs["input"]


def overwriting(call: Call) -> str:
    """Say why a call in place is more than its result: what it overwrites is used after it, or is a view."""
    node, source = call.node, _input(call.node)
    word = str(getattr(node.target, "__name__", node.target))
    inplace = node.kwargs.get("inplace") or any(arg is True for arg in node.args[1:])
    if not (word.endswith("_") or inplace or "out" in node.kwargs):
        return ""
    later = itertools.dropwhile(lambda other: other is not node, node.graph.nodes)
    if not set(source.users).isdisjoint(itertools.islice(later, 1, None)):
        return "it works in place on what is used again"
    maker = getattr(source.target, "__name__", source.target)
    own = source.op in ("placeholder", "call_module") or maker in _MAKERS
    return "" if own else f"it works in place on what {maker} gave, which may be a view"


def code_with(graph: fx.Graph, calls: Sequence[Call], names: Sequence[str]) -> str:
    """Put modules of these names in the place of calls; return the code."""
    for call, name in zip(calls, names, strict=False):
        with graph.inserting_after(call.node):
            new = graph.call_module(name, (_input(call.node),))
        call.node.replace_all_uses_with(new)
        graph.erase_node(call.node)
    return graph.python_code("self").src


# -- a module with another forward ----------------------------------------------------------------------


def recipe_of(graph: fx.Graph) -> Any:
    """Return how to make, from text, a module that has this forward: what fx pickles of it."""
    uses = {str(node.target): node.op for node in graph.nodes if node.op in ("get_attr", "call_module")}
    stubs = {
        n: nn.Identity() if op == "call_module" else nn.Parameter(torch.empty(0)) for n, op in uses.items()
    }
    return fx.GraphModule(stubs, graph).__reduce__()


def with_forward(base: Any, recipe: Any) -> type:
    """Return a class that differs from its base in its forward, and whose modules pickle."""
    make, (body, imports) = recipe

    def __reduce_ex__(self: Any, protocol: Any) -> tuple[Any, ...]:
        state = base.__reduce_ex__(self, max(2, protocol))[2:]
        return _blank, (base, recipe), *state

    own = {BASE: base, "__reduce_ex__": __reduce_ex__, "forward": type(make(dict(body), imports)).forward}
    names = ("__module__", "__qualname__", "__doc__")
    return type(base.__name__, (base,), {**{name: getattr(base, name) for name in names}, **own})


def _blank(base: type, recipe: Any) -> Any:
    cls: Any = with_forward(base, recipe)
    return cls.__new__(cls)


def take_forward(module: nn.Module, recoded: type, new: Mapping[str, nn.Module]) -> None:
    """Give a module another forward, and the modules that it calls."""
    for name, part in new.items():
        setattr(module, name, part)
    module.__class__ = recoded
