"""State that a network keeps beside its parameters and buffers, compared before and after training."""

from __future__ import annotations

import dis
import functools
import random
from collections import deque
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from actlab.activation.definition import Activation
from actlab.ledger import code_hash
from actlab.ledger.canonical import Walk, describe

_MOST, _DEEPEST = 20_000, 40  # values that one snapshot looks at, and how deep it follows them
_BARE = frozenset(vars(nn.Module()))  # attributes that every module has, and that are empty in most
# _layout compares what is registered; the others are caches of torch.
_NOT_COMPARED = frozenset(
    "training _parameters _buffers _modules _compiled_call_impl _flat_weights _flat_weight_refs".split()
)
_ONLY = "a fleet keeps only parameters and buffers for each network"

Snapshot = dict[tuple[str, str, int], Any]  # by owner, name, and identity of the owner if it is code


class StateChanged(Exception):
    """A network changed state that a fleet does not keep for each of its networks."""


class StateWatch:
    """Find out whether a module changes anything but the values of its parameters and buffers.

    A snapshot has the attributes of the module and of its submodules, and the variables that their code
    uses: class attributes, closures and global variables. Code of torch and of installed packages is left
    out.

    Args:
        module: The module as it is before it is called.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parts = [
            (f"{name} ({type(part).__name__})" if name else type(part).__name__, part)
            for name, part in module.named_modules()
        ]
        self.own = {id(part) for part in (*module.modules(), *module.parameters(), *module.buffers())}
        self.libraries: dict[int, tuple[object, bool]] = {}  # definitions, and whether a package has them
        self.before = self._snapshot()

    def change(self) -> str:
        """Return what has changed since the start as a sentence; an empty text if nothing has."""
        now = self._snapshot()
        if now == self.before:
            return ""
        owner, name, code = next(p for p in {**self.before, **now} if now.get(p) != self.before.get(p))
        kind = "variable" if code else "attribute"
        what = f"the {kind} {name!r}" if name else "the layers, parameters or buffers"
        return f"the network changes {what} of {owner} while it trains; {_ONLY}"

    def _snapshot(self) -> Snapshot:
        walk = _StateWalk(self.own, self.libraries)
        found: Snapshot = {}
        for owner, part in self.parts:
            walk.reference(type(part), "")
            found[owner, "", 0] = _layout(part)
            for name, value in vars(part).items():
                if name not in _NOT_COMPARED and not (name in _BARE and not value):
                    found[owner, name, 0] = walk.describe(value, "")
        return {**found, **walk.variables()}


def _layout(module: nn.Module) -> Any:
    """Return which layers, parameters and buffers a module has, without their values."""
    return (
        id(type(module)),
        [(name, id(p), p is not None and p.requires_grad) for name, p in module._parameters.items()],
        [(name, b is not None and (b.shape, b.dtype)) for name, b in module._buffers.items()],
        [(name, id(part)) for name, part in module._modules.items()],
    )


class _StateWalk(Walk):
    """Describe state by its values, and code by its identity."""

    def __init__(self, own: set[int], libraries: dict[int, tuple[object, bool]]) -> None:
        super().__init__()
        self.own, self.libraries = own, libraries
        self.left, self.depth = _MOST, 0

    def reference(self, value: Any, path: str) -> str:
        """Return the identity of a definition; its variables are compared too unless a package has it."""
        if id(value) not in self.names:
            self.names[id(value)] = value, ""
            if id(value) not in self.libraries:
                self.libraries[id(value)] = value, code_hash.by_name(value) is not None
            if not self.libraries[id(value)][1]:
                self.pending.append(("", value))
        return str(id(value))

    def variables(self) -> Snapshot:
        """Return the variables of all code that was met."""
        found: Snapshot = {}
        while self.pending:
            _, code = self.pending.popleft()
            owner = str(getattr(code, "__qualname__", ""))
            for name, value in _variables(code):
                found[owner, name, id(code)] = self.describe(value, "")
        return found

    def describe(self, value: Any, path: str) -> Any:
        """Describe a value, up to a number of values and a depth."""
        kind = type(value)
        self.left -= 1
        sized = isinstance(value, list | tuple | dict | set | frozenset | deque)
        if self.depth > _DEEPEST or self.left < (len(value) if sized else 0):
            return {"object": kind.__name__, "length": len(value) if sized else 0}
        self.depth += 1
        try:
            return super().describe(value, path)
        except Exception:  # what nothing can look into, such as a lock, is told by its identity
            return {"object": id(value)}
        finally:
            self.depth -= 1

    def _tensor(self, value: Tensor, path: str) -> dict[str, Any]:
        return {"own": id(value)} if id(value) in self.own else super()._tensor(value, path)

    def _module(self, module: nn.Module, path: str) -> dict[str, Any]:
        return {"own": id(module)} if id(module) in self.own else super()._module(module, path)

    def _object(self, value: Any, path: str) -> Any:
        if type(value).__module__.startswith("torch._"):  # caches of the compiler, for example
            return {"object": id(value)}
        return super()._object(value, path)


def _variables(code: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables that code keeps or uses, by their names."""
    if isinstance(code, Activation):
        yield from vars(code.formulas).items()
    elif isinstance(code, type):
        yield "bases", code.__bases__
        yield from ((name, value) for name, value in vars(code).items() if name not in code_hash._NOTED)
    elif isinstance(code, FunctionType):
        yield "defaults", (code.__defaults__, code.__kwdefaults__)
        yield from vars(code).items()
        for name, cell in zip(code.__code__.co_freevars, code.__closure__ or (), strict=True):
            if code_hash._is_filled(cell):
                yield name, cell.cell_contents
        if code_hash._is_own(code):
            yield from _globals(code.__code__, code.__globals__)


def _globals(code: CodeType, namespace: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    names, attributes = _names(code)
    for name in names:
        value = namespace.get(name)
        if not isinstance(value, ModuleType):
            yield name, value
        elif code_hash.by_name(value) is None:
            yield from ((part, vars(value).get(part)) for part in attributes)


@functools.lru_cache(4096)
def _names(code: CodeType) -> tuple[list[str], list[str]]:
    """Return the global variables of code and of the functions inside it, and its other names."""
    names, attributes = set[str](), set(code.co_names)
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
            names.add(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_names(constant)[0])
            attributes.update(_names(constant)[1])
    return sorted(names), sorted(attributes)


def random_state() -> list[Any]:
    """Return the state of Python's and NumPy's global random generators."""
    return [describe(random.getstate()), describe(np.random.get_state(legacy=False))]
