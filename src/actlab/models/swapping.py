"""Find the activations of a model, and replace them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from actlab.errors import UsageError, summarize_error
from actlab.models.activation_sites import identify_module
from actlab.models.places import Places, find_places
from actlab.models.swap_plan import ALL, Key, Plan, Selectors, explain, find_excluded, find_matching_keys
from actlab.spec import ActivationLike, copy_module


def swap(
    model: nn.Module,
    replacements: Mapping[Key, ActivationLike] | ActivationLike,
    *,
    only: Selectors = None,
    except_: Selectors = None,
    inplace: bool = False,
) -> nn.Module:
    """Return a model with other activations: replace modules, and calls in the forward of a module.

    Each replaced activation becomes a separate module with its own parameters. It has the training mode and
    the hooks of the module that it replaces, and the dtype and device of the nearest weights. A module
    that the model uses in several places becomes one new module in the same places. Replacements are not
    replaced again.

    A call in the source of a forward, such as ``F.relu(self.fc(x))``, becomes
    ``self.activation1(self.fc(x))``. The module gets a subclass of its class with this source and keeps its
    methods, hooks and the names of its weights. It can be copied, pickled, compiled and exported like the
    original. Functions that the forward calls become methods of the subclass. A call in a loop becomes one
    module. The other arguments of the call are dropped. The code inside layers of torch such as ``nn.LSTM``
    is not changed. Functions that a forward receives as arguments or iterates over are not replaced.
    :func:`actlab.models.find_activations` takes the same arguments and lists what is replaced, what is not,
    and why.

    Args:
        model: Any module.
        replacements: The new activation, or one for each key. A single activation replaces all element-wise
            activations except ``sigmoid`` and ``hardsigmoid``, which are usually gates. A key is a module
            class such as ``nn.ReLU``, which also matches ``F.relu``, ``torch.relu`` and ``x.relu()``, but no
            subclass; a name that :func:`actlab.models.find_activations` returns, such as ``"relu"``, for
            modules and functions of torch, actlab and other packages; or a path such as ``"features.1"``,
            unless a catalogue name is the same. Paths have priority, then the first matching key. An
            activation may be anything that :class:`~actlab.models.networks.NeuralNet` takes as one.
        only: The places to replace; by default all. Select places by a path, their own or that of an
            enclosing module, with ``*`` for any text (``"layer1.*"``); by a class, their own or that of an
            enclosing module; by depth, the number of parts of the path; or by a function of the path and the
            module (for a call, the module that makes it). A list selects all places that one of its elements
            selects.
        except_: The places not to replace.
        inplace: Change the model, not a deep copy of it.

    Returns:
        The copy or the model; the replacement itself if the model is a single activation.

    Raises:
        UsageError: An argument is wrong, a key, ``only`` or ``except_`` matches nothing, the model cannot be
            copied, or a call cannot be replaced: it is in a decorated function outside the module's class, or
            in code that torch generated. In this case the model is not changed.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> swap(model, {nn.ReLU: "leaky_relu(negative_slope=0.2)"})
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): LeakyReLU(negative_slope=0.2)
          (2): Linear(in_features=8, out_features=3, bias=True)
        )
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"swap: the model must be an nn.Module, got a {type(model).__name__}")
    own, mapping = identify_module(model), _make_mapping(replacements)
    is_activation = any(key is not ALL or own.activation for key in find_matching_keys(mapping, own))
    if is_activation and inplace:
        name = type(model).__name__
        raise UsageError(f"swap: the model itself is the {name}; put it into a module, or pass inplace=False")
    try:
        model = model if inplace else copy_module(model)
    except Exception as error:  # raised by the user's attributes
        raise UsageError(
            f"swap: the model cannot be copied: {summarize_error(error)}; pass inplace=True"
        ) from error
    plan = Plan(nn.Sequential(model) if is_activation else model, mapping, only, except_)
    plan.raise_problems()
    plan.apply()
    return plan.model[0] if is_activation else model  # type: ignore[index]


def find_activations(
    model: nn.Module,
    replacements: Mapping[Key, ActivationLike] | ActivationLike | None = None,
    *,
    only: Selectors = None,
    except_: Selectors = None,
) -> Places:
    """Return the activations of a model, place by place, and what :func:`actlab.swap` does with each.

    A module of another package, such as ``NewGELUActivation`` of Hugging Face, has the name of the
    catalogue's activation with the same values: ``"gelu"``. If the catalogue has none and the module computes
    a non-linear function of each element, its name is that of its class. Softmax, gated units and the
    activations inside torch's layers are also listed. Code without source, such as a function written in C,
    is skipped.

    Args:
        model: Any module. It is not changed.
        replacements: As in :func:`actlab.swap`; None only lists the activations.
        only: As in :func:`actlab.swap`.
        except_: As in :func:`actlab.swap`.

    Returns:
        The places; ``print`` shows them as a table. A place that :func:`actlab.swap` does not change, or
        cannot change, has a reason.

    Raises:
        UsageError: An argument is wrong, or a key, ``only`` or ``except_`` matches nothing.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(-1))
        >>> print(find_activations(model, "mish"))
        path  activation  code             depth  replacement  reason
        1     relu        ReLU()           1      Mish()
        3     softmax     Softmax(dim=-1)  1                   it normalizes along a dimension
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"swap: the model must be an nn.Module, got a {type(model).__name__}")
    if replacements is not None:
        return Plan(model, _make_mapping(replacements), only, except_).list_places()
    places = find_places(model)
    excluded = find_excluded(places, only, except_)
    listed = [place for place in places if place.is_listed and place not in excluded]
    return Places(replace(place, reason=explain(place) or place.problem) for place in listed)


def _make_mapping(replacements: Any) -> Mapping[Key, ActivationLike]:
    if not isinstance(replacements, Mapping | None):
        return {ALL: replacements}
    if not replacements:
        raise UsageError("swap: replacements is empty; pass an activation for at least one key")
    return replacements
