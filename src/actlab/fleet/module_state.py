"""Compare the state of a network outside of its parameters and buffers before and after training."""

from __future__ import annotations

import pickle
import random
from collections import deque
from typing import Any

import numpy as np
from torch import nn

from actlab.introspection.user_code import Definition, collect_variables, find_library_name
from actlab.introspection.value_description import ValueDescriber

_MAX_VALUES, _MAX_DEPTH = 20_000, 40  # limits of one snapshot
_BARE_ATTRIBUTES = frozenset(vars(nn.Module()))  # attributes of every module, usually empty
# _describe_layout compares parameters, buffers and modules; the others are caches of torch.
_NOT_COMPARED = frozenset(
    "training _parameters _buffers _modules _compiled_call_impl _flat_weights _flat_weight_refs".split()
)
_REQUIREMENT = "a fleet stores only the parameters and buffers of each network"

Snapshot = dict[tuple[str, str, int], Any]  # by owner, name, and id of the owner if it is code


class StateChanged(Exception):
    """Raised if a network changed state that a fleet does not store for each network."""


class StateWatch:
    """Finds changes of the state of a module, except for the values of its parameters and buffers.

    A snapshot contains the attributes of the module and of its submodules, and the variables that their code
    uses: class attributes, closures and global variables. It does not contain the code of torch and of
    installed packages.

    Args:
        module: The module before it is called.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parts = [
            (f"{name} ({type(part).__name__})" if name else type(part).__name__, part)
            for name, part in module.named_modules()
        ]
        self.registered = {id(part) for part in (*module.modules(), *module.parameters(), *module.buffers())}
        self.libraries: dict[int, tuple[object, bool]] = {}  # code, and whether a package holds it
        self.before = self._snapshot()

    def find_change(self) -> str:
        """Return a change since the construction as a sentence; an empty string if there is none."""
        now = self._snapshot()
        if now == self.before:
            return ""
        keys = {**self.before, **now}
        owner, name, code = next(key for key in keys if now.get(key) != self.before.get(key))
        kind = "variable" if code else "attribute"
        what = f"the {kind} {name!r}" if name else "the layers, parameters or buffers"
        return f"the network changes {what} of {owner} while it trains; {_REQUIREMENT}"

    def _snapshot(self) -> Snapshot:
        walk = _StateDescriber(self.registered, self.libraries)
        snapshot: Snapshot = {}
        for owner, part in self.parts:
            walk.make_reference(type(part), "")
            snapshot[owner, "", 0] = _describe_layout(part)
            for name, value in vars(part).items():
                if name not in _NOT_COMPARED and not (name in _BARE_ATTRIBUTES and not value):
                    snapshot[owner, name, 0] = walk.describe(value, "")
        return {**snapshot, **walk.describe_variables()}


def _describe_layout(module: nn.Module) -> Any:
    """Return the submodules, parameters and buffers of a module, without their values."""
    return (
        id(type(module)),
        [(name, id(p), p is not None and p.requires_grad) for name, p in module._parameters.items()],
        [(name, b is not None and (b.shape, b.dtype)) for name, b in module._buffers.items()],
        [(name, id(part)) for name, part in module._modules.items()],
    )


class _StateDescriber(ValueDescriber):
    """Describe state by its values, and code by its identity."""

    def __init__(self, registered: set[int], libraries: dict[int, tuple[object, bool]]) -> None:
        super().__init__()
        self.registered, self.libraries = registered, libraries
        self.codes: set[int] = set()
        self.pending: deque[Definition] = deque()
        self.values_left, self.depth = _MAX_VALUES, 0

    def make_reference(self, code: Definition, path: str) -> str:
        """Return the id of code; :meth:`describe_variables` describes the variables of the user's code."""
        if id(code) not in self.libraries:
            self.libraries[id(code)] = code, find_library_name(code) is not None
        if id(code) not in self.codes and not self.libraries[id(code)][1]:
            self.pending.append(code)
        self.codes.add(id(code))
        return str(id(code))

    def describe_variables(self) -> Snapshot:
        """Describe the variables of all code that was referred to."""
        snapshot: Snapshot = {}
        while self.pending:
            code = self.pending.popleft()
            owner = str(getattr(code, "__qualname__", ""))
            for values in collect_variables(code).values():
                for name, value in values.items():
                    snapshot[owner, name, id(code)] = self.describe(value, "")
        return snapshot

    def describe(self, value: Any, path: str) -> Any:
        """Describe a value, up to a number of values and a depth."""
        kind = type(value)
        self.values_left -= 1
        length = len(value) if isinstance(value, list | tuple | dict | set | frozenset | deque) else 0
        if self.depth > _MAX_DEPTH or self.values_left < length:
            return {"object": kind.__name__, "length": length}
        self.depth += 1
        try:
            return super().describe(value, path)
        except Exception:  # it cannot be described, such as a lock
            return {"object": id(value)}
        finally:
            self.depth -= 1

    def describe_parts(self, value: Any, path: str) -> Any:
        """Describe the parts of a value that is neither registered in the network nor a cache of torch."""
        is_cache = type(value).__module__.startswith("torch._") and not isinstance(value, nn.Module)
        if id(value) in self.registered or is_cache:
            return {"object": id(value)}
        return super().describe_parts(value, path)


def read_random_state() -> tuple[Any, ...]:
    """Return the state of Python's and NumPy's global random generators."""
    return random.getstate(), pickle.dumps(np.random.get_state(legacy=False))
