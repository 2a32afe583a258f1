"""Find the activations of a model, and replace them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.functions import catalogue
from actlab.models.activation_sites import FunctionModule, Kind, Site, find_sites, identify, identify_module
from actlab.models.forward_calls import Call, find_activation_calls, prepare_call_replacement
from actlab.models.lazy_layers import copy_module
from actlab.models.networks import ActivationLike, new_activation

Key = type[nn.Module] | str


def swap(model: nn.Module, replacements: Mapping[Key, ActivationLike], *, inplace: bool = False) -> nn.Module:
    """Return a model with other activations: replace modules, and calls in the forward of a module.

    Each replaced activation becomes a separate module with its own parameters. It has the training mode of
    the module that it replaces or that calls it, and the dtype and device of the model's weights. A module
    that the model uses in several places becomes one new module in the same places. Replacements are not
    replaced again.

    A call in the source of a forward, such as ``F.relu(self.fc(x))``, becomes
    ``self.activation1(self.fc(x))``. The module gets a subclass of its class with this source and keeps its
    methods, hooks and the names of its weights. It can be copied, pickled, compiled and exported like the
    original. A call in a loop becomes one module. The other arguments of the call are dropped. The code
    inside layers of torch such as ``nn.LSTM`` is not changed. Functions that a forward receives as arguments
    or iterates over are not replaced.

    Args:
        model: Any module.
        replacements: The new activation for each key. A key is a module class such as ``nn.ReLU``, which also
            matches ``F.relu``, ``torch.relu`` and ``x.relu()``, but no subclass; a name that
            :func:`find_activations` returns, such as ``"relu"``, for modules and functions of torch, actlab
            and other packages; or a path such as ``"features.1"``, unless a catalogue name is the same. Paths
            have priority, then the first matching key. A value is any activation that
            :class:`~actlab.models.networks.NeuralNet` takes.
        inplace: Change the model, not a deep copy of it.

    Returns:
        The copy or the model; the replacement itself if the model is a single activation.

    Raises:
        UsageError: A key or a value is wrong, a key matches nothing, the model cannot be copied, or a call
            cannot be replaced: it is in a function outside of the module's class, in a method called by
            ``super()``, or in code that torch generated. In this case the model is not changed.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> swap(model, {nn.ReLU: "leaky_relu(negative_slope=0.2)"})
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): LeakyReLU(negative_slope=0.2)
          (2): Linear(in_features=8, out_features=3, bias=True)
        )
    """
    _validate(model, replacements)
    if keys := _find_matching_keys(replacements, identify(model)):
        if inplace:
            name = _format_key(keys[0])
            raise UsageError(
                f"swap: the model itself is the {name}; put it into a module, or pass inplace=False"
            )
        return _make_module(model, replacements, keys[0], model)
    try:
        model = model if inplace else copy_module(model)
    except Exception as error:  # raised by the user's attributes
        raise UsageError(
            f"swap: the model cannot be copied: {summarize_error(error)}; pass inplace=True"
        ) from error
    plan = _Plan(model, replacements)
    plan.add_sites()
    plan.add_calls()
    plan.refuse_unused_keys()
    plan.apply()
    return model


def find_activations(model: nn.Module) -> dict[str, list[str]]:
    """Return which element-wise activations a model has, and where.

    A module of another package, such as ``NewGELUActivation`` of Hugging Face, has the name of the
    catalogue's activation with the same values: ``"gelu"``. If the catalogue has none and the module computes
    a non-linear function of each element, its name is that of its class. Code without source, such as a
    function written in C, is skipped.

    Args:
        model: Any module.

    Returns:
        Places by name: the path of a module or of a function in an attribute; for a call, the class with the
        forward, and the line.

    Examples:
        >>> find_activations(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Softmax(-1)))
        {'relu': ['1']}
    """
    own = identify_module(model)
    found: list[tuple[Kind | None, str]] = [(own, "")] if own.activation else []
    named = {m for m in model.modules() if m is not model and _find_elementwise_name(identify_module(m))}
    found += [(identify(site.value), site.path) for site in find_sites(model) if site.owner not in named]
    for path, module in model.named_modules():
        title, calls = _format_title(path, module), [] if module in named else find_activation_calls(module)
        found += [(call.kind, f"{title} ({call.kind.text}, {call.where})") for call in calls]
    paths: dict[str, dict[str, None]] = {}
    for kind, path in found:
        if name := _find_elementwise_name(kind):
            paths.setdefault(name, {})[path] = None
    return {name: list(places) for name, places in paths.items()}


def _validate(model: nn.Module, replacements: Mapping[Key, ActivationLike]) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"swap: the model must be an nn.Module, got a {type(model).__name__}")
    if not isinstance(replacements, Mapping | None):
        raise UsageError(
            f"swap: replacements must be a dictionary such as {{nn.ReLU: 'mish'}}, got {replacements!r}"
        )
    if not replacements:
        raise UsageError("swap: replacements is empty; pass an activation for at least one key")
    valid = {*catalogue, *(site.path for site in find_sites(model))}
    for key in replacements:
        if isinstance(key, str) and key not in valid:
            valid.update(filter(None, (identify_module(module).name for module in model.modules())))
        if isinstance(key, str) and key not in valid:
            near = did_you_mean(key, valid)
            raise UsageError(f"swap: {key!r} is neither a catalogue name nor a path in the model{near}")
        if not (isinstance(key, str) or (isinstance(key, type) and issubclass(key, nn.Module))):
            raise UsageError(f"swap: the key {key!r} must be a module class, a catalogue name or a path")


def _find_elementwise_name(kind: Kind | None) -> str | None:
    """Return the name of an element-wise activation; None for anything else."""
    gated = kind and kind.activation and kind.activation.facts.gated
    return None if kind is None or gated else kind.name


def _find_matching_keys(replacements: Mapping[Key, Any], kind: Kind | None, path: str = "") -> list[Key]:
    """Return the keys that match a module or a call; the first one applies."""
    keys: list[Key] = [path] if path and path in replacements and path not in catalogue else []
    return [*keys, *(key for key in replacements if kind and key in kind.keys)]


def _format_title(path: str, module: Any) -> str:
    scripted = isinstance(module, torch.jit.ScriptModule)
    name = f"{module.original_name if scripted else type(module).__name__}.forward"
    return f"{path}: {name}" if path else name


def _format_key(key: Key) -> str:
    return repr(key) if isinstance(key, str) else key.__name__


def _is_inside(path: str, paths: Collection[str]) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:end]) in paths for end in range(1, len(parts) + 1))


def _make_module(
    model: nn.Module, replacements: Mapping[Key, ActivationLike], key: Key, like: nn.Module
) -> nn.Module:
    """Return a new activation for a key, in the mode of ``like``, with the device and dtype of the model."""
    try:
        activation: Any = new_activation(replacements[key])
    except TypeError as error:
        raise UsageError(f"swap: the replacement for {_format_key(key)}: {summarize_error(error)}") from error
    if not callable(activation):
        raise UsageError(
            f"swap: the replacement for {_format_key(key)} is {activation!r}; it must be an activation"
        )
    module = activation if isinstance(activation, nn.Module) else FunctionModule(activation)
    weights = (p for p in model.parameters() if p.dtype.is_floating_point)
    if (weight := next(weights, None)) is not None:
        module.to(weight.device, weight.dtype)
    return module.train(like.training)


class _Plan:
    """The changes of a model, which are made after all of them are known to be possible."""

    def __init__(self, model: nn.Module, replacements: Mapping[Key, ActivationLike]) -> None:
        self.model, self.replacements = model, replacements
        self.used: set[Key] = set()
        self.paths: set[str] = set()  # of what is replaced
        self.sites: list[tuple[Site, nn.Module]] = []
        self.changes: list[Callable[[], None]] = []

    def add_sites(self) -> None:
        """Plan the replacement of modules, and of functions that are attributes."""
        chosen: dict[tuple[int, str], tuple[Site, Key]] = {}
        for site in find_sites(self.model):
            inside = _is_inside(site.path, self.paths)
            keys = [] if inside else _find_matching_keys(self.replacements, identify(site.value), site.path)
            self.used.update(keys)
            attribute = id(site.owner), site.name  # a shared owner has several paths
            if keys and (attribute not in chosen or keys[0] == site.path):
                chosen[attribute] = site, keys[0]
            if attribute in chosen:
                self.paths.add(site.path)
        new: dict[tuple[int, Key], nn.Module] = {}
        for site, key in chosen.values():
            if isinstance(site.owner, torch.jit.ScriptModule):
                raise UsageError(
                    f"swap: {site.path} is in a module that TorchScript has compiled and that cannot be "
                    f"changed; replace it before the model is scripted"
                )
            is_module = isinstance(site.value, nn.Module)
            shared = id(site.value if is_module else site), key
            if shared not in new:
                like = site.value if is_module else site.owner
                new[shared] = _make_module(self.model, self.replacements, key, like)
            self.sites.append((site, new[shared]))

    def add_calls(self) -> None:
        """Plan the replacement of calls in the forward of each module that stays."""
        modules = self.model.named_modules(remove_duplicate=False)
        paths = {module: path for path, module in modules if not _is_inside(path, self.paths)}
        for module, path in paths.items():
            keys = {
                call: _find_matching_keys(self.replacements, call.kind)
                for call in find_activation_calls(module)
            }
            self.used.update(itertools.chain(*keys.values()))
            if any(keys.values()):
                wanted = {call: matching[0] for call, matching in keys.items() if matching}
                self.changes.append(self._prepare_call_replacement(path, module, wanted))

    def _prepare_call_replacement(
        self, path: str, module: nn.Module, keys: Mapping[Call, Key]
    ) -> Callable[[], None]:
        new = {call: _make_module(self.model, self.replacements, key, module) for call, key in keys.items()}
        refused = next((call for call in keys if call.problem), None)
        call, problem = refused or next(iter(keys)), refused.problem if refused else ""
        try:
            if not problem:
                return prepare_call_replacement(module, new)
        except Exception as error:  # a decorator that needs names of its class, or a class without subclasses
            problem = f"{summarize_error(error)}; make it a separate module"
        name = f"{_format_title(path, module)} calls {call.kind.text} ({call.where})"
        raise UsageError(f"swap: {name}, which cannot be replaced: {problem}")

    def refuse_unused_keys(self) -> None:
        """Raise if a key matches nothing."""
        for key in self.replacements:
            if key not in self.used:
                names = find_activations(self.model)
                listing = "; ".join(f"{name} ({', '.join(paths)})" for name, paths in names.items())
                near = did_you_mean(key if isinstance(key, str) else key.__name__, names)
                has = f"the model has {listing}" if listing else "the model has no activations"
                raise UsageError(f"swap: nothing in the model matches {_format_key(key)}{near}; {has}")

    def apply(self) -> None:
        """Change the model."""
        for site, module in self.sites:
            vars(site.owner).pop(site.name, None)
            site.owner._modules[site.name] = module
        for change in self.changes:
            change()
        # The fused kernels of torch's transformers have relu and gelu built in.
        layers = {site.owner for site, _ in self.sites if isinstance(site.owner, nn.TransformerEncoderLayer)}
        for layer in layers:
            layer.activation_relu_or_gelu = 0
        for module in self.model.modules():
            if isinstance(module, nn.TransformerEncoder) and not layers.isdisjoint(module.layers):
                module.use_nested_tensor = False
