"""Put an activation into a user's module."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import skorch
import torch
from sklearn.base import clone
from torch import nn

from actlab.data.dataset import Dataset
from actlab.errors import UsageError, raise_problems, summarize_error
from actlab.models.activation_arguments import (
    ACTIVATION_NAME,
    PROBE_SAMPLES,
    Forms,
    convert_to_form,
    find_working_forms,
    guess_forms,
)
from actlab.models.lazy_layers import copy_module, initialize_lazy_layers
from actlab.models.networks import ActivationLike, new_activation
from actlab.models.random_streams import WEIGHTS, seeded_torch
from actlab.models.swapping import find_activations, swap
from actlab.spec import import_object, inspect_parameters, is_import_path, split_spec

ModuleLike = str | nn.Module | type[nn.Module] | Callable[..., nn.Module]
Replaced = str | type[nn.Module]

# An argument without a prefix, or with one of these, is for the activation of the hidden layers.
_PREFIXES = (None, "hidden", "inner", "norm", "conv", "default")


def prepare_net(
    net: skorch.NeuralNet, module: ModuleLike | None, dataset: Dataset, replace: Replaced | None
) -> skorch.NeuralNet:
    """Return a copy of a skorch net that takes an activation as ``module__activation``.

    Args:
        net: The net; its trained state is not copied.
        module: The module of the copy: a module, its class, a function that builds it, or
            ``"package.module:Name"``. It gets those of the net's arguments that it takes. None for the net's
            own module, which gets all of them.
        dataset: Gives two samples, and the shape of images for modules that take it.
        replace: The activation to replace; None for the only kind that the module has.

    Raises:
        UsageError: There is no such module, it cannot be built, or it has several kinds of activation.
    """
    options = net.get_params_for("module")
    target: Any = net.module if module is None else module
    if module is not None:
        if replace is not None and "activation" in _find_activation_arguments(module):
            name = name_module(module)
            raise UsageError(f"replace is {replace!r}, but {name} takes its activation as an argument")
        factory, _, keywords = _find_factory(module)
        taken = inspect_parameters(factory).keys() - keywords.keys() - {"activation"}
        widths, problems = options["num_units"], []
        if widths != 128:  # without the option, the module has its own widths
            options["hidden"] = widths if isinstance(widths, tuple) else (widths, widths // 2)
        for name, setting, default in (("num_units", "hidden", 128), ("dropout", "dropout", 0.0)):
            if not {name, setting} & taken and options.get(name, default) != default:
                own = f"{name_module(module)} has no argument {name!r}; set its sizes in its own arguments"
                problems.append(f"{setting} is set, but the module {own}")
        raise_problems(problems)
        options["image_shape"] = dataset.shape or None
        options = {name: value for name, value in options.items() if name in taken}
    if isinstance(target, nn.Module) and options:
        target = type(target)  # skorch builds a new one
    elif isinstance(target, nn.Module):
        with seeded_torch(0, 0, WEIGHTS, "cpu"):  # not every lazy module can be copied
            target = initialize_lazy_layers(copy_module(target), dataset.X)
    if "activation" in options:  # the compared activation has this name
        target = functools.partial(target, activation=options.pop("activation"))
    forms, kind = _find_forms(target, options, torch.from_numpy(dataset.X[:PROBE_SAMPLES]), replace)
    values = {n: v for n, v in net.get_params(deep=False).items() if n.partition("__")[0] != "module"}
    values |= {f"module__{name}": value for name, value in options.items()}
    copy = {name: clone(value, safe=False) for name, value in values.items()}
    return type(net)(module=functools.partial(build_with_activation, target, forms, kind), **copy)


def build_with_activation(
    module: ModuleLike, forms: Forms, kind: Replaced, /, *, activation: ActivationLike, **options: Any
) -> nn.Module:
    """Build a user's module with an activation.

    Args:
        module: As in :func:`prepare_net`. An instance is copied, and parts with ``reset_parameters`` are
            reset, since every seed has initial weights of its own.
        forms: The argument that takes the activation, with its form; empty if no argument does.
        kind: The activation to replace if no argument takes it.
        activation: The activation. Its initial weights come from random numbers of its own, so the other
            weights are the same for every activation.
        **options: Arguments of the module.
    """
    network = _build(
        module, {**options, **{name: convert_to_form(activation, form) for name, form in forms.items()}}
    )
    if forms:
        return network
    with torch.random.fork_rng(devices=[]):
        return swap(network, {kind: activation}, inplace=True)


def _find_forms(
    module: ModuleLike, options: Mapping[str, Any], x: torch.Tensor, replace: Replaced | None
) -> tuple[Forms, Replaced]:
    """Return the first working ``forms`` and ``kind`` of :func:`build_with_activation` for a module."""
    reason = ""
    if replace is None:
        defaults = _find_activation_arguments(module)
        candidates = [
            {name: form} for name, default in defaults.items() for form in guess_forms(name, default)
        ]
        forms, reason = find_working_forms(
            candidates, lambda values: _build(module, {**options, **values}).eval()(x)
        )
        required = (
            one for one in candidates if all(defaults[name] is inspect.Parameter.empty for name in one)
        )
        if forms := forms or next(required, None):
            return forms, ""
    try:
        return {}, _find_kind(_build(module, options), replace, name_module(module))
    except UsageError as error:
        raise UsageError(f"{error}; {reason}" if reason else str(error)) from error


def _find_activation_arguments(module: Any) -> dict[str, Any]:
    """Return the arguments that may take an activation, with their defaults; ``activation`` comes first."""
    factory, arguments, keywords = _find_factory(module)
    if isinstance(factory, nn.Module):
        return {}
    defaults = {
        name: parameter.default
        for name, parameter in inspect_parameters(functools.partial(factory, *arguments, **keywords)).items()
        if name not in keywords
        and (match := ACTIVATION_NAME.fullmatch(name))
        and match["prefix"] in _PREFIXES
        and not match["number"]
        and not isinstance(parameter.default, int | float)
    }
    return dict(sorted(defaults.items(), key=lambda item: item[0] != "activation"))


def _build(module: ModuleLike, options: Mapping[str, Any]) -> nn.Module:
    factory, arguments, keywords = _find_factory(module)
    if isinstance(factory, nn.Module):
        return new_activation(factory)  # type: ignore[return-value]  # it copies and resets any module
    try:
        built = factory(*arguments, **{**options, **keywords})
    except UsageError:
        raise
    except Exception as error:  # raised by the user's code
        raise UsageError(f"module {name_module(module)} cannot be built: {summarize_error(error)}") from error
    if not isinstance(built, nn.Module):
        raise UsageError(f"module {name_module(module)} builds a {type(built).__name__}, not an nn.Module")
    return built


def _find_factory(module: Any) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return what builds the module, and its arguments."""
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    factory = module
    if isinstance(module, str):
        name, arguments, keywords = split_spec(module)
        if not is_import_path(name):
            raise UsageError(f"module is {module!r}, not 'package.module:Net' or 'file.py:Net'")
        factory = import_object("module", name)
    if not callable(factory):
        raise UsageError(f"module is {factory!r}, not an nn.Module, its class, or 'package.module:Net'")
    return factory, arguments, keywords


def _find_kind(module: nn.Module, replace: Replaced | None, name: str) -> Replaced:
    """Return the activation to replace in a module."""
    if replace is not None:
        with torch.random.fork_rng(devices=[]):
            swap(module, {replace: "relu"})  # raises if it has no such activation
        return replace
    kinds = find_activations(module)
    if len(kinds) == 1:
        return next(iter(kinds))
    if not kinds:
        advice = "set replace to the path or class of the module to replace"
        raise UsageError(f"module {name} has no known activation; {advice}")
    raise UsageError(f"module {name} has {', '.join(sorted(kinds))}; name one of them with replace")


def name_module(module: Any) -> str:
    """Return the name of a user's module in messages."""
    while isinstance(module, functools.partial):
        module = module.func
    return repr(module) if isinstance(module, str) else getattr(module, "__name__", type(module).__name__)
