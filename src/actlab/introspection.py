"""Describe what a value consists of, and which variables code uses.

:class:`ValueDescriber` describes a value as JSON. Two descriptions are equal only if the values behave alike.
:func:`collect_variables` returns the closures, defaults, globals and attributes that the user's code uses.
"""

from __future__ import annotations

import contextlib
import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import logging
import math
import os
import site
import sys
import sysconfig
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from importlib.metadata import packages_distributions, version
from pathlib import Path, PurePath
from types import (
    CodeType,
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

import actlab
from actlab.activation.definition import Activation
from actlab.spec import ResolvedActivation

Definition = type | FunctionType | ModuleType | Activation[Any]
_DEFINITIONS = (type, FunctionType, ModuleType, Activation)
_BARE_MODULE = vars(nn.Module())  # the attributes of every module
_HASHED_BY_ADDRESS: tuple[Any, ...] = (None, object.__hash__)
_HEAP_TYPE = 1 << 9  # the flag of a class that a class statement made
# Objects that a short text describes: a handle belongs to a hook, and a logger changes no result.
_TEXTS: dict[type, Any] = {
    PurePath: lambda path: path.as_posix(),
    logging.Logger: lambda logger: logger.name,
    RemovableHandle: lambda handle: "",
    ResolvedActivation: lambda activation: activation.spec,  # its module is described where it is built
}
_PARTS: dict[type, tuple[str, ...]] = {
    MethodType: ("__func__", "__self__"),
    functools.partial: ("func", "args", "keywords", "__dict__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),  # in Python 3.11 it has a lock
    type(functools.lru_cache(len)): ("__wrapped__",),
    GetSetDescriptorType: ("__objclass__", "__name__"),
    MemberDescriptorType: ("__objclass__", "__name__"),
}
# Attributes of classes that Python and torch derive from others, or use as caches.
_DERIVED_ATTRIBUTES = frozenset(
    "__dict__ __weakref__ __doc__ __module__ __qualname__ __firstlineno__ __static_attributes__ "
    "__annotations__ __annotate__ __annotate_func__ __annotations_cache__ __conditional_annotations__ "
    "__signature__ __orig_bases__ __parameters__ _abc_impl _backward_cls".split()
)
_COMPUTING_FACTS = ("saves", "inplace", "widen", "gated")  # the facts of an activation that its code uses

# Sources of functions that are pickled by value, which loses the name of their file. A process that sends
# such functions to another one sends this dictionary too.
unimportable_sources: dict[tuple[Any, ...], str] = {}


class Indescribable(TypeError):
    """A value that cannot be described completely. The message names the attribute."""


# -- values ---------------------------------------------------------------------------------------------


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
                if name := _find_name_in_library(value, module, reduced.removeprefix(f"{module}.")):
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
        if not base.__flags__ & _HEAP_TYPE or getattr(base.__new__, "__self__", None) is base:
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


# -- code -----------------------------------------------------------------------------------------------


def find_library(module: str) -> str | None:
    """Return which library a module belongs to.

    Args:
        module: The module's name.

    Returns:
        The distribution with its version; an empty text for Python, torch and actlab; None for other code,
        which is the user's own.
    """
    while module not in ("__main__", "__mp_main__", ""):
        loaded = sys.modules.get(module)
        file = getattr(loaded, "__file__", None)
        if isinstance(file, str) and os.path.isabs(file):
            return find_library_of_file(file)
        if getattr(getattr(loaded, "__spec__", None), "origin", None) in ("built-in", "frozen"):
            return ""
        module = module.rpartition(".")[0]  # a module in C may be part of one with a file
    return None


@functools.cache
def find_library_of_file(file: str) -> str | None:
    """Return which library a file belongs to, as :func:`find_library` does."""
    path, paths = Path(file).resolve(), sysconfig.get_paths()
    folders = [paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]
    python = [paths["stdlib"], paths["platstdlib"]]
    if any(path.is_relative_to(_get_folder(module)) for module in (actlab, torch)):
        return ""
    for folder in map(os.path.realpath, folders):
        if path.is_relative_to(folder):
            package = path.relative_to(folder).parts[0].partition(".")[0]
            names = sorted(set(packages_distributions().get(package, ())))
            return ", ".join(f"{name} {version(name)}" for name in names) or None
    return "" if any(path.is_relative_to(os.path.realpath(folder)) for folder in python) else None


def _get_folder(module: ModuleType) -> str:
    return os.path.realpath(os.path.dirname(str(module.__file__)))


def find_library_name(code: Definition) -> str | None:
    """Return ``"module:name"`` for code that a library holds under that name; None for other code."""
    if isinstance(code, ModuleType):
        return None if find_library(code.__name__) is None else code.__name__
    if isinstance(code, Activation):
        return _find_name_in_library(code, code.__wrapped__.__module__, code.name)
    if isinstance(code, FunctionType) and is_user_code(code):
        return None  # functools.wraps may give it a library's name
    if name := _find_name_in_library(code, code.__module__, code.__qualname__):
        return name
    is_made_in_c = isinstance(code, type) and not code.__flags__ & _HEAP_TYPE
    if is_made_in_c and find_library(code.__module__) is not None:
        return f"{code.__module__}:{code.__qualname__}"  # in no module, such as dict_keys
    return None


def _find_name_in_library(value: object, module: object, name: str) -> str | None:
    if not isinstance(module, str) or find_library(module) is None:
        return None
    try:  # import: the result must not depend on what has been imported
        held: object = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (AttributeError, ImportError):
        return None
    return f"{module}:{name}" if held is value else None


def is_user_code(function: FunctionType) -> bool:
    """Return whether a function's code is the user's own, whatever its name."""
    return find_library(str(function.__globals__.get("__name__", ""))) is None


def read_source(function: FunctionType) -> str:
    """Return the source of a function, also of one that another process has sent.

    Args:
        function: Any function.

    Raises:
        OSError: It has no source.
    """
    key = function.__qualname__, function.__code__.co_firstlineno, _make_code_key(function.__code__)
    try:
        source = inspect.getsource(function)
    except OSError:
        if key not in unimportable_sources:
            raise
        source = unimportable_sources[key]
    if function.__module__ == "__main__" or "<locals>" in function.__qualname__:
        unimportable_sources[key] = source
    return source


def _make_code_key(code: CodeType) -> tuple[Any, ...]:
    """Return what two compilations of the same source have in common, in whatever file."""
    constants = (_make_code_key(value) if isinstance(value, CodeType) else value for value in code.co_consts)
    return code.co_name, code.co_code, code.co_names, code.co_varnames, *constants


def collect_variables(code: Definition) -> dict[str, dict[str, Any]]:
    """Return the variables that code keeps or uses, by kind and name.

    A library's code has none, except for the user's own methods that replace a library's.
    """
    if isinstance(code, type) and find_library_name(code):
        return {"replaced": _collect_replaced_methods(code)}
    if isinstance(code, ModuleType) or find_library_name(code):
        return {}
    if isinstance(code, Activation):
        if code.made_of is not None:
            return {"formula": {"made_of": code.made_of}}
        facts = {name: getattr(code.facts, name) for name in _COMPUTING_FACTS}
        return {"formulas": vars(code.formulas), "facts": facts, "class": {"type": type(code)}}
    if isinstance(code, type):
        attributes = {name: value for name, value in vars(code).items() if name not in _DERIVED_ATTRIBUTES}
        metaclass = {} if type(code) is type else {"metaclass": type(code)}
        return {"class": {"bases": code.__bases__, **metaclass}, "attributes": attributes}
    defaults = {"positional": code.__defaults__, "keyword": code.__kwdefaults__}
    return {
        "defaults": {kind: values for kind, values in defaults.items() if values},
        "closure": _read_closure(code),
        "attributes": vars(code),
        "globals": _collect_globals(code) if is_user_code(code) else {},
    }


def _read_closure(function: FunctionType) -> dict[str, Any]:
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            values[name] = cell.cell_contents
    return values


def _collect_replaced_methods(kind: type) -> dict[str, Any]:
    return {
        f"{base.__name__}.{name}": value
        for base in kind.__mro__
        for name, value in list(vars(base).items())
        if isinstance(value, FunctionType) and is_user_code(value) and find_library_name(base)
    }


def _collect_globals(function: FunctionType) -> dict[str, Any]:
    """Return the global variables that a function reads, and what it uses of the user's own modules."""
    names, attributes, imports = _collect_names(function.__code__)
    namespace = function.__globals__
    values = {name: namespace[name] for name in names if name in namespace}
    for name in imports:
        if (module := _import_user_module(name, namespace)) is not None:
            values[f"import {name}"] = module
    queue, entered = deque(values.items()), set[object]()
    while queue:
        name, value = queue.popleft()
        if isinstance(value, ModuleType) and value not in entered and find_library_name(value) is None:
            entered.add(value)
            parts = {f"{name}.{part}": vars(value)[part] for part in attributes if part in vars(value)}
            values |= parts
            queue.extend(parts.items())
    return values


@functools.lru_cache(4096)
def _collect_names(code: CodeType) -> tuple[list[str], list[str], list[str]]:
    """Return the global variables of code and of the functions in it, its other names, and its imports."""
    names, attributes, imports = set[str](), set(code.co_names), set[str]()
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "EXTENDED_ARG")]
    for index, step in enumerate(steps):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
            names.add(step.argval)
        elif step.opname == "IMPORT_NAME":  # two constants come before it: the dots and the names
            module = "." * steps[index - 2].argval + step.argval
            imports |= {module, *(f"{module}.{name}" for name in steps[index - 1].argval or ())}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            for outer, inner in zip((names, attributes, imports), _collect_names(constant), strict=True):
                outer.update(inner)
    return sorted(names), sorted(attributes), sorted(imports)


def _import_user_module(name: str, namespace: Mapping[str, Any]) -> ModuleType | None:
    """Return a module of the user's own that code imports when it runs."""
    try:
        full = importlib.util.resolve_name(name, namespace.get("__package__"))
        top = importlib.util.find_spec(full.partition(".")[0])
        is_user_module = top is not None and (top.origin is None or find_library_of_file(top.origin) is None)
        return importlib.import_module(full) if is_user_module else None
    except Exception:  # an attribute, or a module that cannot be imported: it fails again when the code runs
        return None
