"""A person's module with an activation put into it."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import skorch
import torch
from sklearn.base import clone
from torch import nn

from actlab._errors import UsageError, short
from actlab._spec import is_imported, named, parse
from actlab.data import Dataset
from actlab.nets import ActivationLike, fresh
from actlab.swapping import activations_in, swap

ModuleLike = str | nn.Module | type[nn.Module] | Callable[..., nn.Module]
Replaced = str | type[nn.Module]


def own_net(net: skorch.NeuralNet, module: ModuleLike, dataset: Dataset, replace: Replaced | None) -> None:
    """Give a net a person's module, which then takes an activation as ``module__activation``.

    Args:
        net: The net; the sizes among its ``module__`` parameters are for modules that take them.
        module: The module, its class, what makes it, or ``"package.module:Name"``.
        dataset: Gives the shape of images, for modules that take it.
        replace: Which of its activations; None for the only kind there is.

    Raises:
        UsageError: There is no such module, it cannot be made, or has no one kind of activation.
    """
    options = {**net.get_params_for("module"), "image_shape": dataset.shape or None}
    put_in = functools.partial(filled, module, options["image_shape"])
    if _takes(_maker(module)[0], "activation"):
        if replace is not None:
            raise UsageError(
                f"replace is {replace!r}, but {_name(module)} takes its activation as an argument"
            )
    else:
        put_in.keywords["replace"] = _kind(_made(module, options), replace, _name(module))
    net.set_params(module=put_in)


def own_skorch_net(net: skorch.NeuralNet, replace: Replaced | None) -> skorch.NeuralNet:
    """Return a copy of a skorch net that takes an activation as ``module__activation``.

    Args:
        net: The net; whatever it has learnt stays with it.
        replace: As in :func:`own_net`.

    Raises:
        UsageError: As in :func:`own_net`.
    """
    made = clone(net)
    if isinstance(net.module, type) and _takes(net.module, "activation") and replace is None:
        return made
    options = made.get_params_for("module")
    kind = _kind(_made(net.module, options), replace, _name(net.module))
    return made.set_params(module=functools.partial(filled, net.module, None, replace=kind))


def filled(
    module: ModuleLike,
    image_shape: tuple[int, ...] | None,
    *,
    activation: ActivationLike,
    replace: Replaced | None = None,
    **options: Any,
) -> nn.Module:
    """Make a person's module with an activation put in.

    Args:
        module: As in :func:`own_net`. A module that is given is copied and starts anew where its parts have
            ``reset_parameters``, for every seed begins with weights of its own.
        image_shape: For modules that take it.
        activation: What to put in.
        replace: What is replaced by it; None when the module takes it as an argument, which is then an
            ``nn.Module``.
        **options: Sizes; a module gets those that it takes.

    Returns:
        The module.
    """
    options["image_shape"] = image_shape
    if replace is None:
        return _made(module, {**options, "activation": fresh(activation)})
    return swap(_made(module, options), {replace: activation}, inplace=True)


def _made(module: ModuleLike, options: Mapping[str, Any]) -> nn.Module:
    maker, arguments, keywords = _maker(module)
    if isinstance(maker, nn.Module):
        made = copy.deepcopy(maker)
        for part in made.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
        return made
    taken = {name: value for name, value in options.items() if _takes(maker, name) and name not in keywords}
    try:
        made = maker(*arguments, **{**taken, **keywords})
    except UsageError:
        raise
    except Exception as error:  # anybody's code
        raise UsageError(f"module {_name(module)} cannot be made: {short(error)}") from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"module {_name(module)} makes a {type(made).__name__}, not an nn.Module")
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
    return named("module", name), arguments, keywords


def _takes(maker: Any, name: str) -> bool:
    if isinstance(maker, nn.Module):
        return False
    try:
        return name in inspect.signature(maker).parameters
    except (TypeError, ValueError):  # what is written in C may have none
        return False


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


def _name(module: Any) -> str:
    return repr(module) if isinstance(module, str) else getattr(module, "__name__", type(module).__name__)
