"""List the activations of a model, place by place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from actlab.models.activation_sites import Kind, Site, find_sites, identify, identify_module
from actlab.models.forward_calls import Call, find_activation_calls

_COLUMNS = ("path", "activation", "code", "depth", "replacement", "reason")
_SCRIPTED = "it is in a module that TorchScript has compiled; replace it before the model is scripted"


@dataclass(frozen=True, eq=False)
class Place:
    """A place of a model that has an activation.

    Attributes:
        path: The dotted name of the module, or of the attribute that holds a function. The path of a call
            ends in the function that calls and the line: ``"layer1.0.forward:102"``.
        activation: The name in the catalogue, or of the class if the catalogue has no such function.
        code: The module, or the call with its file and line: ``"F.relu, resnet.py:102"``.
        depth: The number of parts of the path.
        replacement: The activation that :func:`actlab.swap` puts there; empty if it puts none.
        reason: Why it puts none.
    """

    path: str
    activation: str
    code: str
    depth: int
    replacement: str = ""
    reason: str = ""
    kind: Kind = field(repr=False, kw_only=True)
    target: Site | Call | None = field(repr=False, kw_only=True)  # None for the model itself
    parents: tuple[nn.Module, ...] = field(repr=False, kw_only=True)  # from the model to the one with it
    is_inner: bool = field(repr=False, kw_only=True)  # in another activation
    problem: str = field(repr=False, kw_only=True)  # why it cannot be replaced

    @property
    def module(self) -> nn.Module:
        """The activation if it is a module, else the module that calls it."""
        value = self.target.value if isinstance(self.target, Site) else None
        return value if isinstance(value, nn.Module) else self.parents[-1]

    @property
    def parent_path(self) -> str:
        """The path of the module that has the activation."""
        if isinstance(self.target, Call):
            return self.path.removesuffix(self.target.name).removesuffix(".")
        return self.path.rpartition(".")[0]

    @property
    def is_listed(self) -> bool:
        """Whether it is an activation, and not a part of another one."""
        return bool(self.activation) and not self.is_inner

    @property
    def is_elementwise(self) -> bool:
        """Whether it is an element-wise activation, which another one can replace."""
        return bool(self.activation) and not self.kind.other


class Places(tuple[Place, ...]):
    """The places of a model that have an activation. ``str()`` returns them as a table."""

    __slots__ = ()

    def to_json(self) -> list[dict[str, Any]]:
        """Return the places as plain values."""
        return [{name: getattr(place, name) for name in _COLUMNS} for place in self]

    def __str__(self) -> str:
        rows = [[str(row[name]) for name in _COLUMNS] for row in self.to_json()]
        columns = [
            (name, *cells) for name, *cells in zip(_COLUMNS, *rows, strict=True) if any(cells) or not rows
        ]
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in zip(*columns, strict=True)
        ]
        return "\n".join(lines)


def find_places(model: nn.Module) -> list[Place]:
    """Return the modules of a model, its activation functions, and the calls of activations.

    They are in the order of the modules. A part that is not an activation has an empty name.
    """
    own = identify_module(model)
    places = [_make_place("", own, None, (model,))] if own.activation else []
    inner: set[str] = set()  # paths of activations
    parents: dict[str, tuple[nn.Module, ...]] = {"": (model,)}
    for site in find_sites(model):
        above = parents[site.path.rpartition(".")[0]]
        place = _make_place(site.path, identify(site.value), site, above, _is_below(site.path, inner))
        places.append(place)
        if isinstance(site.value, nn.Module):
            parents[site.path] = (*above, site.value)
            inner |= {site.path} if place.is_elementwise else set()
    calls = find_activation_calls(model)
    for path, modules in parents.items():
        is_inner = path in inner or _is_below(path, inner)
        for call in calls[modules[-1]]:
            name = f"{path}.{call.name}" if path else call.name
            places.append(_make_place(name, call.kind, call, modules, is_inner))
    order = {path: number for number, (path, _) in enumerate(model.named_modules(remove_duplicate=False))}
    return sorted(places, key=lambda place: order.get(place.path, order[place.parent_path]))


def list_parents(path: str) -> Iterator[str]:
    """Yield a path and the paths above it, without the model itself."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _is_below(path: str, paths: set[str]) -> bool:
    return not paths.isdisjoint(list_parents(path.rpartition(".")[0]))


def _make_place(
    path: str,
    kind: Kind | None,
    target: Site | Call | None,
    parents: tuple[nn.Module, ...],
    is_inner: bool = False,
) -> Place:
    assert kind is not None
    problem = ""
    if isinstance(target, Call):
        code, problem = f"{kind.text}, {target.where}", target.problem
    else:
        value = parents[-1] if target is None else target.value
        code = _describe_module(value) if isinstance(value, nn.Module) and kind.name else kind.text
        problem = _SCRIPTED if target and isinstance(target.owner, torch.jit.ScriptModule) else ""
    depth = len(path.split(".")) if path else 0
    facts = {"kind": kind, "target": target, "parents": parents, "is_inner": is_inner, "problem": problem}
    return Place(path, kind.name or "", code, depth, **facts)  # type: ignore[arg-type]


def _describe_module(module: nn.Module) -> str:
    name = module.original_name if isinstance(module, torch.jit.ScriptModule) else type(module).__name__
    return f"{name}({module.extra_repr()})"
