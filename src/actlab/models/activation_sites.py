"""Identify activations, and find where a model has them."""

from __future__ import annotations

import ast
import copy
import functools
import textwrap
import warnings
from collections.abc import Iterator
from functools import partial
from inspect import Parameter
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.overrides import TorchFunctionMode

from actlab.activation.definition import Activation
from actlab.activation.module import ActivationModule
from actlab.functions import DEFINITIONS
from actlab.introspection.user_code import read_source
from actlab.spec import FunctionModule


class Kind(NamedTuple):
    """What a module or function computes.

    Attributes:
        activation: The activation in the catalogue; None if it has none.
        keys: The keys of a swap that stand for it. The first key of an element-wise activation is its name:
            that of the catalogue, or that of the class if the catalogue has no such function.
        text: A call as source text.
        other: What it contains if it is not an element-wise activation, such as ``"softmax"``, and why an
            element-wise activation cannot replace it; empty for an element-wise activation.
    """

    activation: Activation[...] | None
    keys: tuple[str | type, ...]
    text: str = ""
    other: tuple[str, str] | tuple[()] = ()

    @property
    def name(self) -> str | None:
        """The name of what is computed; None for a module that is not an activation."""
        if self.other:
            return self.other[0]
        return first if self.keys and isinstance(first := self.keys[0], str) else None


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


_NORMALIZES = "it normalizes along a dimension"
_GATED = "it is a gated unit, whose output is smaller than its input"
_SOFTMAX: dict[str, type] = {"softmax": nn.Softmax, "log_softmax": nn.LogSoftmax, "softmin": nn.Softmin}


def _list_torch_functions() -> dict[Any, Kind]:
    """Return the activations of torch by function, and the methods of its tensors by name."""
    attention = ("softmax", _NORMALIZES)
    kinds: dict[Any, Kind] = {
        torch.special.expit: _make_kind(DEFINITIONS["sigmoid"], nn.Sigmoid, "torch.special.expit"),
        F.scaled_dot_product_attention: Kind(None, (), "F.scaled_dot_product_attention", attention),
        F.gumbel_softmax: Kind(None, (), "F.gumbel_softmax", attention),
    }
    for name, cls in _SOFTMAX.items():
        for prefix, namespace in (("F", F), ("torch", torch), ("x", Tensor)):
            if function := getattr(namespace, name, None):
                kinds[function] = Kind(None, (cls,), f"{prefix}.{name}", (name, _NORMALIZES))
                kinds |= {name: kinds[function]} if prefix == "x" else {}
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
    other = (activation.name, _GATED) if activation.facts.gated else ()
    return Kind(activation, (activation.name, cls), text, other)


_COMPILED = "it is in the compiled code of torch.nn.{}"
_OTHER_MODULES = {cls: Kind(None, (cls,), other=(name, _NORMALIZES)) for name, cls in _SOFTMAX.items()}
_OTHER_MODULES |= {
    cls: Kind(None, (cls,), other=(name, _COMPILED.format(cls.__name__)))
    for name, classes in {
        "sigmoid, tanh": (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell),
        "tanh or relu": (nn.RNN, nn.RNNCell),
        "softmax": (nn.MultiheadAttention,),
    }.items()
    for cls in classes
}

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
        if activation := _find_definition(value):
            return _make_kind(activation, value, f"{value.__name__}()")
        other = _OTHER_MODULES.get(value)
        return other and other._replace(text=f"{value.__name__}()")
    function: Any = value.func if isinstance(value, partial) else value
    if issubclass(type(function), Activation):  # isinstance asks the value, which may raise
        return _make_kind(function, function.module_class, f"actlab.functional.{function.name}")
    if type(function) not in _FUNCTION_TYPES:
        return None
    return CALLS.get(function) or (_identify_own_function(value) if value is function else None)


def identify_module(module: nn.Module) -> Kind:
    """Return the kind of a module."""
    cls = type(module)
    if (activation := _find_definition(cls)) is not None:
        return _make_kind(activation, cls)
    if other := next((_OTHER_MODULES[base] for base in cls.__mro__ if base in _OTHER_MODULES), None):
        return other._replace(keys=(cls,))
    if not _may_be_activation(module):
        return Kind(None, (cls,))
    activation, is_one = _recognize(module)
    if activation is None:
        name = module.original_name if isinstance(module, ScriptModule) else cls.__name__
        return Kind(None, (name, cls) if is_one and not module._modules else (cls,))
    equivalent = getattr(nn, activation.facts.torch_equivalent or "", cls)
    keys = (cls,) if issubclass(cls, equivalent) else (cls, equivalent)
    return Kind(activation, (activation.name, *keys))


@functools.lru_cache(maxsize=4096)
def _identify_own_function(function: Any) -> Kind | None:
    """Return the kind of a Python function such as ``def gelu(x): return x * (1 + erf(x / sqrt2)) / 2``.

    A function is called to find out only if it consists of one expression and has one required argument.
    """
    if (
        not isinstance(function, FunctionType)
        or function.__code__.co_argcount - len(function.__defaults__ or ()) != 1
    ):
        return None
    try:
        definition = ast.parse(textwrap.dedent(read_source(function))).body[0]
    except (OSError, TypeError, SyntaxError):  # no source, or a lambda within a statement
        return None
    body = getattr(definition, "body", [])
    if not (isinstance(definition, ast.FunctionDef) and isinstance(body[-1], ast.Return) and len(body) <= 2):
        return None
    activation, _ = _recognize(FunctionModule(function))
    if activation is None:
        return None
    equivalent = getattr(nn, activation.facts.torch_equivalent or "", None)
    return Kind(activation, (activation.name, *([equivalent] if equivalent else [])), function.__name__)


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


# -- activations that other packages wrote -------------------------------------------------------------

_X = torch.tensor(
    [*(i / 32 for i in range(-256, 257)), *range(-80, 81, 4)], dtype=torch.float32, device="cpu"
)
_SOME = torch.arange(len(_X) - 1, 0, -7, device="cpu")[:60].reshape(3, 20)


def _may_be_activation(module: nn.Module) -> bool:
    """Whether a module has at most one number in each parameter and buffer, and no parts but activations."""
    if type(module).__module__.startswith("torch.nn.") or isinstance(module, FunctionModule):
        return False
    try:
        weights = [*module._parameters.values(), *module._buffers.values()]
        small = all(weight is None or weight.numel() <= 1 for weight in weights)
        return small and all(part and identify_module(part).activation for part in module._modules.values())
    except Exception:  # a lazy parameter has no size yet
        return False


def _recognize(module: nn.Module) -> tuple[Activation[...] | None, bool]:
    """Return which activation in the catalogue a module computes, and whether it is an activation at all.

    It is one if it computes a non-linear function of each element. Its values are compared with those of
    the activations that it calls, and of the catalogue with default parameters. A module with parameters
    equals none of them, because training changes what it computes.
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
    """Return the values of the catalogue's activations. Those that torch has come first."""
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
