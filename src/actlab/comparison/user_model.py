"""A person's module with an activation put into it."""

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
from actlab.errors import UsageError, summarize_error
from actlab.models.activation_arguments import (
    ACTIVATION_NAME,
    PROBE_SAMPLES,
    Forms,
    in_form,
    likely_forms,
    working_forms,
)
from actlab.models.lazy_layers import copy_module, initialize_lazy_layers
from actlab.models.networks import ActivationLike, fresh
from actlab.models.random_streams import WEIGHTS, seeded_torch
from actlab.models.swapping import activations_in, swap
from actlab.spec import arguments_of, import_object, is_imported, parse

ModuleLike = str | nn.Module | type[nn.Module] | Callable[..., nn.Module]
Replaced = str | type[nn.Module]

# An argument without a prefix, or with one of these, is for the activation of the hidden layers.
_PREFIXES = (None, "hidden", "inner", "norm", "conv", "default")


def own_net(
    net: skorch.NeuralNet, module: ModuleLike | None, dataset: Dataset, replace: Replaced | None
) -> skorch.NeuralNet:
    """Return a copy of a net that takes an activation as ``module__activation``.

    Args:
        net: The net; whatever it has learnt stays with it.
        module: What is in the copy: a module, its class, what makes it, or ``"package.module:Name"``. It gets
            the net's arguments that it takes. None for the net's own module, which gets all of them.
        dataset: Gives two samples, and the shape of images for modules that take it.
        replace: Which of its activations; None for the only kind there is.

    Raises:
        UsageError: There is no such module, it cannot be made, or has no one kind of activation.
    """
    options = net.get_params_for("module")
    made: Any = net.module if module is None else module
    if module is not None:
        if replace is not None and "activation" in _free(module):
            name = module_name(module)
            raise UsageError(f"replace is {replace!r}, but {name} takes its activation as an argument")
        maker, _, keywords = _maker(module)
        taken = arguments_of(maker).keys() - keywords.keys() - {"activation"}
        options["image_shape"] = dataset.shape or None
        options = {name: value for name, value in options.items() if name in taken}
    if isinstance(made, nn.Module) and options:
        made = type(made)  # skorch builds it anew
    elif isinstance(made, nn.Module):
        with seeded_torch(0, 0, WEIGHTS, "cpu"):  # not every lazy module can be copied
            made = initialize_lazy_layers(copy_module(made), dataset.X)
    if "activation" in options:  # from here on that is the one that is compared
        made = functools.partial(made, activation=options.pop("activation"))
    forms, kind = _way(made, options, torch.from_numpy(dataset.X[:PROBE_SAMPLES]), replace)
    values = {n: v for n, v in net.get_params(deep=False).items() if n.partition("__")[0] != "module"}
    values |= {f"module__{name}": value for name, value in options.items()}
    copy = {name: clone(value, safe=False) for name, value in values.items()}
    return type(net)(module=functools.partial(filled, made, forms, kind), **copy)


def filled(
    module: ModuleLike, forms: Forms, kind: Replaced, /, *, activation: ActivationLike, **options: Any
) -> nn.Module:
    """Make a person's module with an activation put in.

    Args:
        module: As in :func:`own_net`. A module that is given is copied and starts anew where its parts have
            ``reset_parameters``, for every seed begins with weights of its own.
        forms: The argument that takes the activation, with its form; empty if none does.
        kind: What is replaced by it, if no argument takes it.
        activation: What to put in. Its initial weights come from random numbers of its own: the other weights
            are the same for every activation.
        **options: Arguments of the module.
    """
    made = _made(module, {**options, **{name: in_form(activation, form) for name, form in forms.items()}})
    if forms:
        return made
    with torch.random.fork_rng(devices=[]):
        return swap(made, {kind: activation}, inplace=True)


def _way(
    module: ModuleLike, options: Mapping[str, Any], x: torch.Tensor, replace: Replaced | None
) -> tuple[Forms, Replaced]:
    """Return the first way that works for an activation to get into a module, as :func:`filled` takes it."""
    reason = ""
    if replace is None:
        free = _free(module)
        each = [{name: form} for name, default in free.items() for form in likely_forms(name, default)]
        forms, reason = working_forms(each, lambda taken: _made(module, {**options, **taken}).eval()(x))
        required = (one for one in each if all(free[name] is inspect.Parameter.empty for name in one))
        if forms := forms or next(required, None):
            return forms, ""
    try:
        return {}, _kind(_made(module, options), replace, module_name(module))
    except UsageError as error:
        raise UsageError(f"{error}; {reason}" if reason else str(error)) from error


def _free(module: Any) -> dict[str, Any]:
    """Return the arguments that may take an activation, ``activation`` first, with their defaults."""
    maker, arguments, keywords = _maker(module)
    if isinstance(maker, nn.Module):
        return {}
    found = {
        name: parameter.default
        for name, parameter in arguments_of(functools.partial(maker, *arguments, **keywords)).items()
        if name not in keywords
        and (match := ACTIVATION_NAME.fullmatch(name))
        and match["prefix"] in _PREFIXES
        and not match["number"]
        and not isinstance(parameter.default, int | float)
    }
    return dict(sorted(found.items(), key=lambda item: item[0] != "activation"))


def _made(module: ModuleLike, options: Mapping[str, Any]) -> nn.Module:
    maker, arguments, keywords = _maker(module)
    if isinstance(maker, nn.Module):
        return fresh(maker)  # type: ignore[return-value]
    try:
        made = maker(*arguments, **{**options, **keywords})
    except UsageError:
        raise
    except Exception as error:  # anybody's code
        raise UsageError(f"module {module_name(module)} cannot be made: {summarize_error(error)}") from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"module {module_name(module)} makes a {type(made).__name__}, not an nn.Module")
    return made


def _maker(module: Any) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return what makes the module, and with which arguments."""
    if not isinstance(module, str):
        if not callable(module):
            raise UsageError(f"module is {module!r}, not an nn.Module, its class, or 'package.module:Net'")
        return module, [], {}
    name, arguments, keywords = parse(module)
    if not is_imported(name):
        raise UsageError(f"module is {module!r}, not 'package.module:Net' or 'file.py:Net'")
    return import_object("module", name), arguments, keywords


def _kind(module: nn.Module, replace: Replaced | None, name: str) -> Replaced:
    """Return what is replaced in a module."""
    if replace is not None:
        with torch.random.fork_rng(devices=[]):
            swap(module, {replace: "relu"})  # says what is wrong with it
        return replace
    kinds = activations_in(module)
    if len(kinds) == 1:
        return next(iter(kinds))
    if not kinds:
        raise UsageError(f"module {name} has no activation that is known; replace names its place or class")
    raise UsageError(f"module {name} has {', '.join(sorted(kinds))}; replace says which of them")


def module_name(module: Any) -> str:
    """Return what a message calls a person's module."""
    while isinstance(module, functools.partial):
        module = module.func
    return repr(module) if isinstance(module, str) else getattr(module, "__name__", type(module).__name__)
