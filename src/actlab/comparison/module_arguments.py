"""Find what builds a user's module, and the arguments that it takes for data sizes and the activation."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import skorch
from sklearn.pipeline import Pipeline
from torch import nn

from actlab.data.dataset import Dataset
from actlab.errors import UsageError, summarize_error
from actlab.models.activation_arguments import ACTIVATION_NAME
from actlab.spec import copy_module, import_spec, inspect_parameters

Parameters = dict[str, inspect.Parameter]
_EMPTY = inspect.Parameter.empty

# An argument without a prefix, or with one of these, is for the activation of the hidden layers.
_PREFIXES = (None, "hidden", "inner", "norm", "conv", "default")
# Names of arguments such as n_features, in_features and input_dim; n_classes, out_features and output_dim.
_COUNT, _SIZE = "(num|nb|n|dim|d)", "(features|feats|dim|size|units)"
_SIZE_NAMES = {
    "num_features": re.compile(rf"{_COUNT}_(in(put)?_)?(features|inputs?|in)|(in|inputs?)_{_SIZE}"),
    "num_classes": re.compile(
        rf"{_COUNT}_(out(put)?_)?(features_out|classes|labels|targets|outputs?|out)|(out|outputs?)_{_SIZE}"
    ),
    "image_shape": re.compile("image_shape"),
    "in_channels": re.compile("(num_|n_)?(in|input)_(channels|chans)|(num|n)_channels"),
}
_PASSED = (
    "actlab passes only the activation, the number of features (as num_features, in_features, input_dim, "
    "...), the number of outputs (as num_classes, out_features, output_dim, ...) and image_shape"
)


def find_factory(module: Any) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return the callable that builds the module, and its arguments.

    Raises:
        UsageError: The value is not a module, a callable or the name of one.
    """
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    factory = module
    if isinstance(module, str):
        factory, arguments, keywords = import_spec("module", module)
    if not callable(factory):
        raise UsageError(
            f"module has the type {type(factory).__name__}; it must be an nn.Module, its class, "
            "a function that returns one, 'package.module:Net', or a skorch model"
        )
    return factory, arguments, keywords


def find_model(module: Any) -> Any:
    """Return the skorch model or pipeline that a text names; anything else is returned as it is."""
    if isinstance(module, str):
        value, arguments, keywords = import_spec("module", module)
        if isinstance(value, skorch.NeuralNet | Pipeline) and not (arguments or keywords):
            return value
    return module


def list_arguments(module: Any) -> tuple[Parameters, bool]:
    """Return the arguments of a module that have no value yet, and whether it takes others (``**kwargs``)."""
    factory, arguments, keywords = find_factory(module)
    if isinstance(factory, nn.Module):
        return {}, False
    parameters = inspect_parameters(functools.partial(factory, *arguments, **keywords))
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    is_open = len(named) < len(parameters) and any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {n: p for n, p in named.items() if n not in keywords}, is_open


def list_activation_arguments(module: Any) -> dict[str, Any]:
    """Return the arguments that may take an activation, with their defaults; ``activation`` comes first."""
    parameters, is_open = list_arguments(module)
    passed_on = _list_passed_on(module) if is_open else {}
    defaults = {
        name: parameter.default if name in parameters else None
        for name, parameter in {**passed_on, **parameters}.items()
        if (match := ACTIVATION_NAME.fullmatch(name))
        and match["prefix"] in _PREFIXES
        and not match["number"]
        and not isinstance(parameter.default, int | float)
    }
    if is_open:
        defaults.setdefault("activation", None)
    return dict(sorted(defaults.items(), key=lambda item: item[0] != "activation"))


def list_size_arguments(module: Any, dataset: Dataset) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the sizes of the data as arguments of a module.

    At most one argument receives each size: the one with the name used by
    :class:`~actlab.models.networks.NeuralNet`; else the only one with a similar name and no default; else the
    only one with a similar name. In the last case, a default with which the module works is kept.

    Returns:
        The arguments in the module's signature; and all sets of arguments to try, in this order: those
        without a default, those in its signature, and those that its ``**kwargs`` may pass on.
    """
    parameters, is_open = list_arguments(module)
    sizes = {
        "num_features": dataset.num_features,
        "num_classes": dataset.num_classes,
        "image_shape": dataset.shape or None,
        "in_channels": (dataset.shape or (None,))[0],
    }
    chosen = _choose_names(parameters, sizes)
    needed = {n for n, own in chosen.items() if n == own != "in_channels" or parameters[n].default is _EMPTY}
    every = {name: sizes[own] for name, own in chosen.items()}
    tries = [{name: size for name, size in every.items() if name in needed}, every]
    if is_open:
        passed_on = _choose_names(_list_passed_on(module), sizes)
        named = {name: sizes[own] for name, own in passed_on.items()}
        own_names = {name: sizes[name] for name in ("num_features", "num_classes")}
        tries += [{**every, **more} for more in (named, own_names, {"num_classes": dataset.num_classes})]
    return every, [one for index, one in enumerate(tries) if one not in tries[:index]]


def _choose_names(parameters: Mapping[str, inspect.Parameter], sizes: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the arguments that take a size, with the name of the size."""
    chosen: dict[str, str] = {}
    for own in (name for name, size in sizes.items() if size is not None or name == "image_shape"):
        matches = [name for name in parameters if _SIZE_NAMES[own].fullmatch(name)]
        required = [name for name in matches if parameters[name].default is _EMPTY]
        names = [own] if own in matches else required or matches
        if len(names) == 1:
            chosen[names[0]] = own
    return chosen


def _list_passed_on(module: Any) -> Parameters:
    """Return the arguments of base classes that the ``**kwargs`` of a class may reach."""
    factory = find_factory(module)[0]
    while isinstance(factory, functools.partial):
        factory = factory.func
    parameters: Parameters = {}
    for cls in factory.__mro__ if isinstance(factory, type) else ():
        if (init := vars(cls).get("__init__")) and cls is not nn.Module:
            own = inspect_parameters(init)
            named = {n: p for n, p in own.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
            parameters = {**named, **parameters}
            if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
                break
    return parameters


def require_arguments(module: Any, given: Iterable[str], *, is_skorch: bool) -> None:
    """Raise a UsageError if a module needs arguments that are not given.

    Args:
        module: The module.
        given: The names of the arguments that it gets.
        is_skorch: Whether it is the module of a skorch model.
    """
    known = {*given, *list_activation_arguments(module)}
    missing = [n for n, p in list_arguments(module)[0].items() if p.default is _EMPTY and n not in known]
    if not missing:
        return
    plural = len(missing) > 1
    names = f"argument{'s' * plural} {', '.join(map(repr, missing))}"
    advice = (
        f"set {'them' if plural else 'it'} with functools.partial, or as in 'file.py:Net({missing[0]}=8)'"
    )
    advice += f"; {_PASSED}"
    if is_skorch:
        advice = f"set module__{missing[0]} in the skorch model"
    raise UsageError(f"module {name_module(module)} needs the {names}; {advice}")


def build_module(module: Any, options: Mapping[str, Any]) -> nn.Module:
    """Build a user's module; an instance is copied and reset.

    Raises:
        UsageError: It cannot be built, or is not a module.
    """
    factory, arguments, keywords = find_factory(module)
    if isinstance(factory, nn.Module):
        return _copy_untrained(factory)
    values = {**options, **keywords}
    parameters = inspect_parameters(functools.partial(factory, *arguments))
    first = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_ONLY and n in values]
    try:
        built = factory(*arguments, *[values.pop(name) for name in first], **values)
    except UsageError:
        raise
    except Exception as error:  # raised by the user's code
        raise UsageError(f"module {name_module(module)} cannot be built: {summarize_error(error)}") from error
    if not isinstance(built, nn.Module):
        raise UsageError(f"module {name_module(module)} builds a {type(built).__name__}, not an nn.Module")
    return built


def _copy_untrained(module: nn.Module) -> nn.Module:
    """Return a copy, with the parts that have ``reset_parameters`` in their initial state."""
    module = copy_module(module)
    for part in module.modules():
        if callable(reset := getattr(part, "reset_parameters", None)):
            reset()
    return module


def name_module(module: Any) -> str:
    """Return the name of a user's module for messages."""
    while isinstance(module, functools.partial):
        module = module.func
    return repr(module) if isinstance(module, str) else getattr(module, "__name__", type(module).__name__)
