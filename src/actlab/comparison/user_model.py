"""Put an activation into a user's module."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import skorch
import torch
from sklearn.base import clone
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from actlab.comparison.module_arguments import (
    build_module,
    list_activation_arguments,
    list_arguments,
    list_size_arguments,
    name_module,
    require_arguments,
)
from actlab.data.dataset import Dataset
from actlab.errors import UsageError, raise_problems
from actlab.models.activation_arguments import (
    PROBE_SAMPLES,
    Forms,
    convert_to_form,
    find_working_forms,
    guess_forms,
    make_constructor,
)
from actlab.models.lazy_layers import initialize_lazy_layers
from actlab.models.random_streams import WEIGHTS, seeded_numpy, seeded_torch
from actlab.models.swapping import find_activations, swap
from actlab.spec import ActivationLike, copy_module

ModuleLike = str | nn.Module | type[nn.Module] | Callable[..., nn.Module]
Replaced = str | type[nn.Module]

_USUAL_NAMES = ("relu", "gelu", "silu", "tanh")
_KINDS = (skorch.NeuralNetClassifier, skorch.NeuralNetBinaryClassifier, skorch.NeuralNetRegressor)


def prepare_net(
    net: skorch.NeuralNet, module: ModuleLike | None, dataset: Dataset, replace: Replaced | None
) -> skorch.NeuralNet:
    """Return a copy of a skorch net that takes an activation as ``module__activation``.

    Args:
        net: The net; its trained state is not copied.
        module: The module of the copy: a module, its class, a function that builds it, or
            ``"package.module:Name"``. It gets the sizes of the data, and those of the net's arguments that it
            takes. None for the net's own module, which gets all of them.
        dataset: The data; its first two samples and its sizes are used.
        replace: The activation to replace; None for the only kind that the module has.

    Raises:
        UsageError: There is no such module, it cannot be built, has several kinds of activation, or ignores
            its activation.
    """
    _require_target(net, dataset)
    options = net.get_params_for("module")
    target: Any = net.module if module is None else module
    x = torch.from_numpy(dataset.X[:PROBE_SAMPLES])
    tries = [options]
    if module is not None:
        if replace is not None and "activation" in list_arguments(module)[0]:
            name = name_module(module)
            raise UsageError(f"replace is {replace!r}, but {name} takes its activation as an argument")
        settings = _select_settings(module, options)
        options, tries = list_size_arguments(module, dataset)
        options, tries = {**settings, **options}, [{**settings, **one} for one in tries]
    if isinstance(target, nn.Module) and options:
        target = type(target)  # skorch builds a new one
    elif isinstance(target, nn.Module):
        with seeded_torch(0, 0, WEIGHTS, "cpu"):  # not every lazy module can be copied
            target = initialize_lazy_layers(copy_module(target), dataset.X)
    if "activation" in options:  # the compared activation has this name
        target = functools.partial(target, activation=options.pop("activation"))
    require_arguments(target, options, is_skorch=module is None)
    for one in tries if len(tries) > 1 else ():
        if _is_accepted(target, one, x, replace, dataset.num_classes):
            options = one
            break
    forms, kind = _find_forms(target, options, x, replace)
    made = functools.partial(build_with_activation, target, forms, kind)
    outputs = _check_use(functools.partial(made, **options), x, forms, kind, name_module(target))
    if (module is not None or type(net) in _KINDS) and _has_first_output(outputs):
        made = functools.partial(build_first_output, target, forms, kind)
    values = {n: v for n, v in net.get_params(deep=False).items() if n.partition("__")[0] != "module"}
    values |= {f"module__{name}": value for name, value in options.items()}
    copy = {name: clone(value, safe=False) for name, value in values.items()}
    return type(net)(module=made, **copy)


def _require_target(net: skorch.NeuralNet, dataset: Dataset) -> None:
    """Raise an error if a skorch model is for another kind of targets."""
    kind, regression = type(net), dataset.is_regression
    if kind in _KINDS and dataset.is_multilabel:
        problem = f"module is a {kind.__name__}, but a sample of {dataset.name} has several labels"
        raise UsageError(f"{problem}; use a NeuralNet with criterion=torch.nn.BCEWithLogitsLoss")
    wrong = kind in _KINDS and regression != (kind is skorch.NeuralNetRegressor)
    if wrong or (kind is skorch.NeuralNetBinaryClassifier and dataset.num_classes != 2):
        targets = "numbers" if regression else f"{dataset.num_classes} classes"
        advice = "use a NeuralNetRegressor" if regression else "use a NeuralNetClassifier"
        if kind is skorch.NeuralNetRegressor:
            advice += ", or set regression=True (--regression) to predict numbers"
        problem = f"module is a {kind.__name__}, but the targets of {dataset.name} are {targets}"
        raise UsageError(f"{problem}; {advice}")


def _select_settings(module: ModuleLike, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the reference network that another module takes."""
    taken = list_arguments(module)[0]
    settings, problems = {n: value for n, value in options.items() if n in ("num_units", "dropout")}, []
    if (widths := options["num_units"]) != 128:  # without the option, the module has its own widths
        settings["hidden"] = widths if isinstance(widths, tuple) else (widths, widths // 2)
    for name, setting, default in (("num_units", "hidden", 128), ("dropout", "dropout", 0.0)):
        if not {name, setting} & taken.keys() and settings.get(name, default) != default:
            own = f"{name_module(module)} has no argument {name!r}; set its sizes in its own arguments"
            problems.append(f"{setting} is set, but the module {own}")
    raise_problems(problems)
    return {name: value for name, value in settings.items() if name in taken}


def build_with_activation(
    module: ModuleLike, forms: Forms, kind: Replaced, /, *, activation: ActivationLike, **options: Any
) -> nn.Module:
    """Build a user's module with an activation.

    Args:
        module: As in :func:`prepare_net`. An instance is copied, and parts with ``reset_parameters`` are
            reset, since every seed has initial weights of its own.
        forms: The argument that takes the activation, with its form; empty if no argument does. An argument
            with the form ``"name"`` gets the name ``kind``.
        kind: The activation to replace; empty if an argument takes the activation.
        activation: The activation. Its initial weights come from random numbers of its own, so the other
            weights are the same for every activation.
        **options: Arguments of the module.
    """

    def build(like: ActivationLike) -> nn.Module:
        given = {n: kind if form == "name" else convert_to_form(like, form) for n, form in forms.items()}
        return build_module(module, {**options, **given})

    start = torch.get_rng_state()
    network = build(activation)
    if forms and not kind and any(True for _ in make_constructor(activation)().parameters()):
        _remove_draws_of_activation(network, start, lambda: build(nn.Identity()))
    if not kind:
        return network
    with torch.random.fork_rng(devices=[]):
        return swap(network, {kind: activation}, inplace=True)


def _remove_draws_of_activation(network: nn.Module, start: Tensor, build: Callable[[], nn.Module]) -> None:
    """Give a network the weights that it would have if its activation had no parameters.

    A constructor that initializes all parameters draws random numbers for the activation too. This changes
    the weights of the layers after it.

    Args:
        network: The network, whose constructor started with the random state ``start``.
        start: The state.
        build: Builds the network with an activation that has no parameters.
    """
    end = torch.get_rng_state()
    torch.set_rng_state(start)
    plain = build()
    if torch.equal(end, torch.get_rng_state()):
        return
    weights = dict(plain.named_parameters())
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name in weights and not is_lazy(weight) and weight.shape == weights[name].shape:
                weight.copy_(weights[name])


class FirstOutput(nn.Module):
    """Returns the first output of a network, which skorch takes as the prediction.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Return the first output for ``x``."""
        return self.network(x)[0]


def build_first_output(module: ModuleLike, forms: Forms, kind: Replaced, /, **options: Any) -> nn.Module:
    """Build a module as :func:`build_with_activation` does, but return only its first output."""
    return FirstOutput(build_with_activation(module, forms, kind, **options))


def list_module_arguments(net: skorch.NeuralNet) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of the module of a net from :func:`prepare_net`, or of any other class."""
    made = net.module
    return list_arguments(made.args[0] if isinstance(made, functools.partial) else made)[0]


def _find_forms(
    module: ModuleLike, options: Mapping[str, Any], x: Tensor, replace: Replaced | None
) -> tuple[Forms, Replaced]:
    """Return the first working ``forms`` and ``kind`` of :func:`build_with_activation` for a module."""
    reason, defaults = "", {} if replace is not None else list_activation_arguments(module)
    candidates = [{name: form} for name, default in defaults.items() for form in guess_forms(name, default)]
    forms, reason = find_working_forms(
        candidates, lambda values: build_module(module, {**options, **values}).eval()(x)
    )
    if forms:
        return forms, ""
    if required := [name for name, default in defaults.items() if default is inspect.Parameter.empty]:
        kind = _find_selected_kind(lambda text: build_module(module, {**options, required[0]: text}))
        likely = guess_forms(required[0], inspect.Parameter.empty)[0]
        return {required[0]: "name" if kind else likely}, kind
    network = build_module(module, options)
    try:
        # The default of an argument, such as "relu", names the activation that it selects.
        named = {default.lower() for default in defaults.values() if isinstance(default, str)}
        return {}, _find_kind(network, replace, named, name_module(module))
    except UsageError as error:
        raise UsageError(f"{error}; {reason}" if reason else str(error)) from error


def _list_kinds(module: nn.Module) -> set[str]:
    return {place.activation for place in find_activations(module) if place.is_elementwise}


def _find_selected_kind(build: Callable[[str], nn.Module]) -> str:
    """Return the name of an activation that a module has only if it is built with this name, or "".

    Replacing it changes what the name selects, and no other activation of the module.
    """
    found = {}
    for name in _USUAL_NAMES:
        with warnings.catch_warnings(), contextlib.suppress(Exception):  # raised by the user's code
            warnings.simplefilter("ignore")
            found[name] = _list_kinds(build(name))
    selected = (
        name for name in found if all((name in kinds) == (name == other) for other, kinds in found.items())
    )
    return next(selected, "") if len(found) > 1 else ""


def _find_kind(module: nn.Module, replace: Replaced | None, named: set[str], name: str) -> Replaced:
    """Return the activation to replace in a module."""
    if replace is not None:
        with torch.random.fork_rng(devices=[]):
            swap(module, {replace: "relu"})  # raises if it has no such activation
        return replace
    kinds = _list_kinds(module)
    if len(likely := kinds if len(kinds) == 1 else named & kinds) == 1:
        return next(iter(likely))
    if not kinds:
        advice = "set replace to the path or class of the module to replace"
        raise UsageError(f"module {name} has no known activation; {advice}")
    raise UsageError(f"module {name} has {', '.join(sorted(kinds))}; name one of them with replace")


# -- calls of a module with two samples -------------------------------------------------------------------


class _NaNs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Return NaN for every number: no activation returns that, and what follows does not hide it."""
        return x * torch.nan


def _call(
    build: Callable[..., nn.Module], activation: ActivationLike, x: Tensor, training: bool = False
) -> Any:
    """Return the outputs of a module with an activation, from the same weights and random numbers."""
    with warnings.catch_warnings(), seeded_torch(0, 0, WEIGHTS, "cpu"), seeded_numpy(0), torch.no_grad():
        warnings.simplefilter("ignore")
        return build(activation=activation).train(training)(x)


def _is_accepted(
    module: Any, options: Mapping[str, Any], x: Tensor, replace: Replaced | None, num_outputs: int
) -> bool:
    """Whether a module works with some arguments and has the right number of outputs."""
    try:
        forms = _find_forms(module, options, x, replace)
        outputs = _call(functools.partial(build_with_activation, module, *forms, **options), "relu", x)
        first = outputs[0] if _has_first_output(outputs) else outputs
        return tuple(first.shape) == (len(x), num_outputs)
    except Exception:  # raised by the user's code
        return False


def _has_first_output(outputs: Any) -> bool:
    """Whether outputs are a tuple that starts with a tensor, or behave like one."""
    try:
        return not isinstance(outputs, Tensor) and isinstance(outputs[0], Tensor)
    except (TypeError, LookupError):
        return False


def _check_use(build: Callable[..., nn.Module], x: Tensor, forms: Forms, kind: Replaced, name: str) -> Any:
    """Return the outputs of a module for two samples; None if it fails, which is reported later.

    Raises:
        UsageError: They do not depend on the activation.
    """
    outputs = None
    for training in (False, True):
        try:
            pair = [_call(build, activation, x, training) for activation in ("relu", _NaNs)]
        except Exception:  # raised by the user's code, maybe because of NaN
            return outputs
        outputs = outputs if training else pair[0]
        given, probed = ([leaf for leaf in tree_leaves(one) if isinstance(leaf, Tensor)] for one in pair)
        if not given or len(given) != len(probed):
            return outputs
        if any(b.isnan().any() or not torch.equal(a, b) for a, b in zip(given, probed, strict=True)):
            return outputs
    place = f"takes {next(iter(forms))!r}" if forms else f"has the activation {kind}"
    raise UsageError(f"module {name} {place}, but its outputs for two samples do not depend on it")
