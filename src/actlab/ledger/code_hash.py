"""What code is: of a library, a name and a version; of a person, its bytecode and whatever it refers to.

Bytecode and not source: it is what runs, even where a file was edited after its import or a cell was run
twice, and it knows neither comments nor lines nor files.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch

import actlab
from actlab.activation.definition import Activation

Definition = type | FunctionType | ModuleType | Activation[Any]
KINDS = (type, FunctionType, ModuleType, Activation)

_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_FILLING = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "PUSH_NULL"})
# What Python and torch note in a class: where it stands, what is derived from the rest, and counters.
_NOTED = frozenset(
    "__dict__ __weakref__ __module__ __qualname__ __firstlineno__ __static_attributes__ __annotations__ "
    "__annotate__ __annotate_func__ __annotations_cache__ __conditional_annotations__ __signature__ "
    "__orig_bases__ __parameters__ _abc_impl _backward_cls".split()
)
# What is known about a function decides nothing; how it is computed does.
_KNOWLEDGE = frozenset(
    "formula limits slopes range monotonic paper kinks torch_equivalent error_scale example".split()
)
_OPERATIONS = frozenset({"torch.ops.aten", "torch.ops.prims"})
_DERIVED = frozenset(
    "name __doc__ __wrapped__ __signature__ facts formulas module_class parameters defaults _incomplete "
    "_nodes".split()
)


# -- whose code it is ------------------------------------------------------------------------------


def origin(name: str) -> str | None:
    """Return where the code of a module comes from.

    Args:
        name: The module's name.

    Returns:
        None for a person's own; a text with name and version of its distribution; and an empty text for
        Python, torch and actlab, whose versions are known otherwise.
    """
    while name not in ("__main__", "__mp_main__"):
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and os.path.isabs(file):
            return _origin_of_file(file)
        if getattr(getattr(module, "__spec__", None), "origin", None) in ("built-in", "frozen"):
            return ""
        name = name.rpartition(".")[0]  # one without a file is a part of a compiled one, such as torch._C._nn
        if not name:
            break
    return None


@functools.cache
def _origin_of_file(file: str) -> str | None:
    path = Path(os.path.realpath(file))
    if any(path.is_relative_to(_folder(os.path.dirname(ours))) for ours in (actlab.__file__, torch.__file__)):
        return ""
    paths = sysconfig.get_paths()
    for place in (paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()):
        if path.is_relative_to(_folder(place)):
            return _distributed(path.relative_to(_folder(place)).parts[0].partition(".")[0])
    python = (paths["stdlib"], paths["platstdlib"])
    return "" if any(path.is_relative_to(_folder(place)) for place in python) else None


@functools.cache
def _folder(place: str) -> str:
    return os.path.realpath(place)


@functools.cache
def _distributed(package: str) -> str | None:
    """Return the distributions of an installed package; None when it belongs to none."""
    found = sorted(set(_packages().get(package, ())))
    return ", ".join(f"{name} {_version(name, package)}" for name in found) or None


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    return packages_distributions()


def _version(name: str, package: str) -> str:
    """Return a version and a hash of the files: what has changed may be installed under the same version."""
    found = distribution(name)
    files = [f for f in found.files or () if f.hash is not None and f.parts[0].partition(".")[0] == package]
    if not files:
        return found.version
    text = "\n".join(sorted(f"{file.as_posix()} {file.hash.value}" for file in files if file.hash))
    return f"{found.version} ({hashlib.sha256(text.encode()).hexdigest()[:16]})"


def known(value: object, module: object, name: str) -> str | None:
    """Return ``"module:name"`` if a library has the value under that name; None otherwise."""
    if not isinstance(module, str) or origin(module) is None:
        return None
    try:
        # What actlab.nn has is made elsewhere, and the answer must not depend on who has imported what.
        found: object = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (AttributeError, ImportError):
        return None
    return f"{module}:{name}" if found is value else None


def by_name(value: Definition) -> str | None:
    """Return the name of a library's definition; None for what has to be looked into."""
    if isinstance(value, ModuleType):
        name = value.__name__  # what a person registers is in torch.ops too
        is_own = origin(name) is None or (name.startswith("torch.ops.") and name not in _OPERATIONS)
        return None if is_own else name
    if isinstance(value, Activation):
        return known(value, value.__wrapped__.__module__, value.name)
    if isinstance(value, FunctionType) and _is_own(value):
        return None  # functools.wraps may give it a library's name
    if found := known(value, value.__module__, value.__qualname__):
        return found
    if isinstance(value, type) and not value.__flags__ & 1 << 9 and origin(value.__module__) is not None:
        return f"{value.__module__}:{value.__qualname__}"  # made in C, and nowhere to be found, as dict_keys
    return None


def _is_own(function: FunctionType) -> bool:
    return origin(str(function.__globals__.get("__name__", ""))) is None


def is_compiled(value: Definition) -> bool:
    """Whether a person compiled it, so that nothing in here can tell what it does."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    file = getattr(sys.modules.get(str(module)), "__file__", None) or ""
    return by_name(value) is None and file.endswith(tuple(EXTENSION_SUFFIXES))


def name_of(value: Definition) -> str:
    """Return what to call a definition; several may have the same name."""
    if name := by_name(value):
        return name
    if isinstance(value, ModuleType):
        return _portable(value.__name__)
    if isinstance(value, Activation):
        return f"activation {_portable(value.__wrapped__.__module__)}:{value.name}"
    if isinstance(value, FunctionType):  # what functools.wraps does not change
        return f"{_portable(str(value.__globals__.get('__name__')))}:{value.__code__.co_qualname}"
    return f"{_portable(str(value.__module__))}:{value.__qualname__}"


def _portable(module: str) -> str:
    """Return a module's name without what depends on the process: a file is loaded as ``name``, ``name_``."""
    package, dot, name = module.rpartition(".")
    stem = Path(getattr(sys.modules.get(module), "__file__", None) or name).stem
    same = name.rstrip("_") == stem.rstrip("_")
    return {"__mp_main__": "__main__"}.get(module, f"{package}{dot}{stem if same else name}")


# -- what is in it ---------------------------------------------------------------------------------


def parts(value: Definition) -> dict[str, Any]:
    """Return everything that decides what a definition does.

    Args:
        value: A definition.

    Returns:
        Texts, tuples of values and mappings from names to values; nothing that is empty.
    """
    module = value.__name__ if isinstance(value, ModuleType) else value.__module__
    if isinstance(value, Activation):
        module = value.__wrapped__.__module__
    found: dict[str, Any] = {"version": origin(str(module)) or ""}
    if isinstance(value, FunctionType):
        if by_name(value) is None:
            found.update(_function(value))
    elif isinstance(value, Activation):
        if by_name(value) is None:
            found["class"] = (type(value),)
            if value.made_of is not None:
                return {**found, "made of": value.made_of}
            found["formulas"] = vars(value.formulas)
            found["facts"] = {k: v for k, v in vars(value.facts).items() if k not in _KNOWLEDGE}
            found["has"] = {k: v for k, v in vars(value).items() if k not in _DERIVED}
    elif isinstance(value, ModuleType):
        if by_name(value) is None:
            found["has"] = {k: v for k, v in vars(value).items() if not k.startswith("__")}
    elif by_name(value) is None:
        found["bases"] = value.__bases__
        found["metaclass"] = () if type(value) is type else (type(value),)
        found["has"] = {k: v for k, v in vars(value).items() if k not in _NOTED}
    else:
        found["replaced"] = _replaced(value)
    return {name: part for name, part in found.items() if part}


def _function(value: FunctionType) -> dict[str, Any]:
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
    found: dict[str, Any] = {
        "defaults": value.__defaults__ or (),
        "keywords": value.__kwdefaults__ or {},
        "closure": {name: cell.cell_contents for name, cell in cells if _is_filled(cell)},
        "attributes": vars(value),
    }
    if _is_own(value):  # what a library makes, such as a decorated function, has its version
        found["code"] = fingerprint(value.__code__)
        found["uses"] = dict(uses(value.__code__, value.__globals__))
    return found


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _replaced(value: type) -> dict[str, Any]:
    """Return methods of a person's own in a class of a library, where somebody replaced them."""
    return {
        name: found
        for base in reversed(value.__mro__)
        for name, found in list(vars(base).items())
        if isinstance(found, FunctionType) and _is_own(found) and by_name(base) is not None
    }


@functools.lru_cache(4096)
def fingerprint(code: CodeType) -> str:
    """Return a hash of what a code object does: everything in it but names of files, and lines."""
    body = (
        (code.co_code.hex(), code.co_exceptiontable.hex(), code.co_flags),
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        [_constant(value) for value in code.co_consts],
    )
    return hashlib.sha256(repr(body).encode("utf-8", "surrogatepass")).hexdigest()


def _constant(value: object) -> Any:
    if isinstance(value, CodeType):
        return fingerprint(value)
    if isinstance(value, tuple):
        return tuple(map(_constant, value))
    if isinstance(value, frozenset):  # what "x in {...}" compiles to; its order depends on the process
        return ("frozenset", sorted(repr(_constant(item)) for item in value))
    return (type(value).__name__, repr(value))


def uses(code: CodeType, namespace: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the globals that code reads, and what it imports.

    Args:
        code: The code, with the functions inside it.
        namespace: The globals of its function.

    Yields:
        A name as the code has it, such as ``"helpers.slope"``, and its value. Builtins are left out, and
        so are names that do not exist.
    """
    steps = [step for step in dis.get_instructions(code) if step.opname not in _FILLING]
    for place, step in enumerate(steps):
        if step.opname in _GLOBAL and step.argval in namespace:
            rest = []
            for after in steps[place + 1 :]:
                if after.opname not in _ATTRIBUTE:
                    break
                rest.append(str(after.argval))
            yield _followed(str(step.argval), namespace[step.argval], rest)
        elif step.opname == "IMPORT_NAME":
            level, names = steps[place - 2].argval, steps[place - 1].argval
            yield from _imports("." * level + str(step.argval), names or (), namespace)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from uses(constant, namespace)


def _followed(name: str, value: object, rest: list[str]) -> tuple[str, object]:
    """Follow attributes through modules, to what is meant."""
    while isinstance(value, ModuleType) and rest:
        library = by_name(value) is not None
        found = getattr(value, rest[0], None)
        if found is None and not hasattr(value, rest[0]):
            break
        if library and not isinstance(found, KINDS):
            break  # a library's own affairs, such as sys.stdout
        name, value = f"{name}.{rest.pop(0)}", found
    return name, value


def _imports(name: str, names: tuple[str, ...], namespace: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    try:
        full = importlib.util.resolve_name(name, namespace.get("__package__"))
        top = full.partition(".")[0]
        spec = importlib.util.find_spec(top)
        theirs = None if spec is None else _origin_of_spec(spec.origin)
        if theirs is not None:  # not imported: it may never be needed
            yield f"import {name}", f"{top} {theirs}".strip()
            return
        module = importlib.import_module(full)
        for part in names:
            if not hasattr(module, part):
                importlib.import_module(f"{full}.{part}")
    except Exception:  # it will fail in the same way where it is run
        return
    if not names:
        yield f"import {name}", module
    for part in names:
        label, value = _followed(full, module, [part])
        yield f"from {name} import {part}" if label != full else f"import {name}", value


def _origin_of_spec(file: str | None) -> str | None:
    if file in ("built-in", "frozen"):
        return ""
    return _origin_of_file(file) if file else None
