"""The forward of a module, read: which activations its bytecode names."""

from __future__ import annotations

import dis
import inspect
import os
from collections import ChainMap
from collections.abc import Callable, Iterator
from functools import cached_property, partial, partialmethod
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

from actlab.models.activation_sites import CALLS, Call, is_function, kind_of

_UNKNOWN = object()
_FILLING = frozenset({"CACHE", "EXTENDED_ARG", "LOAD_CONST", "NOP", "PUSH_NULL", "RESUME"})
_MOST_WRAPPERS = 32


def read_forward(module: nn.Module, name: str = "forward") -> Iterator[Call | str]:
    """Yield the activations that a method of a module names, and what it asks that a trace cannot answer.

    Code is read and not run. What cannot be read, such as a function written in C, is left out.

    Args:
        module: Any module.
        name: The method. Those that ``super()`` means in it are read too, as is each Python function that
            it names, except torch's own.
    """
    todo: list[tuple[Any, Any]] = [(vars(module)[name], module)] if name in vars(module) else []
    for owner in [] if todo else type(module).__mro__:
        if name in vars(owner):
            todo.append((vars(owner)[name], module))
            own = vars(owner)[name]
            kind = _tried(kind_of, own.__func__ if isinstance(own, staticmethod) else own)
            if kind is not None and kind is not _UNKNOWN:
                yield Call(kind, f"{name} of {owner.__name__}")
            if not any("super" in function.__code__.co_names for function, _ in _functions(*todo[-1])):
                break
    seen: set[FunctionType] = set()
    while todo:
        found = _tried(_functions, *todo.pop(0))
        for function, me in () if found is _UNKNOWN else found:
            if function not in seen and not str(function.__globals__.get("__name__")).startswith("torch."):
                seen.add(function)
                yield from _read(function, me, todo)


def _functions(value: Any, me: Any) -> list[tuple[FunctionType, Any]]:
    """Return the Python functions that run when a value is called, each with the object it is bound to.

    A function comes before the decorators around it.
    """
    found: list[tuple[FunctionType, Any]] = []
    for _ in range(_MOST_WRAPPERS):
        match value:
            case partial():
                value, me = value.func, value.args[0] if value.args else me
            case partialmethod():
                value = value.func
            case MethodType():
                value, me = value.__func__, value.__self__
            case staticmethod():
                value, me = value.__func__, None
            case property():
                value = value.fget
            case FunctionType():
                found.insert(0, (value, me))
                value = vars(value).get("__wrapped__")
            case None:
                break
            case _:
                call = inspect.getattr_static(type(value), "__call__", None)
                wrapped = inspect.getattr_static(value, "__wrapped__", None)
                value, me = (call, value) if isinstance(call, FunctionType) else (wrapped, me)
    return found


def _read(function: FunctionType, me: Any, todo: list[tuple[Any, Any]]) -> Iterator[Call | str]:
    """Yield what the bytecode of one function names, and put the functions that it names on a list."""
    first = _first_of(function)
    own = {} if first is None or me is None else {first: me}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = {name: _tried(getattr, cell, "cell_contents") for name, cell in cells}  # a cell may be empty
    scope = ChainMap(own, closure, function.__globals__)
    for code in _codes(function.__code__):
        value: Any = _UNKNOWN
        for step in dis.get_instructions(code):
            if step.opname in _FILLING:
                continue
            where = where_of(code, (step.positions and step.positions.lineno) or code.co_firstlineno)
            if value is _UNKNOWN and (step.opname == "IS_OP" or step.opname.endswith("NONE")):
                yield f"it asks whether something is None ({where})"
            elif step.opname.startswith("MATCH_"):
                yield f"it matches something with a pattern ({where})"
            holder = kind = None
            name = step.argval[-1] if isinstance(step.argval, tuple) and step.argval else step.argval
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                kind = CALLS.get(name) if value is _UNKNOWN else None
                holder, value = value, _UNKNOWN if value is _UNKNOWN else _tried(_attribute, value, name)
            elif step.opname.startswith("LOAD_") and isinstance(name, str):
                names = scope if "FAST" not in step.opname else own if code is function.__code__ else {}
                value = names.get(name, _UNKNOWN)
            else:
                value = _UNKNOWN
            if value is _UNKNOWN or value is me:
                pass
            elif not (_is_a(value, nn.Module) and _is_a(holder, nn.Module)):  # not a place of the model
                kind = _tried(kind_of, value)
            if kind is not None and kind is not _UNKNOWN and kind.activation:
                yield Call(kind if kind.text else kind._replace(text=type(value).__name__), where)
            elif callable(value) and not _is_a(value, nn.Module) and not _is_a(value, type):
                bound = _is_a(value, FunctionType) and _first_of(value) == first
                todo.append((value, me if bound else None))


def _first_of(function: FunctionType) -> str | None:
    return next(iter(function.__code__.co_varnames[: function.__code__.co_argcount]), None)


def _is_a(value: Any, cls: type) -> bool:
    return issubclass(type(value), cls)  # isinstance asks the value, which may raise


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _tried(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception:  # anybody's __getattr__, __class__ or __hash__
        return _UNKNOWN


def _attribute(value: Any, name: str) -> Any:
    if isinstance(inspect.getattr_static(value, name, None), property | cached_property):
        return _UNKNOWN
    if isinstance(value, nn.Module) and is_function(vars(value).get(name)):
        return _UNKNOWN  # a function that is an attribute of a module is a place, not a call
    return getattr(value, name)


def where_of(code: CodeType, line: int | None) -> str:
    """Return the file and the line of code."""
    file = os.path.basename(code.co_filename)
    return f"{'<swapped>' if file.startswith('<eval_with_key>') else file}:{line}"
