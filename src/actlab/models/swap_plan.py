"""Plan a swap: choose the places, make the new activations, and change the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from actlab.errors import UsageError, did_you_mean, raise_problems, summarize_error
from actlab.functions import catalogue
from actlab.models.activation_sites import Kind, Site
from actlab.models.call_replacement import prepare_call_replacement
from actlab.models.forward_calls import Call
from actlab.models.networks import new_activation
from actlab.models.places import Place, Places, find_places, list_parents
from actlab.spec import ActivationLike

Key = type[nn.Module] | str
Selector = str | int | type[nn.Module] | Callable[[str, nn.Module], bool]
Selectors = Selector | Collection[Selector] | None

ALL: Any = object()  # the key of an activation that replaces all others
_GATES = ("sigmoid", "hardsigmoid")
_GATE = "it may be a gate; name it to replace it"
_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    *("_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"),
)


def find_matching_keys(
    replacements: Mapping[Key, Any], kind: Kind | None, path: str = "", *, is_inner: bool = False
) -> list[Key]:
    """Return the keys that match a module or a call; the first one applies."""
    if kind is None:
        return []
    keys: list[Key] = [path] if path and path in replacements and path not in catalogue else []
    keys += [key for key in replacements if key in kind.keys]
    is_hidden_activation = kind.name and not kind.other and kind.name not in _GATES and not is_inner
    return [*keys, ALL] if ALL in replacements and is_hidden_activation else keys


def explain(place: Place) -> str:
    """Return why an activation does not replace the one at a place; empty if it does."""
    if place.kind.other:
        return place.kind.other[1]
    return _GATE if place.activation in _GATES else ""


# -- choosing places --------------------------------------------------------------------------------------


def find_excluded(places: Iterable[Place], only: Selectors, except_: Selectors) -> dict[Place, str]:
    """Return the places that ``only`` and ``except_`` exclude, with the reason."""
    problems: list[str] = []
    excluded = {}
    for option, selectors in (("only", only), ("except_", except_)):
        if selectors is None:
            continue
        several = isinstance(selectors, Collection) and not isinstance(selectors, str | type)
        chosen = set[Place]()
        for selector in selectors if several else [selectors]:  # type: ignore[union-attr]
            matched = {place for place in places if _is_selected(place, selector)}
            chosen |= matched
            if not any(place.activation for place in matched):
                problems.append(_describe_unused(places, option, selector))
        for place in places:
            if (place in chosen) == (option == "except_"):
                excluded[place] = "excluded by except_" if option == "except_" else "not selected by only"
    raise_problems(problems)
    return excluded


def _is_selected(place: Place, selector: Any) -> bool:
    if isinstance(selector, str):
        return any(fnmatchcase(path, selector) for path in list_parents(place.path))
    if isinstance(selector, type):
        return selector in place.kind.keys or any(isinstance(module, selector) for module in place.parents)
    if callable(selector):
        return bool(selector(place.path, place.module))
    return bool(place.depth == selector)


def _describe_unused(places: Iterable[Place], option: str, selector: Any) -> str:
    """Return the problem with a part of ``only`` or ``except_`` that selects no activation."""
    if isinstance(selector, str):
        paths = itertools.chain.from_iterable(list_parents(p.path) for p in places if p.is_listed)
        near = did_you_mean(selector, paths)
        return f"swap: {option}: {selector!r} is no path of an activation in the model{near}"
    if isinstance(selector, type):
        return f"swap: {option}: the model has no activation that is, or is in, a {selector.__name__}"
    if callable(selector):
        return f"swap: {option}: the function selects no activation in the model"
    if isinstance(selector, int):
        depths = sorted({place.depth for place in places if place.is_listed})
        return f"swap: {option}: no activation has the depth {selector}; the depths are {depths}"
    return f"swap: {option} must be a path, a class, a depth or a function, got {selector!r}"


# -- replacing --------------------------------------------------------------------------------------------


def _format_key(key: Key) -> str:
    if key is ALL:
        return "all activations"
    return repr(key) if isinstance(key, str) else key.__name__


def _make_module(replacements: Mapping[Key, ActivationLike], key: Key, place: Place) -> nn.Module:
    """Return a new activation for a key, in the mode of the old one, with the device and dtype of weights."""
    try:
        module = new_activation(replacements[key])
    except UsageError as error:
        raise UsageError(f"swap: the replacement for {_format_key(key)}: {error}") from error
    near = itertools.chain([place.module], reversed(place.parents))
    weights = (p for part in near for p in part.parameters() if p.dtype.is_floating_point)
    if (weight := next(weights, None)) is not None:
        module.to(weight.device, weight.dtype)
    return module.train(place.module.training)


class Plan:
    """The changes to a model. They are made only after all of them are known to be possible."""

    def __init__(
        self,
        model: nn.Module,
        replacements: Mapping[Key, ActivationLike],
        only: Selectors,
        except_: Selectors,
    ) -> None:
        self.model, self.replacements, self.places = model, replacements, find_places(model)
        self._check_keys()
        self.excluded = find_excluded(self.places, only, except_)
        self.used: set[Key] = set()
        self.paths: set[str] = set()  # of what is replaced
        self.keys: dict[Any, tuple[Place, Key]] = {}  # by target
        self.problems: dict[Place, str] = {}
        self._choose()
        self._refuse_unused_keys()
        self.new: dict[Any, nn.Module] = {}  # by target
        self.changes: list[Callable[[], None]] = []
        self._prepare()

    def _check_keys(self) -> None:
        valid = {*catalogue, *(place.path for place in self.places if place.target)}
        valid.update(key for place in self.places for key in place.kind.keys if isinstance(key, str))
        for key in self.replacements:
            if isinstance(key, str) and key not in valid:
                near = did_you_mean(key, valid)
                raise UsageError(f"swap: {key!r} is neither a catalogue name nor a path in the model{near}")
            is_class = isinstance(key, type) and issubclass(key, nn.Module)
            if not (isinstance(key, str) or is_class or key is ALL):
                raise UsageError(f"swap: the key {key!r} must be a module class, a catalogue name or a path")

    def _choose(self) -> None:
        """Choose the key of each module, function and call; an attribute of a shared module has only one."""
        for place in self.places:
            if place.target is None or not self.paths.isdisjoint(list_parents(place.path.rpartition(".")[0])):
                continue
            keys = find_matching_keys(self.replacements, place.kind, place.path, is_inner=place.is_inner)
            self.used.update(keys)
            target = _get_attribute_key(place)
            if keys and place not in self.excluded and (target not in self.keys or keys[0] == place.path):
                self.keys[target] = place, keys[0]
            if target in self.keys and isinstance(place.target, Site):
                self.paths.add(place.path)

    def _refuse_unused_keys(self) -> None:
        for key in self.replacements:
            if key not in self.used:
                named = [place for place in self.places if place.is_listed]
                names = {place.activation: None for place in named if place.is_elementwise}
                paths = {name: [p.path for p in named if p.activation == name] for name in names}
                listing = "; ".join(f"{name} ({', '.join(paths[name])})" for name in names)
                text = key if isinstance(key, str) else getattr(key, "__name__", "")
                has = f"the model has {listing}" if listing else "the model has no activations"
                raise UsageError(
                    f"swap: nothing in the model matches {_format_key(key)}{did_you_mean(text, names)}; {has}"
                )
        if not self.keys:
            raise UsageError("swap: only and except_ exclude everything that the replacements match")

    def _prepare(self) -> None:
        shared: dict[Any, nn.Module] = {}
        calls: dict[nn.Module, dict[Call, nn.Module]] = {}
        for target, (place, key) in self.keys.items():
            is_module = isinstance(place.target, Site) and isinstance(place.target.value, nn.Module)
            same = (place.module if is_module else target), key
            if same not in shared:
                shared[same] = _make_module(self.replacements, key, place)
            self.new[target] = shared[same]
            if place.problem:
                self.problems[place] = place.problem
            if isinstance(place.target, Call):
                calls.setdefault(place.module, {})[place.target] = shared[same]
        for module, new in calls.items():
            places = [place for place, _ in self.keys.values() if place.target in new]
            try:
                if self.problems.keys().isdisjoint(places):
                    self.changes.append(prepare_call_replacement(module, new))
            # Raised by a decorator that needs names of its class, or by a class that allows no subclass.
            except Exception as error:
                problem = f"{summarize_error(error)}; make it a separate module"
                self.problems |= dict.fromkeys(places, problem)

    def raise_problems(self) -> None:
        """Raise if a place cannot be replaced."""
        for place, problem in self.problems.items():
            name = f"{place.path} is {place.code}"
            if isinstance(place.target, Call):
                title = f"{place.parent_path}: {_name_class(place.module)}".removeprefix(": ")
                name = f"{title}.forward calls {place.kind.text} ({place.target.where})"
            more = f" ({len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            advice = f"; or exclude it with except_={place.path!r} of swap"
            raise UsageError(f"swap: {name}, which cannot be replaced: {problem}{advice}{more}")

    def list_places(self) -> Places:
        """Return the activations with what replaces them, or the reason why nothing does."""
        rows = []
        for place in self.places:
            if (target := _get_attribute_key(place)) in self.keys and place not in self.problems:
                new = self.new[target]
                rows.append(replace(place, replacement=f"{type(new).__name__}({new.extra_repr()})"))
            elif place.is_listed:
                reason = self.problems.get(place) or self.excluded.get(place) or explain(place)
                rows.append(replace(place, reason=reason or "no key matches it"))
        return Places(rows)

    def apply(self) -> None:
        """Change the model."""
        layers = set()
        for target, (place, _) in self.keys.items():
            if isinstance(site := place.target, Site):
                new = self.new[target]
                if isinstance(site.value, nn.Module):
                    vars(new).update({k: v for k, v in vars(site.value).items() if k in _HOOKS})
                vars(site.owner).pop(site.name, None)
                site.owner._modules[site.name] = new
                layers |= {site.owner} if isinstance(site.owner, nn.TransformerEncoderLayer) else set()
        for change in self.changes:
            change()
        # The fused kernels of torch's transformers have relu and gelu built in.
        for layer in layers:
            layer.activation_relu_or_gelu = 0
        for module in self.model.modules():
            if isinstance(module, nn.TransformerEncoder) and not layers.isdisjoint(module.layers):
                module.use_nested_tensor = False


def _get_attribute_key(place: Place) -> Any:
    """Return a key that all places of one attribute or call share: a shared module has several paths."""
    target = place.target
    return (id(target.owner), target.name) if isinstance(target, Site) else target


def _name_class(module: nn.Module) -> str:
    is_scripted = isinstance(module, torch.jit.ScriptModule)
    return str(module.original_name) if is_scripted else type(module).__name__
