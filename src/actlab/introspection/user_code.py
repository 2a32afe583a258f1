"""Find out which code is the user's own, and which variables and source it has."""

from __future__ import annotations

import contextlib
import dis
import functools
import importlib
import importlib.util
import inspect
import os
import site
import sys
import sysconfig
from collections import deque
from collections.abc import Mapping
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import (
    CodeType,
    FunctionType,
    ModuleType,
)
from typing import Any

import torch

import actlab
from actlab.activation.definition import Activation

Definition = type | FunctionType | ModuleType | Activation[Any]
HEAP_TYPE = 1 << 9  # the flag of a class that a class statement made
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


def find_library(module: str) -> str | None:
    """Return which library a module belongs to.

    Args:
        module: The module's name.

    Returns:
        The distribution with its version; an empty string for Python, torch and actlab; None for other code,
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
    """Return which library a file belongs to, in the form that :func:`find_library` returns."""
    path, paths = Path(file).resolve(), sysconfig.get_paths()
    folders = [paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]
    python = [paths["stdlib"], paths["platstdlib"]]
    if any(path.is_relative_to(_get_folder(module)) for module in (actlab, torch)):
        return ""
    for folder in map(os.path.realpath, folders):
        if path.is_relative_to(folder):
            package = path.relative_to(folder).parts[0].partition(".")[0]
            names = set(_read_distributions().get(package) or packages_distributions().get(package, []))
            return ", ".join(f"{name} {version(name)}" for name in sorted(names)) or None
    return "" if any(path.is_relative_to(os.path.realpath(folder)) for folder in python) else None


# It reads the files of all distributions for half a second. One that was installed later is not in it.
_read_distributions = functools.cache(packages_distributions)


def _get_folder(module: ModuleType) -> str:
    return os.path.realpath(os.path.dirname(str(module.__file__)))


def find_library_name(code: Definition) -> str | None:
    """Return ``"module:name"`` for code that a library provides under that name; None for other code."""
    if isinstance(code, ModuleType):
        return None if find_library(code.__name__) is None else code.__name__
    if isinstance(code, Activation):
        return find_name_in_library(code, code.__wrapped__.__module__, code.name)
    if isinstance(code, FunctionType) and is_user_code(code):
        return None  # functools.wraps may give it a library's name
    if name := find_name_in_library(code, code.__module__, code.__qualname__):
        return name
    is_made_in_c = isinstance(code, type) and not code.__flags__ & HEAP_TYPE
    if is_made_in_c and find_library(code.__module__) is not None:
        return f"{code.__module__}:{code.__qualname__}"  # in no module, such as dict_keys
    return None


def find_name_in_library(value: object, module: object, name: str) -> str | None:
    """Return ``"module:name"`` if a library's module holds a value under a name; None otherwise."""
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
    """Return the source of a function, even of one that another process has sent.

    Sources of functions that cannot be imported are added to :data:`unimportable_sources`.

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
    """Return the variables that code stores or uses, by kind and name.

    For a library's code, return only the user's own methods that replace the library's.
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
