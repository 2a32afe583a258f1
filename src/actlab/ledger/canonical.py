"""A value as a description of what it is and does, that can be compared, kept and read.

Two descriptions are equal only where their values do the same; where that is not certain they differ.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import hashlib
import json
import logging
import math
import sys
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType, MethodType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from actlab.ledger import code_hash
from actlab.spec import ResolvedActivation

_BARE = vars(nn.Module())  # what every module has
_BY_ADDRESS: tuple[Any, ...] = (None, object.__hash__)  # how values hash that are told apart by their address
_CACHE: type = type(functools.lru_cache(len))


class Indescribable(TypeError):
    """Something that takes part in a training, and nothing says what it will do; the message says where."""


def describe(value: object, name: str = "value") -> Any:
    """Describe a value by what it is and does: no address, no order of a set, no path of a source.

    Code of a library is its name, and a person's own is its bytecode with all that it refers to, down to
    constants. Descriptions of two values are equal only if they do the same.

    Args:
        value: A value.
        name: What errors call it.

    Returns:
        What JSON has: None, bool, int, finite float, str, list, and dict with text for keys.

    Raises:
        Indescribable: It has a part that cannot be looked into, such as a generator or an open file.

    Examples:
        >>> describe((1, 2.5, "relu"))
        [1, 2.5, 'relu']
        >>> describe({"p": float("inf")})
        {'dict': {'p': {'float': 'inf'}}}
        >>> describe(nn.ReLU)
        {'code': 'torch.nn.modules.activation:ReLU'}
    """
    return described(lambda walk: walk.describe(value, name))


def digest(description: Any) -> str:
    """Return the SHA-256 of a description, in 64 hexadecimal digits.

    Examples:
        >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
        True
    """
    return hashlib.sha256(text(description).encode()).hexdigest()


def described(walking: Callable[[Walk], Any]) -> Any:
    """Return what a walk describes, with the code that it met on its way."""
    walk = Walk()
    try:
        found = walking(walk)
        code = walk.finish()
    except RecursionError:
        raise Indescribable("cannot tell what decides a training: it is nested too deeply") from None
    if not code:
        return found
    whole = {"is": found, "code": code}
    if any("code" in entry for entry in code.values()):  # bytecode
        whole["python"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    return whole


class Walk:
    """One walk through values: what was met before is told by where that was, and ends cycles.

    That a part is shared belongs to the description: one parameter in two layers is not two parameters.
    """

    def __init__(self) -> None:
        self.met: dict[int, tuple[object, str]] = {}  # the values too: an id is free when its value has gone
        self.storages: dict[int, str] = {}
        self.names: dict[int, tuple[object, str]] = {}
        self.taken: Counter[str] = Counter()
        self.pending: deque[tuple[str, Any]] = deque()

    def finish(self) -> dict[str, Any]:
        """Return the definitions that were referred to, and those that these refer to, by name."""
        code: dict[str, Any] = {}
        while self.pending:
            name, value = self.pending.popleft()
            entry: dict[str, Any] = {}
            for part, found in code_hash.parts(value).items():
                if isinstance(found, Mapping):
                    entry[part] = self.named(found, name)
                elif isinstance(found, tuple):
                    entry[part] = [self.describe(item, f"{name}'s {part}") for item in found]
                else:
                    entry[part] = found
            if entry:
                code[name] = entry
        return code

    def reference(self, value: Any, path: str) -> str:
        """Return the name of a definition, which :meth:`finish` will look into."""
        if id(value) not in self.names:
            if code_hash.is_compiled(value):
                self._refuse(value, path)
            name = code_hash.name_of(value)
            self.taken[name] += 1
            name = name if self.taken[name] == 1 else f"{name}#{self.taken[name]}"
            self.names[id(value)] = value, name
            self.pending.append((name, value))
        return self.names[id(value)][1]

    def named(self, values: Mapping[str, object], path: str) -> dict[str, Any]:
        """Describe values that have names; their order does not matter."""
        if not all(type(name) is str for name in values):
            raise Indescribable(f"cannot tell what decides a training: {path} has names that are no texts")
        return {name: self.describe(values[name], f"{path}.{name}") for name in sorted(values)}

    def describe(self, value: Any, path: str) -> Any:
        """Describe a value that is found under a path."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind in (bytes, bytearray):
            return {kind.__name__: hashlib.sha256(value).hexdigest(), "length": len(value)}
        if kind is tuple:
            return [self.describe(item, f"{path}[{place}]") for place, item in enumerate(value)]
        if isinstance(value, code_hash.KINDS):
            return {"code": self.reference(value, path)}
        if isinstance(value, MethodType):
            return {"method": self.describe(value.__func__, path), "of": self.describe(value.__self__, path)}
        if isinstance(value, ResolvedActivation):
            return value.spec  # the module that it builds is described where it is
        if isinstance(value, PurePath):
            return {"path": value.as_posix()}
        if isinstance(value, logging.Logger):
            return {"logger": value.name}  # what it tells people is no part of a training
        if isinstance(value, RemovableHandle):
            return {"handle": None}  # of a hook, which is described where it is
        if isinstance(value, Enum):
            own = self.describe(value.value, f"{path}.value")
            return {"enum": self.reference(kind, path), "name": str(value.name), "value": own}
        if isinstance(value, np.generic) and value.dtype.kind in "biufcmM":
            return {"scalar": value.dtype.str, "value": str(value)}
        if kind in (set, frozenset):
            return {kind.__name__: self._set(value, path)}
        if kind.__hash__ in _BY_ADDRESS or isinstance(value, Tensor | nn.Module):
            if id(value) in self.met:
                return {"same": self.met[id(value)][1]}
            self.met[id(value)] = value, path
        return self._first(value, path)

    def _first(self, value: Any, path: str) -> Any:
        """Describe what has parts, where it is met first."""
        kind = type(value)
        if kind is list:
            return {"list": self.describe(tuple(value), path)}
        if kind in (dict, MappingProxyType):
            return self._dict(value, path)
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if kind is np.ndarray:
            return self._array(value, path)
        if isinstance(value, nn.Module):
            return self._module(value, path)
        if kind is functools.partial:
            found = {"partial": self.describe(value.func, path), "args": self.describe(value.args, path)}
            found["keywords"] = self.named(value.keywords, path)
            return {**found, "has": self.named(vars(value), path)} if vars(value) else found
        if kind in (staticmethod, classmethod):
            return {kind.__name__: self.describe(value.__func__, path)}
        if kind is property:
            return {"property": self.describe((value.fget, value.fset, value.fdel), path)}
        if kind is functools.cached_property:  # in Python 3.11 it has a lock
            return {"cached_property": self.describe(value.func, path)}
        if kind is weakref.ref:
            return {"weak": self.describe(value(), path)}
        if kind is _CACHE:
            return {"cached": self.describe(value.__wrapped__, path)}
        if kind in (GetSetDescriptorType, MemberDescriptorType):
            return {"slot": value.__name__, "of": self.reference(value.__objclass__, path)}
        if isinstance(value, np.random.Generator):
            return {"random": self.describe(value.bit_generator.state, path)}
        if isinstance(value, np.random.RandomState):
            return {"random": self.describe(value.get_state(legacy=False), path)}
        if isinstance(value, torch.Generator):
            return {"random": str(value.device), "state": self.describe(value.get_state(), path)}
        return self._object(value, path)

    def _set(self, value: Iterable[Any], path: str) -> list[Any]:
        """Describe a set, whose order is that of descriptions: each is made as if there was no other."""
        found = []
        for item in value:
            own = describe(item, f"an element of {path}")
            bare = own.get("is", own) if isinstance(own, dict) else {"code": own}
            if type(item).__hash__ in _BY_ADDRESS and "code" not in bare:
                # The order of those that are told apart by their addresses is another tomorrow.
                self._refuse(item, f"an element of {path}")
            found.append(own)
        return sorted(found, key=text)

    def _dict(self, value: Mapping[Any, Any], path: str) -> Any:
        """Describe a mapping; its order counts, for a loop over it sees it."""
        if not all(type(key) is str for key in value):
            items = [(key, found) for key, found in value.items()]
            return {"items": [self.describe(item, f"{path}[{item[0]!r:.40}]") for item in items]}
        found = {"dict": {key: self.describe(item, f"{path}[{key!r}]") for key, item in value.items()}}
        return found if list(value) == sorted(value) else {**found, "order": list(value)}

    def _array(self, value: npt.NDArray[Any], path: str) -> Any:
        if value.dtype.hasobject:
            own = self.describe(tuple(value.ravel().tolist()), path)
            return {"array": own, "shape": list(value.shape), "dtype": str(value.dtype)}
        dtype = np.lib.format.dtype_to_descr(value.dtype)
        found = {"sha256": content(value), "shape": list(value.shape)}
        return {**found, "dtype": dtype if isinstance(dtype, str) else repr(dtype)}

    def _tensor(self, value: Tensor, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {"dtype": str(value.dtype).removeprefix("torch.")}
        if type(value) not in (Tensor, nn.Parameter):
            found["class"] = self.reference(type(value), path)
        if value.requires_grad is not isinstance(value, nn.Parameter):
            found["requires_grad"] = value.requires_grad
        if value.layout is not torch.strided or value.is_quantized or value.is_nested:
            self._refuse(value, path)
        found["kind"] = "parameter" if isinstance(value, nn.Parameter) else "tensor"
        if is_lazy(value):
            return {**found, "kind": "lazy"}
        found["shape"] = list(value.shape)
        if value.is_meta:
            return {**found, "kind": "meta"}
        plain = value.detach().resolve_conj().resolve_neg()
        found["sha256"] = content(plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        if not value.is_contiguous():
            found["strides"] = list(value.stride())
        if start := value.untyped_storage().data_ptr():
            first = self.storages.setdefault(start, path)
            if first != path:  # whoever writes into one writes into the other
                found["shares"] = [first, value.storage_offset(), list(value.stride())]
        hooks = [getattr(value, n, None) for n in ("_backward_hooks", "_post_accumulate_grad_hooks")]
        if any(hooks):
            own = tuple(tuple(hook.values()) if hook else () for hook in hooks)
            found["hooks"] = self.describe(own, f"{path}'s hooks")
        if own_names := vars(value):
            found["has"] = self.named(own_names, path)
        return found

    def _module(self, module: nn.Module, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {"class": self.reference(type(module), path)}
        own = {k: v for k, v in vars(module).items() if k not in _BARE or (k != "training" and v != _BARE[k])}
        hooks = {name: own.pop(name) for name in sorted(own) if name in _BARE and "_hooks" in name}
        for name in ("_parameters", "_buffers"):
            if mine := own.pop(name, None):
                found[name[1:]] = self._dict(mine, path)
        modules = own.pop("_modules", None)
        if own:
            found["attributes"] = self.named(own, path)
        if modules:
            found["modules"] = self._dict(modules, path)
        if hooks:  # under numbers that count all hooks of the process: only their order means something
            numbers = {
                key: n for n, key in enumerate(sorted({key for hook in hooks.values() for key in hook}))
            }
            ranked = {name: {numbers[k]: v for k, v in hook.items()} for name, hook in hooks.items()}
            found["hooks"] = self.named(ranked, f"{path}'s hooks")
        return found

    def _object(self, value: Any, path: str) -> Any:
        """Describe any other object by its class and its state."""
        kind = type(value)
        reduce = copyreg.dispatch_table.get(kind)
        state = _state(value) if reduce is None else None
        if state is not None:
            return {"class": self.reference(kind, path), "has": self.named(state, path)}
        try:  # how Python takes it apart: what has a hidden state and no answer refuses
            taken = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception:
            self._refuse(value, path)
        if isinstance(taken, str):
            for module in (getattr(value, "__module__", None), kind.__module__):
                if name := code_hash.known(value, module, taken.removeprefix(f"{module}.")):
                    return {"code": name}
            self._refuse(value, path)
        made, args, state, items, pairs = (*taken, None, None, None, None)[:5]
        found = {"class": self.reference(kind, path), "made": self.describe((made, args), path)}
        for name, part in (("state", state), ("items", items), ("pairs", pairs)):
            if part is not None:
                own = tuple(part) if name != "state" else part
                found[name] = self.describe(own, path)
        return found

    def _refuse(self, value: object, path: str) -> NoReturn:
        kind = type(value).__name__
        article = "an" if kind[0].lower() in "aeiou" else "a"
        raise Indescribable(f"cannot tell what decides a training: {path} is {article} {kind}")


def _state(value: Any) -> dict[str, Any] | None:
    """Return all attributes of an object that has nothing else; None where its class is made in C."""
    kind = type(value)
    for base in kind.__mro__:  # as copyreg finds it: a class that a class statement made has no own __new__
        new = base.__new__
        if not base.__flags__ & 1 << 9 or getattr(new, "__self__", None) is base:
            break
    own = getattr(value, "__dict__", None)
    slots = [
        slot
        for part in kind.__mro__
        for slot in vars(part).values()
        if isinstance(slot, MemberDescriptorType)
    ]
    if base is not object or (own is None and not slots):
        return None
    found = dict(own or {})
    for slot in slots:
        with contextlib.suppress(AttributeError):  # an empty one
            found[slot.__name__] = slot.__get__(value)
    return found


def content(array: npt.NDArray[Any]) -> str:
    """Return the SHA-256 of an array's numbers, whatever their order in memory."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def text(description: Any) -> str:
    """Return a description as canonical JSON."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
