"""Activations as arguments of a user's module: which arguments take one, and in which form."""

from __future__ import annotations

import copyreg
import functools
import inspect
import itertools
import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import skorch
import torch
from sklearn.base import clone
from skorch.dataset import unpack_data
from torch import nn

from actlab.errors import summarize_error
from actlab.functions import catalogue
from actlab.models.activation_sites import identify
from actlab.models.random_streams import WEIGHTS, seeded_numpy, seeded_torch
from actlab.spec import ActivationLike, ResolvedActivation, inspect_parameters, resolve

Forms = Mapping[str, str]  # by the name of the argument: "given" (unchanged), "module" or "class"

PROBE_SAMPLES = 2
# Names of arguments such as activation, act_layer, hidden_act, norm_act, activation_fn and nonlinearity.
ACTIVATION_NAME = re.compile(
    r"((?P<prefix>\w+)_)?(acts?|activations?|non_?lin(ear(ity)?)?)"
    r"(_(layer|cls|class|type|factory|fn|fun|func|function|module|name))?_?(?P<number>\d*)",
    re.IGNORECASE,
)


def guess_forms(name: str, default: Any) -> tuple[str, str]:
    """Return the forms in which an argument may take an activation, the likelier form first.

    Args:
        name: The name of the argument.
        default: Its default; ``inspect.Parameter.empty`` if it has none.
    """
    made = default.func if isinstance(default, functools.partial) else default
    is_class = isinstance(made, type) and made is not inspect.Parameter.empty
    if is_class or name.endswith(("layer", "cls", "class", "type", "factory")):
        return "class", "module"
    return "module", "class"


def convert_to_form(activation: ActivationLike, form: str) -> Any:
    """Return an activation in the form in which a module takes it.

    The initial weights of an activation come from random numbers of their own. The other weights of the
    module are the same for every activation.

    Args:
        activation: As for :func:`actlab.spec.resolve`.
        form: ``"given"``, ``"module"`` for a new ``nn.Module``, or ``"class"`` for :func:`make_constructor`.
    """
    if form == "given":
        return activation
    return make_constructor(activation) if form == "class" else make_constructor(activation)()


class _Constructor(type):
    """A class that makes a fresh copy of one activation when it is called."""

    activation: ResolvedActivation

    def __call__(cls, *, inplace: bool = False) -> Any:
        with torch.random.fork_rng(devices=[]):
            return cls.activation.build(**({"inplace": True} if inplace else {}))


def make_constructor(activation: ActivationLike) -> Any:
    """Return a class for modules that call their activation's constructor, as in ``act_layer()``.

    Each call returns a new module with initial weights. ``inplace=True`` is passed to a constructor that
    takes it and ignored by others, since it does not change the result; there are no other arguments.

    Args:
        activation: As for :func:`actlab.spec.resolve`.

    Examples:
        >>> layer = make_constructor("leaky_relu(negative_slope=0.2)")
        >>> layer(), layer(inplace=True), make_constructor("tanh")(inplace=True)
        (LeakyReLU(negative_slope=0.2), LeakyReLU(negative_slope=0.2, inplace=True), Tanh())
    """
    return _Constructor("Activation", (nn.Module,), {"activation": resolve(activation)})


# A module may keep the class in an attribute, and is pickled with it.
copyreg.pickle(_Constructor, lambda cls: (make_constructor, (cls.activation,)))


def find_working_forms(
    candidates: Iterable[Forms], forward: Callable[[dict[str, Any]], object]
) -> tuple[Forms | None, str]:
    """Return the first forms with which a module works and calls its activations.

    Args:
        candidates: The forms to try, in this order.
        forward: Takes a dictionary from argument names to activations, builds the module with them, and
            passes samples through the module. Arguments in the form "given" are not among them.

    Returns:
        The forms and an empty string, or None and the problem with the first candidate.
    """
    reason = ""
    for forms in candidates:
        probes = {name: _make_probe() for name, form in forms.items() if form != "given"}
        try:
            with (
                warnings.catch_warnings(),
                seeded_torch(0, 0, WEIGHTS, "cpu"),
                seeded_numpy(0),
                torch.no_grad(),
            ):
                warnings.simplefilter("ignore")
                forward({name: convert_to_form(probe, forms[name]) for name, probe in probes.items()})
            problem = "" if all(p.called for p in probes.values()) else "it is not called in the forward pass"
        except Exception as error:  # raised by the user's module
            problem = summarize_error(error)
        if not problem:
            return forms, ""
        reason = (
            reason or f"its argument {', '.join(map(repr, forms))} does not accept an activation: {problem}"
        )
    return None, reason


def _make_probe() -> Any:
    class Probe(nn.Module):
        called = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Probe.called = True
            return torch.relu(x)

    return Probe


class ActivationArguments:
    """Finds the form in which the modules of a search take their activations.

    A value that works as given is passed unchanged, as :class:`GridSearchCV` does. Otherwise, the first form
    in which the module works is used.

    Args:
        candidates: The parameters of every candidate. A parameter without a typical name may take activations
            if its default or one of these values is known to be an activation.
    """

    def __init__(self, candidates: Iterable[Mapping[str, Any]]) -> None:
        self.values: dict[str, list[Any]] = {}
        for name, value in itertools.chain.from_iterable(candidate.items() for candidate in candidates):
            self.values.setdefault(name, []).append(value)
        self.makers: dict[Hashable, Any] = {}  # runs whose modules have one maker may train together

    def adapt(self, net: skorch.NeuralNet, X: Any, fit_params: Mapping[str, Any]) -> None:
        """Make the module of a net accept the activations in the net's parameters.

        If necessary, replace ``module`` by a callable that converts the activations to a form that the module
        accepts.

        Args:
            net: The net, not initialized. Its parameters stay, except for ``module``.
            X: The training samples; the first of them are passed through the module.
            fit_params: The other arguments of ``fit``.

        Raises:
            UsageError: A spec is wrong, and the module does not accept it unchanged.
        """
        factory = type(net.module) if isinstance(net.module, nn.Module) else net.module
        defaults = {name: parameter.default for name, parameter in inspect_parameters(factory).items()}
        given = {
            name: value
            for name, value in net.get_params_for("module").items()
            if (isinstance(value, str) or callable(value))
            and isinstance(value, Hashable)
            and (
                ACTIVATION_NAME.fullmatch(name)
                or any(
                    map(
                        _is_known_activation,
                        (value, defaults.get(name), *self.values.get(f"module__{name}", ())),
                    )
                )
            )
        }
        if not given or not isinstance(factory, Hashable):
            return
        # The form does not depend on the weights of an activation, so its copies share a key.
        key = (factory, *((n, type(v), None if isinstance(v, nn.Module) else v) for n, v in given.items()))
        if key not in self.makers:
            each = [("given", *guess_forms(name, defaults.get(name))) for name in given]
            candidates = (dict(zip(given, forms, strict=True)) for forms in itertools.product(*each))
            working, _ = find_working_forms(
                candidates, functools.partial(_run_first_samples, net, X, fit_params)
            )
            if working is None:  # perhaps for a reason that other candidates do not have
                return
            changed = set(working.values()) != {"given"}
            for name, form in working.items():
                if isinstance(value := given[name], str):
                    convert_to_form(value, form)  # a wrong spec raises
            self.makers[key] = functools.partial(make_module, factory, working) if changed else None
        if (maker := self.makers[key]) is not None:
            net.set_params(module=maker)


def make_module(module: Any, forms: Forms, /, **options: Any) -> nn.Module:
    """Make a user's module, with activations in the form that it takes.

    Args:
        module: The callable that makes the module.
        forms: The form of each activation.
        **options: The arguments, as the user gave them.
    """
    made = {name: convert_to_form(value, forms.get(name, "given")) for name, value in options.items()}
    return module(**made)  # type: ignore[no-any-return]


def _run_first_samples(
    net: skorch.NeuralNet, X: Any, fit_params: Mapping[str, Any], activations: Mapping[str, Any]
) -> None:
    """Pass the first samples through the net's module with other activations."""
    trial = clone(net).set_params(
        device="cpu",
        compile=False,
        batch_size=PROBE_SAMPLES,
        iterator_valid__batch_size=PROBE_SAMPLES,
        **{f"module__{name}": value for name, value in activations.items()},
    )
    trial._initialize_module()  # the criterion and the optimizer may be wrong for another reason
    trial.module_.eval()
    samples = unpack_data(next(iter(trial.get_iterator(trial.get_dataset(X)))))[0]
    if isinstance(samples, torch.Tensor) and samples.is_floating_point():
        # With another dtype than the weights, the training fails and states this.
        samples = samples.to(next((p.dtype for p in trial.module_.parameters()), samples.dtype))
    output = trial.infer(samples, **fit_params)
    if not isinstance(output[0] if isinstance(output, tuple) else output, torch.Tensor):
        raise TypeError("its forward does not return a tensor")  # it returns a module if it called a class


def _is_known_activation(value: Any) -> bool:
    """Whether a value is an activation in the catalogue or in torch, a formula, or ``"file.py:Name"``."""
    if isinstance(value, str):
        return ":" in value or value.partition("(")[0].strip() in catalogue
    kind = identify(value)
    return kind is not None and kind.activation is not None
