"""The mapping from names to activations: actlab's, and those of other installed packages."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from actlab.activation.definition import Activation
from actlab.errors import CatalogueWarning, summarize_error

GROUP = "actlab.activations"


def find_definitions(module: ModuleType) -> dict[str, Activation[Any]]:
    """Return the definitions of a module by name, the first if a name occurs twice."""
    definitions: dict[str, Activation[Any]] = {}
    for value in vars(module).values():
        if isinstance(value, Activation):
            definitions.setdefault(value.name, value)
    return definitions


class Catalogue(Mapping[str, Activation[Any]]):
    """Every activation by name: actlab's own, and those of the entry-point group ``actlab.activations``.

    Other packages are imported the first time that all names are listed, or that a name is used that actlab
    does not define. A :class:`CatalogueWarning` reports a package that cannot be imported, or a name that
    already exists.

    Args:
        own: actlab's definitions.
    """

    def __init__(self, own: Mapping[str, Activation[Any]]) -> None:
        self._all = dict(own)
        self._own = frozenset(own)
        self._complete = False
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> Activation[Any]:
        return self._all[name] if name in self._own else self._load_all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load_all())

    def __len__(self) -> int:
        return len(self._load_all())

    def __repr__(self) -> str:
        return f"<{len(self)} activations: {', '.join(self)}>"

    def _load_all(self) -> dict[str, Activation[Any]]:
        with self._lock:
            if not self._complete:
                self._complete = True  # set first: an imported package may use the catalogue itself
                for point in entry_points(group=GROUP):
                    self._add(point)
        return self._all

    def _add(self, point: EntryPoint) -> None:
        try:
            definitions = _load(point)
        except (Exception, SystemExit) as error:
            _warn(point, f"cannot be used: {summarize_error(error)}")
            return
        for name, activation in definitions.items():
            if self._all.setdefault(name, activation) is not activation:
                _warn(point, f"defines {name!r}, which already exists")


def _load(point: EntryPoint) -> dict[str, Activation[Any]]:
    value = point.load()
    if isinstance(value, Activation):
        return {value.name: value}
    if not isinstance(value, ModuleType):
        raise TypeError(f"it is of type {type(value).__name__}, not a module or an Activation")
    definitions = find_definitions(value)
    if not definitions:
        raise TypeError("the module defines no Activation")
    return definitions


def _warn(point: EntryPoint, problem: str) -> None:
    package = point.dist.name if point.dist else "?"
    warnings.warn(f"package {package}: {GROUP} {point.value} {problem}", CatalogueWarning, stacklevel=5)
