"""The mapping of all names: actlab's definitions, and what other installed packages offer."""

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


def defined_in(module: ModuleType) -> dict[str, Activation[Any]]:
    """Return the definitions of a module by name; a name that it has twice is the first."""
    found: dict[str, Activation[Any]] = {}
    for value in vars(module).values():
        if isinstance(value, Activation):
            found.setdefault(value.name, value)
    return found


class Catalogue(Mapping[str, Activation[Any]]):
    """Every activation by name: actlab's own, and those of the entry-point group ``actlab.activations``.

    Other packages are imported when a name is asked for that actlab does not define, or all names are. One
    that cannot be, or that offers a name which is taken, is left out with a :class:`CatalogueWarning`.

    Args:
        own: What actlab defines.
    """

    def __init__(self, own: Mapping[str, Activation[Any]]) -> None:
        self._all = dict(own)
        self._own = frozenset(own)
        self._complete = False
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> Activation[Any]:
        return self._all[name] if name in self._own else self._completed()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._completed())

    def __len__(self) -> int:
        return len(self._completed())

    def __repr__(self) -> str:
        return f"<{len(self)} activations: {', '.join(self)}>"

    def _completed(self) -> dict[str, Activation[Any]]:
        with self._lock:
            if not self._complete:
                self._complete = True  # before: a package that is imported may ask for names itself
                for point in entry_points(group=GROUP):
                    self._take(point)
        return self._all

    def _take(self, point: EntryPoint) -> None:
        try:
            offered = _offered(point)
        except (Exception, SystemExit) as error:
            _warn(point, f"cannot be used: {summarize_error(error)}")
            return
        for name, activation in offered.items():
            if self._all.setdefault(name, activation) is not activation:
                _warn(point, f"offers {name!r}, a name that is taken")


def _offered(point: EntryPoint) -> dict[str, Activation[Any]]:
    value = point.load()
    if isinstance(value, Activation):
        return {value.name: value}
    if not isinstance(value, ModuleType):
        raise TypeError(f"it is of type {type(value).__name__}, not a module or an Activation")
    offered = defined_in(value)
    if not offered:
        raise TypeError("the module defines no Activation")
    return offered


def _warn(point: EntryPoint, problem: str) -> None:
    package = point.dist.name if point.dist else "?"
    warnings.warn(f"package {package}: {GROUP} {point.value} {problem}", CatalogueWarning, stacklevel=5)
