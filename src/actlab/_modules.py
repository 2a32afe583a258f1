"""A person's module with an activation put into it."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import skorch
import torch
from sklearn.base import clone
from torch import nn

from actlab._errors import UsageError, short
from actlab._lazy import copied, initialized
from actlab._spec import build, is_imported, named, parse, takes
from actlab.data import Dataset
from actlab.fleet.run import WEIGHTS, drawing
from actlab.nets import ActivationLike, fresh
from actlab.swapping import activations_in, swap

ModuleLike = str | nn.Module | type[nn.Module] | Callable[..., nn.Module]
Replaced = str | type[nn.Module]

# Names of arguments such as activation, act_layer, hidden_act, norm_act, activation_fn and nonlinearity.
_ACTIVATION = re.compile(
    r"((hidden|inner|norm|conv|default)_)?(act|activation|nonlin|nonlinearity|non_linearity)"
    r"(_(layer|cls|class|type|factory|fn|fun|func|function|module|name))?"
)


@dataclass(frozen=True)
class Way:
    """How an activation gets into a module.

    Attributes:
        exact: Whether the module gets all arguments, instead of those that it takes.
        replace: What is replaced by it; None when the module takes it as an argument.
        parameter: The argument that takes it.
        constructor: Whether the argument is a class that the module calls, instead of an ``nn.Module``.
    """

    exact: bool
    replace: Replaced | None = None
    parameter: str = ""
    constructor: bool = False


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
    del options["activation"]
    if replace is not None and "activation" in _free(module):
        raise UsageError(
            f"replace is {replace!r}, but {module_name(module)} takes its activation as an argument"
        )
    module = _template(module, dataset)
    way = _way(module, options, dataset, replace, exact=False)
    net.set_params(module=functools.partial(filled, module, way, image_shape=options["image_shape"]))


def own_skorch_net(net: skorch.NeuralNet, dataset: Dataset, replace: Replaced | None) -> skorch.NeuralNet:
    """Return a copy of a skorch net that takes an activation as ``module__activation``.

    Args:
        net: The net; whatever it has learnt stays with it.
        dataset: As in :func:`own_net`.
        replace: As in :func:`own_net`.

    Raises:
        UsageError: As in :func:`own_net`.
    """
    module, options = net.module, net.get_params_for("module")
    if isinstance(module, nn.Module):  # skorch builds it anew if it has arguments
        module = type(module) if options else _template(module, dataset)
    values = {**net.get_params(deep=False), "module": None}
    made = type(net)(**{name: clone(value, safe=False) for name, value in values.items()})
    if "activation" in options:  # from here on that is the one that is compared
        module = functools.partial(module, activation=options.pop("activation"))
    way = _way(module, options, dataset, replace, exact=True)
    return made.set_params(module=functools.partial(filled, module, way))


def filled(module: ModuleLike, way: Way, /, *, activation: ActivationLike, **options: Any) -> nn.Module:
    """Make a person's module with an activation put in.

    The activation draws its initial weights, if it has any, from numbers of its own: the other weights are
    the same for every activation.

    Args:
        module: As in :func:`own_net`. A module that is given is copied and starts anew where its parts have
            ``reset_parameters``, for every seed begins with weights of its own.
        way: How the activation gets into the module.
        activation: What to put in.
        **options: Arguments of the module.

    Returns:
        The module.
    """
    if way.replace is not None:
        made = _made(module, options, way.exact)
        with torch.random.fork_rng(devices=[]):
            return swap(made, {way.replace: activation}, inplace=True)
    with torch.random.fork_rng(devices=[]):
        given = constructor_of(activation) if way.constructor else fresh(activation)
    return _made(module, {**options, way.parameter: given}, way.exact)


class _Constructor(type):
    """A class that makes a fresh copy of one activation when it is called."""

    activation: ActivationLike

    def __call__(cls, *, inplace: bool = False) -> Any:
        like = cls.activation
        with torch.random.fork_rng(devices=[]):
            return fresh(build(like, inplace=True) if inplace and isinstance(like, str) else like)


def constructor_of(activation: ActivationLike) -> Any:
    """Return a class for modules that call their activation's constructor, as in ``act_layer()``.

    Each call returns a module of its own, with initial weights. ``inplace=True`` is passed to a constructor
    that takes it and ignored by others, since it does not change the result; there are no other arguments.

    Args:
        activation: As for :func:`actlab.nets.fresh`.

    Examples:
        >>> layer = constructor_of("leaky_relu(negative_slope=0.2)")
        >>> layer(), layer(inplace=True), constructor_of("tanh")(inplace=True)
        (LeakyReLU(negative_slope=0.2), LeakyReLU(negative_slope=0.2, inplace=True), Tanh())
    """
    return _Constructor("Activation", (nn.Module,), {"activation": activation})


def _template(module: Any, dataset: Dataset) -> Any:
    """Return a copy of an instance, without lazy layers; anything else as it is."""
    if not isinstance(module, nn.Module):
        return module
    with drawing(0, 0, WEIGHTS, "cpu"):
        return initialized(copied(module), dataset.X)


def _way(
    module: ModuleLike, options: Mapping[str, Any], dataset: Dataset, replace: Replaced | None, *, exact: bool
) -> Way:
    """Return the first way that works for an activation to get into a module."""
    reason = ""
    if replace is None:
        free = _free(module)
        ways = [Way(exact, None, name, c) for name, parameter in free.items() for c in _forms(parameter)]
        for way in ways:
            if not (problem := _problem(functools.partial(filled, module, way, **options), dataset)):
                return way
            reason = reason or f"; its argument {way.parameter!r} takes no activation: {problem}"
        for way in ways:
            if free[way.parameter].default is inspect.Parameter.empty:
                return way  # it cannot be made without
    try:
        return Way(exact, _kind(_made(module, options, exact), replace, module_name(module)))
    except UsageError as error:
        raise UsageError(f"{error}{reason}") from error


def _free(module: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters that may take an activation, ``activation`` first, and have no argument yet."""
    maker, arguments, keywords = _maker(module)
    if isinstance(maker, nn.Module):
        return {}
    try:
        signature = inspect.signature(maker)
        bound = signature.bind_partial(*arguments, **keywords).arguments
    except (TypeError, ValueError):  # it has no signature, or does not take what is given
        return {}
    found = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in bound
        and _ACTIVATION.fullmatch(name)
        and not isinstance(parameter.default, int | float)
    }
    return dict(sorted(found.items(), key=lambda item: item[0] != "activation"))


def _forms(parameter: inspect.Parameter) -> tuple[bool, bool]:
    """Return whether a parameter is for a constructor, the likelier answer first."""
    default = parameter.default
    made = default.func if isinstance(default, functools.partial) else default
    named = parameter.name.endswith(("layer", "cls", "class", "type", "factory"))
    if (isinstance(made, type) and made is not inspect.Parameter.empty) or named:
        return True, False
    return False, True


def _problem(make: Callable[..., nn.Module], dataset: Dataset) -> str:
    """Say why a module does not use an activation that it is given; empty when it does."""
    used = []

    class Probe(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            used.append(x.shape)
            return torch.relu(x)

    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            make(activation=Probe).eval()(torch.from_numpy(dataset.X[:2]))
    except Exception as error:  # anybody's module
        return short(error)
    return "" if used else "it is not called in the forward pass"


def _made(module: ModuleLike, options: Mapping[str, Any], exact: bool) -> nn.Module:
    maker, arguments, keywords = _maker(module)
    if isinstance(maker, nn.Module):
        made = copied(maker)
        for part in made.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
        return made
    taken = {n: value for n, value in options.items() if n not in keywords and (exact or takes(maker, n))}
    try:
        made = maker(*arguments, **{**taken, **keywords})
    except UsageError:
        raise
    except Exception as error:  # anybody's code
        raise UsageError(f"module {module_name(module)} cannot be made: {short(error)}") from error
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
    return named("module", name), arguments, keywords


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
