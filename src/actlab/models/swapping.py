"""The activations of a model: where they are, and the model with others in their places."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.functions import catalogue
from actlab.models.activation_sites import Function, Kind, Place, kind_of, kind_of_module, places_of
from actlab.models.forward_calls import Call, calls_in, replace_calls
from actlab.models.lazy_layers import copied
from actlab.models.networks import ActivationLike, fresh

Key = type[nn.Module] | str


def swap(model: nn.Module, replacements: Mapping[Key, ActivationLike], *, inplace: bool = False) -> nn.Module:
    """Return a model with other activations: modules, and calls in the forward of a module.

    Each replaced activation becomes a module of its own, with its own parameters, in the mode of the module
    that it replaces or that calls it, and with the dtype and device of the model's weights. A module that
    the model uses in several places becomes one new module in the same places. Replacements are not
    replaced again.

    A call in the source of a forward, such as ``F.relu(self.fc(x))``, becomes
    ``self.activation1(self.fc(x))``. The module gets a subclass of its class with this source and keeps its
    methods, hooks and the names of its weights. It can be copied, pickled, compiled and exported like the
    original. A call in a loop becomes one module. The other arguments of the call are dropped. Layers of
    torch such as ``nn.LSTM`` are not changed inside. Functions that a forward receives as arguments or
    iterates over are not found.

    Args:
        model: Any module.
        replacements: The new activation for each key. A key is a module class such as ``nn.ReLU``, which
            stands for no subclass but also for ``F.relu``, ``torch.relu`` and ``x.relu()``; a name that
            :func:`activations_in` returns, such as ``"relu"``, for modules and functions of torch, actlab
            and other packages; or a path such as ``"features.1"``, unless a catalogue name is the same.
            Paths have priority, then the first matching key. A value is any activation that
            :class:`~actlab.models.networks.NeuralNet` takes.
        inplace: Change the model, not a deep copy of it.

    Returns:
        The copy or the model; the replacement itself if the model is nothing but an activation.

    Raises:
        UsageError: A key or a value is wrong, a key matches nothing, the model cannot be copied, or a call
            cannot be replaced: it is in a function outside of the module's class, in a method called by
            ``super()``, or in code that torch generated. The model is not changed then.

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
    catalogue's activation with the same values: ``"gelu"``. If the catalogue has none and the module computes
    a non-linear function of each element, its name is that of its class. Code without source, such as a
    function written in C, is left out.

    Args:
        model: Any module.

    Returns:
        Places by name: the path of a module or of a function in an attribute; for a call, the class with the
        forward, and the line.

    Examples:
        >>> activations_in(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Softmax(-1)))
        {'relu': ['1']}
    """
    whole = kind_of_module(model)
    found: list[tuple[Kind | None, str]] = [(whole, "")] if whole.activation else []
    named = {module for module in model.modules() if module is not model and _name(kind_of_module(module))}
    found += [(kind_of(place.value), place.path) for place in places_of(model) if place.holder not in named]
    for path, module in model.named_modules():
        title = _title(path, module)
        calls = [] if module in named else calls_in(module)
        found += [(call.kind, f"{title} ({call.kind.text}, {call.where})") for call in calls]
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


def _title(path: str, module: Any) -> str:
    scripted = isinstance(module, torch.jit.ScriptModule)
    name = f"{module.original_name if scripted else type(module).__name__}.forward"
    return f"{path}: {name}" if path else name


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
            keys = {call: _keys(self.replacements, call.kind) for call in calls_in(module)}
            self.used.update(itertools.chain(*keys.values()))
            if wanted := {call: fitting[0] for call, fitting in keys.items() if fitting}:
                yield self._rewriting(path, module, wanted)

    def _rewriting(self, path: str, module: nn.Module, wanted: Mapping[Call, Key]) -> Callable[[], None]:
        new = {call: self.made(key, module) for call, key in wanted.items()}
        refused = next((call for call in wanted if call.problem), None)
        call, problem = refused or next(iter(wanted)), refused.problem if refused else ""
        try:
            if not problem:
                return replace_calls(module, new)
        except Exception as error:  # a decorator that needs names of its class, or a class without subclasses
            problem = f"{summarize_error(error)}; make it a module of its own"
        name = f"{_title(path, module)} calls {call.kind.text} ({call.where})"
        raise UsageError(f"swap: {name}, which cannot be replaced: {problem}")

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
