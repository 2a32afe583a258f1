"""Identify activations, and find where a model has them."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from inspect import Parameter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.overrides import TorchFunctionMode

from actlab.activation.definition import Activation
from actlab.activation.module import ActivationModule
from actlab.functions import DEFINITIONS


class Kind(NamedTuple):
    """What a module or function computes, the keys of a swap that stand for it, and how a call is written.

    The first key is the name of an activation: that of the catalogue, or that of the class if the catalogue
    has no such function. Any other module has its class alone.
    """

    activation: Activation[...] | None
    keys: tuple[str | type, ...]
    text: str = ""

    @property
    def name(self) -> str | None:
        """The name of an activation; None for any other module."""
        first = self.keys[0]
        return first if isinstance(first, str) else None


class Site(NamedTuple):
    """An attribute of a module that holds a module, or an activation function.

    Attributes:
        owner: The module with the attribute.
        name: The name of the attribute.
        path: The path of the attribute in the model.
        value: The module or function.
    """

    owner: nn.Module
    name: str
    path: str
    value: Any


def _list_torch_functions() -> dict[Any, Kind]:
    """Return the activations of torch by function, and the methods of its tensors by name."""
    kinds = {torch.special.expit: _make_kind(DEFINITIONS["sigmoid"], nn.Sigmoid, "torch.special.expit")}
    for name, activation in DEFINITIONS.items():
        if (equivalent := activation.facts.torch_equivalent) is None:
            continue
        for prefix, namespace in (("F", F), ("torch", torch), ("x", Tensor)):
            for attribute in (word for word in (name, f"{name}_") if hasattr(namespace, word)):
                kind = _make_kind(activation, getattr(nn, equivalent), f"{prefix}.{attribute}")
                for key in [getattr(namespace, attribute), *([attribute] if prefix == "x" else [])]:
                    kinds.setdefault(key, kind)
    return kinds


def _make_kind(activation: Activation[...], cls: type, text: str = "") -> Kind:
    return Kind(activation, (activation.name, cls), text)


_TORCH_EQUIVALENTS = {
    getattr(nn, equivalent): a for a in DEFINITIONS.values() if (equivalent := a.facts.torch_equivalent)
}
CALLS = _list_torch_functions()
_FUNCTION_TYPES = frozenset(type(key) for key in CALLS if not isinstance(key, str))


def _find_definition(cls: type) -> Activation[...] | None:
    if issubclass(cls, ActivationModule):
        return getattr(cls, "activation", None)
    return _TORCH_EQUIVALENTS.get(cls)


def identify(value: Any) -> Kind | None:
    """Return the kind of a module, a class or a function; None if there is nothing to replace."""
    if isinstance(value, nn.Module):
        return identify_module(value)
    if isinstance(value, type):
        activation = _find_definition(value)
        return _make_kind(activation, value, f"{value.__name__}()") if activation else None
    function: Any = value.func if isinstance(value, partial) else value
    if issubclass(type(function), Activation):  # isinstance asks the value, which may raise
        return _make_kind(function, function.module_class, f"actlab.functional.{function.name}")
    return CALLS.get(function) if type(function) in _FUNCTION_TYPES else None


def identify_module(module: nn.Module) -> Kind:
    """Return the kind of a module."""
    cls = type(module)
    activation = _find_definition(cls)
    keys: tuple[type, ...] = (cls,)
    if activation is None and _may_be_activation(module):
        activation, is_one = _recognise(module)
        if activation is None:
            name = module.original_name if isinstance(module, ScriptModule) else cls.__name__
            return Kind(None, (name, cls) if is_one else (cls,))
        equivalent = getattr(nn, activation.facts.torch_equivalent or "", cls)
        keys = (cls,) if issubclass(cls, equivalent) else (cls, equivalent)
    return Kind(activation, (activation.name, *keys) if activation else keys)


def is_activation_function(value: Any) -> bool:
    """Whether a value is an activation that is a function."""
    may_be = type(value) in _FUNCTION_TYPES or issubclass(type(value), partial | Activation)
    return may_be and identify(value) is not None


def find_sites(model: nn.Module) -> Iterator[Site]:
    """Yield the modules of a model, owners first, and the activation functions in its attributes.

    Functions inside a module that is itself an activation in the catalogue are not yielded.
    """
    for path, owner in model.named_modules(remove_duplicate=False):
        functions = {name: value for name, value in vars(owner).items() if is_activation_function(value)}
        if functions and identify_module(owner).activation:
            functions = {}
        for name, value in {**owner._modules, **functions}.items():
            if value is not None:
                yield Site(owner, name, f"{path}.{name}" if path else name, value)


class FunctionModule(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function."""
        return self.function(x)

    def extra_repr(self) -> str:
        """Name the function."""
        return getattr(self.function, "__name__", repr(self.function))


# -- activations that other packages wrote -------------------------------------------------------------

_X = torch.tensor(
    [*(i / 32 for i in range(-256, 257)), *range(-80, 81, 4)], dtype=torch.float32, device="cpu"
)
_SOME = torch.arange(len(_X) - 1, 0, -7, device="cpu")[:60].reshape(3, 20)


def _may_be_activation(module: nn.Module) -> bool:
    """Whether a module has no parts and, in every parameter and buffer, at most one number."""
    if type(module).__module__.startswith("torch.nn.") or isinstance(module, FunctionModule):
        return False
    try:
        weights = [*module._parameters.values(), *module._buffers.values()]
        return not len(module._modules) and all(weight is None or weight.numel() <= 1 for weight in weights)
    except Exception:  # a lazy parameter has no size yet
        return False


def _recognise(module: nn.Module) -> tuple[Activation[...] | None, bool]:
    """Return which activation in the catalogue a module computes, and whether it is an activation at all.

    It is one if it computes a non-linear function of each element. Its values are compared with those of
    the activations that it calls, and of the catalogue with default parameters. A module with parameters is
    in no catalogue: training changes what it computes.
    """
    calls = _Recorder()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probe = copy.deepcopy(module).eval().to("cpu", torch.float32)
            part = probe.forward(_X[_SOME].clone())
            with calls:
                y = probe.forward(_X.clone())
            if y.shape != _X.shape or y.dtype != _X.dtype or not y.isfinite().all():
                return None, False
            line = y[0] + (_X - _X[0]) * ((y[-1] - y[0]) / (_X[-1] - _X[0]))
            if not _are_close(y[_SOME], part) or _are_close(y, line):
                return None, False
    except (Exception, SystemExit):  # raised by the user's forward
        return None, False
    pairs = [] if any(True for _ in module.parameters()) else [*calls.activations, *_evaluate_catalogue()]
    return next((activation for activation, values in pairs if _are_close(y, values)), None), True


def _are_close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5)


class _Recorder(TorchFunctionMode):
    """Records the activations that are called on an input, with their values."""

    def __init__(self) -> None:
        super().__init__()
        self.activations: list[tuple[Activation[...], Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = args[0] if args else None
        whole = isinstance(first, Tensor) and first.shape == _X.shape and torch.equal(first, _X)
        result = func(*args, **(kwargs or {}))
        if whole and (kind := CALLS.get(func)) and kind.activation:
            self.activations.append((kind.activation, result.clone()))
        return result


@functools.cache
def _evaluate_catalogue() -> list[tuple[Activation[...], Tensor]]:
    """Return the values of the catalogue's activations, those that torch has first."""
    results = []
    for activation in sorted(DEFINITIONS.values(), key=lambda a: a.facts.torch_equivalent is None):
        defaults = activation.parameters
        if activation.facts.gated or activation.formulas.preparation or Parameter.empty in defaults.values():
            continue
        variants = (
            [defaults, {**defaults, "approximate": "tanh"}] if "approximate" in defaults else [defaults]
        )
        for values in variants:
            results.append((activation, activation.__wrapped__(_X.double(), **values).float()))
    return results
