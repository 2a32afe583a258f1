"""Describe values as JSON. Two descriptions are equal only if the values behave alike."""

from __future__ import annotations

import contextlib
import copyreg
import functools
import hashlib
import json
import logging
import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from types import (
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from actlab.activation.definition import Activation
from actlab.introspection.user_code import HEAP_TYPE, Definition, find_name_in_library
from actlab.spec import ResolvedActivation

_DEFINITIONS = (type, FunctionType, ModuleType, Activation)
_BARE_MODULE = vars(nn.Module())  # the attributes of every module
_HASHED_BY_ADDRESS: tuple[Any, ...] = (None, object.__hash__)
# Objects that a short text describes: a handle belongs to a hook, and a logger changes no result.
_TEXTS: dict[type, Any] = {
    PurePath: lambda path: path.as_posix(),
    logging.Logger: lambda logger: logger.name,
    RemovableHandle: lambda handle: "",
}
_PARTS: dict[type, tuple[str, ...]] = {
    MethodType: ("__func__", "__self__"),
    ResolvedActivation: ("source",),  # the module that a spec names is described where it is built
    functools.partial: ("func", "args", "keywords", "__dict__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),  # in Python 3.11 it has a lock
    type(functools.lru_cache(len)): ("__wrapped__",),
    GetSetDescriptorType: ("__objclass__", "__name__"),
    MemberDescriptorType: ("__objclass__", "__name__"),
}


class Indescribable(TypeError):
    """A value that cannot be described completely. The message names the attribute."""


class ValueDescriber(ABC):
    """Describe values as JSON. Cycles and shared parts refer to the path where they occurred first."""

    def __init__(self) -> None:
        self.visited: dict[int, tuple[object, str]] = {}  # holds the values: Python reuses ids
        self.storages: dict[int, str] = {}

    @abstractmethod
    def make_reference(self, code: Definition, path: str) -> str:
        """Return the text that stands for a class, function, module or activation."""

    def describe(self, value: Any, path: str) -> Any:
        """Describe a value.

        Args:
            value: A value.
            path: Its name in error messages.

        Raises:
            Indescribable: A part of it cannot be described, such as a generator or an open file.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind in (bytes, bytearray):
            return {kind.__name__: hashlib.sha256(value).hexdigest()}
        if kind is tuple:
            return [self.describe(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, _DEFINITIONS):
            return {"code": self.make_reference(value, path)}
        if kind in (set, frozenset):
            return {kind.__name__: self._describe_set(value, path)}
        for base, text_of in _TEXTS.items():
            if isinstance(value, base):
                return {base.__name__: text_of(value)}
        if kind.__hash__ in _HASHED_BY_ADDRESS or isinstance(value, Tensor | nn.Module):
            if id(value) in self.visited:
                return {"same": self.visited[id(value)][1]}
            self.visited[id(value)] = value, path
        return self.describe_parts(value, path)

    def describe_named(self, values: Mapping[str, object], path: str) -> dict[str, Any]:
        """Describe values with names, such as attributes. Their order does not matter."""
        if not all(type(name) is str for name in values):
            raise Indescribable(f"cannot describe {path}: the name of an attribute is not a str")
        return {name: self.describe(values[name], f"{path}.{name}") for name in sorted(values)}

    def describe_parts(self, value: Any, path: str) -> Any:
        """Describe a value that has parts and was not visited before."""
        kind = type(value)
        if kind is list:
            return {"list": self.describe(tuple(value), path)}
        if kind in (dict, MappingProxyType):
            return self._describe_dict(value, path)
        if isinstance(value, Tensor):
            return self._describe_tensor(value, path)
        if kind is np.ndarray:
            content = value.tolist() if value.dtype.hasobject else hash_array(value)
            description = {"shape": list(value.shape), "dtype": str(value.dtype)}
            return {"array": self.describe(content, path), **description}
        if kind is weakref.ref:
            return {"weak": self.describe(value(), path)}
        if kind in _PARTS:
            parts = {name: getattr(value, name) for name in _PARTS[kind]}
            return {kind.__name__: self.describe_named(parts, path)}
        return self._describe_object(value, path)

    def _describe_dict(self, value: Mapping[Any, Any], path: str) -> Any:
        """Describe a mapping with its order, which a loop over it observes."""
        if not all(type(key) is str for key in value):
            return {"items": self.describe(tuple(value.items()), path)}
        return {"dict": [[key, self.describe(item, f"{path}[{key!r}]")] for key, item in value.items()]}

    def _describe_set(self, value: Iterable[Any], path: str) -> list[Any]:
        items = []
        for item in value:
            description = self.describe(item, f"an element of {path}")
            is_code = isinstance(description, dict) and "code" in description
            if item is not None and type(item).__hash__ in _HASHED_BY_ADDRESS and not is_code:
                self.refuse(item, f"an element of {path}")  # its position differs between processes
            items.append(description)
        return sorted(items, key=to_json)

    def _describe_tensor(self, value: Tensor, path: str) -> dict[str, Any]:
        description: dict[str, Any] = {
            "class": self.make_reference(type(value), path),
            "dtype": str(value.dtype).removeprefix("torch."),
            "requires_grad": value.requires_grad,
        }
        if is_lazy(value):
            return description
        if value.layout is not torch.strided or value.is_quantized or value.is_nested:
            self.refuse(value, path)
        description |= {"shape": list(value.shape), "stride": list(value.stride())}
        if not value.is_meta:
            plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
            description["sha256"] = hash_array(plain.reshape(-1).view(torch.uint8).numpy())
        if start := 0 if value.is_meta else value.untyped_storage().data_ptr():
            first = self.storages.setdefault(start, path)
            if first != path:  # a write into one tensor changes the other
                description["shares"] = [first, value.storage_offset()]
        hooks = [getattr(value, n, None) for n in ("_backward_hooks", "_post_accumulate_grad_hooks")]
        attributes = {**vars(value), "hooks": tuple(tuple(hook.values()) for hook in hooks if hook)}
        attributes = {name: attribute for name, attribute in attributes.items() if attribute}
        return {**description, "attributes": self.describe_named(attributes, path)}

    def _describe_object(self, value: Any, path: str) -> Any:
        """Describe any other object by its class and its attributes, or else as pickle would store it."""
        kind = type(value)
        reduce = copyreg.dispatch_table.get(kind)
        attributes = None if reduce else _collect_attributes(value)
        if attributes is not None:
            reference = self.make_reference(kind, path)
            return {"class": reference, "attributes": self.describe_named(attributes, path)}
        try:
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:
            self.refuse(value, path)
        if isinstance(reduced, str):
            for module in (getattr(value, "__module__", None), kind.__module__):
                if name := find_name_in_library(value, module, reduced.removeprefix(f"{module}.")):
                    return {"code": name}
            self.refuse(value, path)
        maker, arguments, state, items, pairs = (*reduced, None, None, None, None)[:5]
        parts = {"maker": maker, "arguments": arguments, "state": state}
        parts |= {
            name: tuple(part) for name, part in (("items", items), ("pairs", pairs)) if part is not None
        }
        return {"class": self.make_reference(kind, path), "pickled": self.describe_named(parts, path)}

    def refuse(self, value: object, path: str) -> NoReturn:
        """Raise Indescribable for a value."""
        name = type(value).__name__
        article = "an" if name[0].lower() in "aeiou" else "a"
        raise Indescribable(f"cannot describe {path}, {article} {name}")


def _collect_attributes(value: Any) -> dict[str, Any] | None:
    """Return all attributes of an object; None if its class may hold state in C."""
    kind = type(value)
    for base in kind.__mro__:  # a class that a class statement made has no __new__ in C
        if not base.__flags__ & HEAP_TYPE or getattr(base.__new__, "__self__", None) is base:
            break
    slots = [s for part in kind.__mro__ for s in vars(part).values() if isinstance(s, MemberDescriptorType)]
    attributes = getattr(value, "__dict__", None)
    if base is not object or (attributes is None and not slots):
        return None
    attributes = _collect_module_attributes(value) if isinstance(value, nn.Module) else dict(attributes or {})
    for slot in slots:
        with contextlib.suppress(AttributeError):  # an empty slot
            attributes[slot.__name__] = slot.__get__(value)
    return attributes


def _collect_module_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that differ from those of a bare module, except for its mode."""
    bare, values = _BARE_MODULE, vars(module)
    attributes = {n: v for n, v in values.items() if n not in bare or (n != "training" and v != bare[n])}
    hooks = {name: value for name, value in attributes.items() if name in bare and "_hooks" in name}
    keys = sorted({key for value in hooks.values() for key in value})  # these count all hooks of the process
    ranked = {n: {keys.index(key): hook for key, hook in value.items()} for n, value in hooks.items()}
    return {**attributes, **ranked}


def hash_array(array: npt.NDArray[Any]) -> str:
    """Return the SHA-256 of an array's values in C order."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def to_json(description: Any) -> str:
    """Return a description as canonical JSON."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
