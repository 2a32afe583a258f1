"""The forward of a module, read: which activations its bytecode names."""

from __future__ import annotations

import dis
import inspect
import os
from collections import ChainMap
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

from actlab._places import CALLS, Call, is_function, kind_of

_UNKNOWN = object()
_FILLING = frozenset({"CACHE", "EXTENDED_ARG", "LOAD_CONST", "NOP", "PUSH_NULL", "RESUME"})


def read_forward(module: nn.Module) -> Iterator[Call | str]:
    """Read the forward of a class, and those that ``super()`` means in it."""
    for owner in type(module).__mro__:
        if isinstance(forward := inspect.unwrap(vars(owner).get("forward", len)), FunctionType):
            yield from _read(MethodType(forward, module), set())
            if "super" not in forward.__code__.co_names:
                return


def _read(function: FunctionType | MethodType, seen: set[Any]) -> Iterator[Call | str]:
    """Yield the activations that bytecode names, and where it asks whether something unknown is None."""
    me = getattr(function, "__self__", None)
    plain: Any = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(plain, FunctionType) or plain in seen or (plain.__module__ or "").startswith("torch."):
        return
    seen.add(plain)
    own = {plain.__code__.co_varnames[0]: me} if me is not None else {}
    scope = ChainMap(own, dict(inspect.getclosurevars(plain).nonlocals), plain.__globals__)
    for code in _codes(plain.__code__):
        value: Any = _UNKNOWN
        for step in dis.get_instructions(code):
            where = where_of(code, step.positions.lineno if step.positions else None)
            name = step.argval[-1] if isinstance(step.argval, tuple) else step.argval
            if step.opname in _FILLING:
                continue
            if value is _UNKNOWN and (step.opname == "IS_OP" or step.opname.endswith("NONE")):
                yield where
            kind = None
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                kind = CALLS.get(name) if value is _UNKNOWN else None
                value = _attribute(value, name, value is me)
            elif step.opname.startswith("LOAD_"):
                value = (own if "FAST" in step.opname else scope).get(name, _UNKNOWN)
            else:
                value = _UNKNOWN
            kind = kind or (None if isinstance(value, nn.Module) else kind_of(value))
            if kind is not None:
                yield Call(kind, where)
            elif isinstance(value, FunctionType | MethodType):
                yield from _read(value, seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _attribute(value: Any, name: str, own: bool) -> Any:
    if isinstance(getattr(type(value), name, None), property) or (own and is_function(vars(value).get(name))):
        return _UNKNOWN  # a function that is an attribute of the module is a place, not a call
    try:
        return getattr(value, name)
    except Exception:  # anybody's __getattr__
        return _UNKNOWN


def where_of(code: CodeType, line: int | None) -> str:
    """Return the file and the line of code."""
    file = os.path.basename(code.co_filename)
    return f"{'<swapped>' if file.startswith('<eval_with_key>') else file}:{line}"
