"""Activations among the arguments of a user's module, in the form that the module takes."""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import warnings
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import skorch
import torch
from sklearn.base import clone
from skorch.dataset import unpack_data
from torch import nn

from actlab._errors import UsageError
from actlab._places import Function, kind_of
from actlab._spec import is_formula, parse
from actlab.fleet.run import WEIGHTS, drawing, numpy_seeded
from actlab.functions import catalogue
from actlab.nets import fresh

# How a module takes an activation: as the user gave it, as a module, or as a function that makes modules.
_FORMS = ("given", "module", "maker")
_PROBE = 2  # samples that a module is tried with
_NAME = re.compile(r"(^|_)acts?(_|$)|activation|non_?lin", re.IGNORECASE)


class ActivationArguments:
    """Finds the form in which the modules of a search take their activations.

    A module may take an activation as a module, as a class, as a function or by a name of its own. What the
    user gave is passed as it is wherever the module works with it, as :class:`GridSearchCV` does. Otherwise
    it is passed in the first of ``_FORMS`` in which the module works with a ReLU.

    Args:
        candidates: The parameters of every candidate. A parameter without a telling name or default takes
            activations if all its values are activations.
    """

    def __init__(self, candidates: Iterable[Mapping[str, Any]]) -> None:
        self.values: dict[str, list[Any]] = {}
        for name, value in itertools.chain.from_iterable(candidate.items() for candidate in candidates):
            self.values.setdefault(name, []).append(value)
        self.makers: dict[Hashable, Any] = {}  # runs whose modules have one maker may train together

    def adapt(self, net: skorch.NeuralNet, X: Any, fit_params: Mapping[str, Any]) -> None:
        """Give a net a module that takes the activations among the net's parameters.

        Args:
            net: The net, not initialized. Its parameters stay, except for ``module``.
            X: What it is fitted to; the first samples are tried.
            fit_params: What ``fit`` is given besides.
        """
        options, factory = net.get_params_for("module"), _factory(net.module)
        given = {name: value for name, value in options.items() if self._is_activation(factory, name, value)}
        if not given or not isinstance(factory, Hashable):
            return
        # A module stands for its copies: in which form it is taken does not depend on its weights.
        key = (factory, *((n, isinstance(v, nn.Module), _factory(v)) for n, v in given.items()))
        if key not in self.makers:
            forms = _working_forms(net, given, X, fit_params)
            if forms is None:  # for another reason, maybe, which another candidate need not have
                return
            adapted = functools.partial(make_module, factory, forms)
            self.makers[key] = adapted if forms else None
        if (maker := self.makers[key]) is not None:
            net.set_params(module=maker)

    def _is_activation(self, factory: Any, name: str, value: Any) -> bool:
        if not _may_be_activation(value):
            return False
        if _NAME.search(name) or _is_known(_default(factory, name)):
            return True
        values = self.values.get(f"module__{name}", [value])
        return any(map(_is_known, values)) and all(map(_may_be_activation, values))


def make_module(module: Any, forms: Mapping[str, str], /, **options: Any) -> nn.Module:
    """Make a user's module, with activations in the form that it takes.

    Args:
        module: What makes the module.
        forms: The form of each activation, by the name of the argument.
        **options: The arguments, as the user gave them.

    Returns:
        The module.
    """
    activations = {name: _in_form(options[name], form) for name, form in forms.items() if name in options}
    return module(**{**options, **activations})  # type: ignore[no-any-return]


def _in_form(value: Any, form: str) -> Any:
    maker = functools.partial(_as_module, value)
    return maker if form == "maker" else maker()


def _as_module(value: Any) -> nn.Module:
    made = fresh(value)
    return made if isinstance(made, nn.Module) else Function(made)


def _working_forms(
    net: skorch.NeuralNet, given: Mapping[str, Any], X: Any, fit_params: Mapping[str, Any]
) -> dict[str, str] | None:
    """Return the first forms in which the net's module works, without "given"; None if it never does."""
    for combination in itertools.product(_FORMS, repeat=len(given)):
        forms = {name: form for name, form in zip(given, combination, strict=True) if form != "given"}
        tried = {name: _in_form("relu", form) for name, form in forms.items()}
        if _works(net, tried, X, fit_params):
            return forms
    return None


def _works(net: skorch.NeuralNet, tried: Mapping[str, Any], X: Any, fit_params: Mapping[str, Any]) -> bool:
    """Whether the net's module returns tensors for the first samples."""
    trial = clone(net).set_params(
        device="cpu",
        compile=False,
        batch_size=_PROBE,
        iterator_valid__batch_size=_PROBE,
        **{f"module__{name}": value for name, value in tried.items()},
    )
    try:
        with warnings.catch_warnings(), drawing(0, 0, WEIGHTS, "cpu"), numpy_seeded(0), torch.no_grad():
            warnings.simplefilter("ignore")
            trial._initialize_module()  # the criterion and the optimizer may be wrong for another reason
            trial.module_.eval()
            batch = next(iter(trial.get_iterator(trial.get_dataset(X))))
            output = trial.infer(unpack_data(batch)[0], **fit_params)
    except Exception:  # anybody's module; skorch raises it again when the net is fitted
        return False
    return isinstance(output[0] if isinstance(output, tuple) else output, torch.Tensor)


def _factory(module: Any) -> Any:
    """Return the class of a module, and what makes modules as it is."""
    return type(module) if isinstance(module, nn.Module) else module


def _default(factory: Any, name: str) -> Any:
    try:
        return inspect.signature(factory).parameters[name].default
    except (KeyError, TypeError, ValueError):  # takes **options, or is written in C
        return None


def _is_known(value: Any) -> bool:
    """Whether a value certainly is an activation: of the catalogue, of torch.nn or a formula."""
    if isinstance(value, str):
        return is_formula(value) or _name(value) in catalogue
    kind = kind_of(value)
    return kind is not None and kind.activation is not None


def _may_be_activation(value: Any) -> bool:
    return isinstance(value, str) or (callable(value) and isinstance(value, Hashable))


def _name(spec: str) -> str:
    try:
        return parse(spec)[0]
    except UsageError:
        return ""
