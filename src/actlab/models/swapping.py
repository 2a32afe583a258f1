"""The activations of a model: where they are, and the model with others in their places."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.functions import catalogue
from actlab.models.activation_sites import Call, Function, Kind, Place, kind_of, kind_of_module, places_of
from actlab.models.forward_graph import (
    BASE,
    Forward,
    calls_in,
    code_with,
    overwriting,
    recipe_of,
    take_forward,
    trace,
    with_forward,
)
from actlab.models.lazy_layers import copied
from actlab.models.networks import ActivationLike, fresh

Key = type[nn.Module] | str


def swap(model: nn.Module, replacements: Mapping[Key, ActivationLike], *, inplace: bool = False) -> nn.Module:
    """Return a model with other activations: modules, and functional calls in the forward of a module.

    Every place gets a module of its own, sharing no parameter, in the mode of what it replaces and with the
    dtype and device of the model's weights; a module that stands in several places is again one module in
    all of them. It is done at once: what has been put in is not replaced again.

    A forward that calls an activation, as in ``F.relu(self.fc(x))``, is traced by ``torch.fx`` and calls
    modules ``activation1``, ``activation2``, ... from then on. Its module keeps its class, methods, hooks and
    the names of its weights; a number that its forward reads from an attribute stays what it is now. What
    torch.nn's layers do inside, such as the tanh of ``nn.LSTM``, is left.

    Args:
        model: Any module.
        replacements: What comes in place of what. A key is a module class such as ``nn.ReLU``, which stands
            for no subclass but for ``F.relu``, ``torch.relu`` and ``x.relu()``; a name that
            :func:`activations_in` lists, such as ``"relu"``, for modules and functions of torch, actlab and
            other packages; or a place such as ``"features.1"``, unless a catalogue name reads the same. A
            place goes before the others, then the first that fits. A value is what
            :class:`~actlab.models.networks.NeuralNet` takes.
        inplace: Change the model, not a deep copy of it.

    Returns:
        The copy or the model; the replacement itself if the model is nothing but an activation.

    Raises:
        UsageError: A key or a value is wrong, a key has nothing to replace, the model cannot be copied, or a
            call cannot be replaced because its forward does what a trace does not show: it asks for a value,
            the mode or a type, draws or keeps something, or is compiled. The model is then as it was.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> swap(model, {nn.ReLU: "leaky_relu(negative_slope=0.2)"})
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): LeakyReLU(negative_slope=0.2)
          (2): Linear(in_features=8, out_features=3, bias=True)
        )
    """
    _check(model, replacements)
    if own := _keys(replacements, kind_of(model)):
        if inplace:
            raise UsageError(
                f"swap: the model is itself the {_shown(own[0])}, which has no place to replace it in"
            )
        return _Swapping(model, replacements).made(own[0], model)
    try:
        swapping = _Swapping(model if inplace else copied(model), replacements)
    except Exception as error:  # anybody's attributes
        raise UsageError(
            f"swap: the model cannot be copied: {summarize_error(error)}; pass inplace=True"
        ) from error
    try:
        swapping.replace_modules()
        rewritings = list(swapping.rewritings())
        swapping.check_use()
    except BaseException:
        swapping.undo()
        raise
    for rewrite in rewritings:
        rewrite()
    swapping.leave_fast_path()
    return swapping.model


def activations_in(model: nn.Module) -> dict[str, list[str]]:
    """Return which element-wise activations a model has, and where.

    A module of another package, such as ``NewGELUActivation`` of Hugging Face, has the name of the
    catalogue's activation with the same values: ``"gelu"``. If there is none and the module computes a
    non-linear function of each element, its name is that of its class. Code that cannot be read, such as a
    function written in C, is left out.

    Args:
        model: Any module.

    Returns:
        Places by name: a module's path, also of a function that is kept as an attribute; for a call the class
        whose forward makes it, and the line.

    Examples:
        >>> activations_in(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Softmax(-1)))
        {'relu': ['1']}
    """
    whole = kind_of_module(model)
    found: list[tuple[Kind | None, str]] = [(whole, "")] if whole.activation else []
    named = {module for module in model.modules() if module is not model and _name(kind_of_module(module))}
    found += [(kind_of(place.value), place.path) for place in places_of(model) if place.holder not in named]
    for path, module in model.named_modules():
        for forward in [] if module in named else [Forward(path, module)]:
            calls = forward.calls
            found += [(call.kind, f"{forward.title} ({call.kind.text}, {call.where})") for call in calls]
    places: dict[str, dict[str, None]] = {}
    for kind, path in found:
        if name := _name(kind):
            places.setdefault(name, {})[path] = None
    return {name: list(paths) for name, paths in places.items()}


def _check(model: nn.Module, replacements: Mapping[Key, ActivationLike]) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"swap: the model is a {type(model).__name__}; it must be an nn.Module")
    if not replacements:
        raise UsageError("swap: replacements is empty; it must say what comes in place of what")
    known = {*catalogue, *(place.path for place in places_of(model))}
    for key in replacements:
        if isinstance(key, str) and key not in known:
            known.update(filter(None, (kind_of_module(module).name for module in model.modules())))
        if isinstance(key, str) and key not in known:
            near = did_you_mean(key, known)
            raise UsageError(f"swap: {key!r} is neither in the catalogue nor a place of the model{near}")
        if not (isinstance(key, str) or (isinstance(key, type) and issubclass(key, nn.Module))):
            raise UsageError(f"swap: the key {key!r} must be a module class, a catalogue name or a place")


def _name(kind: Kind | None) -> str | None:
    """Return the name of an element-wise activation; None for anything else."""
    gated = kind and kind.activation and kind.activation.facts.gated
    return None if kind is None or gated else kind.name


def _keys(replacements: Mapping[Key, Any], kind: Kind | None, path: str | None = None) -> list[Key]:
    """Return the keys that stand for a module or a call; the first counts."""
    place: list[Key] = [path] if path in replacements and path and path not in catalogue else []
    return [*place, *(key for key in replacements if kind and key in kind.keys)]


def _shown(key: Key) -> str:
    return repr(key) if isinstance(key, str) else key.__name__


class _Swapping:
    """One model whose activations are being replaced."""

    def __init__(self, model: nn.Module, replacements: Mapping[Key, ActivationLike]) -> None:
        self.model, self.replacements = model, replacements
        self.used: set[Key] = set()
        self.new: set[nn.Module] = set()
        self.done: list[Place] = []

    def made(self, key: Key, like: nn.Module) -> nn.Module:
        """Make what comes in place of something, in the mode of ``like``."""
        try:
            made: Any = fresh(self.replacements[key])
        except TypeError as error:
            raise UsageError(f"swap: the replacement for {_shown(key)}: {summarize_error(error)}") from error
        if not callable(made):
            raise UsageError(f"swap: the replacement for {_shown(key)} is {made!r}; it must be an activation")
        module = (made if isinstance(made, nn.Module) else Function(made)).train(like.training)
        weights = (p for p in self.model.parameters() if p.dtype.is_floating_point)
        if (weight := next(weights, None)) is not None:
            module.to(weight.device, weight.dtype)
        self.new.update(module.modules())
        return module

    def replace_modules(self) -> None:
        """Replace modules, and functions that are attributes."""
        chosen: dict[tuple[int, str], tuple[Place, Key]] = {}
        for place in places_of(self.model):
            inside = any(place.path.startswith(f"{other.path}.") for other, _ in chosen.values())
            keys = [] if inside else _keys(self.replacements, kind_of(place.value), place.path)
            self.used.update(keys)
            where = id(place.holder), place.name  # a holder that is shared has several paths
            if keys and (where not in chosen or keys[0] == place.path):
                chosen[where] = place, keys[0]
        shared: dict[tuple[int, Key], nn.Module] = {}
        for place, key in chosen.values():
            if isinstance(place.holder, torch.jit.ScriptModule):
                raise UsageError(
                    f"swap: {place.path} is in a module that TorchScript compiled, whose parts are fixed; "
                    f"replace it before the model is scripted"
                )
            is_module = isinstance(place.value, nn.Module)
            same = id(place.value) if is_module else id(place), key
            if same not in shared:
                shared[same] = self.made(key, place.value if is_module else place.holder)
            self.done.append(place)
            _put(place.holder, place.name, shared[same])

    def rewritings(self) -> Iterator[Callable[[], None]]:
        """Yield what will replace the calls in each forward."""
        for path, module in self.model.named_modules():
            if module in self.new:
                continue
            forward = Forward(path, module)
            keys = {call: _keys(self.replacements, call.kind) for call in forward.calls}
            self.used.update(itertools.chain(*keys.values()))
            if wanted := {call: fitting[0] for call, fitting in keys.items() if fitting}:
                yield self._rewriting(forward, wanted)

    def _rewriting(self, forward: Forward, wanted: Mapping[Call, Key]) -> Callable[[], None]:
        module, first = forward.module, next(iter(wanted))
        forward.refuse_if(forward.why, first)
        for call in wanted:
            forward.refuse_if(overwriting(call), call)
        numbered = (f"activation{number}" for number in itertools.count(1))
        names = list(itertools.islice((n for n in numbered if not hasattr(module, n)), len(wanted)))
        other, why = trace(module, not module.training)
        others = [call for call in calls_in(other) if _keys(self.replacements, call.kind)]
        try:
            same = not why and code_with(other, others, names) == code_with(forward.graph, [*wanted], names)
            forward.refuse_if("" if same else "its forward is another in training than in evaluation", first)
            recoded = with_forward(getattr(module, BASE, type(module)), recipe_of(forward.graph))
        except UsageError:
            raise
        except Exception as error:  # a graph that fx cannot write as code, a class that takes no subclass
            forward.refuse_if(summarize_error(error), first)
        new = {name: self.made(key, module) for name, key in zip(names, wanted.values(), strict=True)}
        return partial(take_forward, module, recoded, new)

    def check_use(self) -> None:
        """Raise if a key has nothing to replace."""
        for key in self.replacements:
            if key not in self.used:
                self.undo()
                there = activations_in(self.model)
                known = "; ".join(f"{name} ({', '.join(paths)})" for name, paths in there.items())
                near = did_you_mean(key if isinstance(key, str) else key.__name__, there)
                has = f"the model has {known}" if known else "the model has no activations"
                raise UsageError(f"swap: there is nothing to replace for {_shown(key)}{near}; {has}")

    def undo(self) -> None:
        """Put back what has been replaced."""
        while self.done:
            place = self.done.pop()
            _put(place.holder, place.name, place.value)

    def leave_fast_path(self) -> None:
        """Turn off the kernels of torch's transformers, with relu or gelu built in, where that is gone."""
        layers = {p.holder for p in self.done if isinstance(p.holder, nn.TransformerEncoderLayer)}
        for layer in layers:
            layer.activation_relu_or_gelu = 0
        for part in self.model.modules():
            if isinstance(part, nn.TransformerEncoder) and not layers.isdisjoint(part.layers):
                part.use_nested_tensor = False


def _put(holder: nn.Module, name: str, value: Any) -> None:
    if isinstance(value, nn.Module):
        vars(holder).pop(name, None)
        holder._modules[name] = value
    else:
        del holder._modules[name]
        vars(holder)[name] = value
