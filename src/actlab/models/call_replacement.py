"""Replace the activations that a forward method calls with submodules.

``F.relu(self.fc(x))`` becomes ``self.activation1(self.fc(x))`` in a subclass of the module's class.
"""

from __future__ import annotations
import __future__

import ast
import functools
import hashlib
import inspect
import itertools
import linecache
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from torch import nn

from actlab.models.forward_calls import Call, Method, read_closure, undecorate

_BASE, _SOURCES = "_class_before_swap", "_sources_after_swap"


def prepare_call_replacement(module: nn.Module, activations: Mapping[Call, nn.Module]) -> Callable[[], None]:
    """Prepare the replacement of calls in the methods of a module.

    Args:
        module: The module.
        activations: The new module for each call.

    Returns:
        A function that changes the module.

    Raises:
        Exception: A method cannot be compiled apart from its class.
    """
    numbered = (f"activation{number}" for number in itertools.count(1))
    names = dict(zip(activations, (n for n in numbered if not hasattr(module, n)), strict=False))
    replaced: dict[Any, tuple[Call | None, str]] = {call.node: (call, name) for call, name in names.items()}
    method_names = _name_methods(module, [call.method for call in names if call.method])
    for method, name in method_names.items():
        if method.is_outside:
            replaced |= {node: (None, name) for _, node in method.callers}
    sources = {name: (text, function) for name, text, function in getattr(module, _SOURCES, ())}
    for method, name in method_names.items():
        _Rewriter(method, replaced).visit(method.tree)
        function = method.function if method.is_outside else sources.get(name, (None, None))[1]
        sources[name] = ast.unparse(method.tree), function
    base: Any = getattr(module, _BASE, type(module))
    cls = _make_subclass(base, tuple((name, *source) for name, source in sources.items()))

    def replace() -> None:
        for call, name in names.items():
            setattr(module, name, activations[call])
        module.__class__ = cls

    return replace


def _name_methods(module: nn.Module, methods: list[Method]) -> dict[Method, str]:
    """Return the name of each method in the new class, and of each caller of a function outside the class."""
    names: dict[Method, str] = {}
    todo = [*methods]
    while todo:
        method = todo.pop()
        if method in names:
            continue
        if method.is_outside:
            stem = f"swapped_{method.function.__name__}"
            free = (stem + "_" * count for count in itertools.count())
            names[method] = next(n for n in free if not hasattr(module, n) and n not in names.values())
            todo += [caller for caller, _ in method.callers]
        else:
            names[method] = method.name
    return names


class _Rewriter(ast.NodeTransformer):
    """Replaces activations, and functions that contain some, by attributes of the module."""

    def __init__(self, method: Method, names: Mapping[Any, tuple[Call | None, str]]) -> None:
        self.names, self.tree = names, method.tree
        self.parents = {child: node for node in ast.walk(method.tree) for child in ast.iter_child_nodes(node)}
        arguments = next(node for node in ast.walk(method.tree) if isinstance(node, ast.arguments))
        if method.is_outside:
            method.tree.body[0].decorator_list = []  # type: ignore[attr-defined]  # they return the function
        if method.owner is None:  # a function becomes a method
            self.own = ast.Name("swapped_self")
            (arguments.posonlyargs or arguments.args).insert(0, ast.arg(self.own.id))
        else:
            self.own = ast.Name(method.function.__code__.co_varnames[0])
        arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]  # taken from the function
        arguments.kw_defaults = [value and ast.Constant(None) for value in arguments.kw_defaults]

    def visit(self, node: ast.AST) -> Any:
        if node not in self.names:
            return self.generic_visit(node)
        call, name = self.names[node]
        activation = ast.Attribute(self.own, name)
        if call is None or call.argument is None:
            return activation
        argument = self.visit(call.argument)
        if not _is_inplace(call) or self._is_temporary(call.argument):
            return ast.Call(activation, [argument], [])
        copy = ast.Call(ast.Attribute(ast.Name("swapped_input"), "clone"), [], [])
        input_ = ast.NamedExpr(ast.Name("swapped_input"), argument)
        return ast.Call(ast.Attribute(input_, "copy_"), [ast.Call(activation, [copy], [])], [])

    def _is_temporary(self, argument: ast.expr) -> bool:
        """Whether a tensor that a call overwrites is certainly not used after the call."""
        if not isinstance(argument, ast.Name):
            return isinstance(argument, ast.BinOp) or self._calls_own(argument)
        node: ast.AST = argument
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        reuses = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == argument.id
        once = sum(isinstance(n, ast.Name) and n.id == argument.id for n in ast.walk(node)) == 1 + reuses
        return once and (reuses or isinstance(node, ast.Return)) and not self._may_have_aliases(argument.id)

    def _may_have_aliases(self, name: str) -> bool:
        """Whether another variable may refer to the tensor of a local variable."""
        for node, parent in self.parents.items():
            if isinstance(node, ast.Name) and node.id == name:
                match parent:
                    case ast.BinOp() | ast.AugAssign() | ast.Return():
                        continue
                    case ast.Assign(targets=[_], value=ast.Call() | ast.BinOp()):
                        continue
                    case ast.Call() if parent in self.names or self._calls_own(parent):
                        continue
                return True
        return False

    def _calls_own(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and ast.unparse(node.func).startswith(f"{self.own.id}.")


def _is_inplace(call: Call) -> bool:
    """Whether a call overwrites its input."""
    if not isinstance(call.node, ast.Call):
        return False
    flags: list[ast.expr] = [flag for flag in call.node.args[1:] if isinstance(flag, ast.Constant)]
    flags += [keyword.value for keyword in call.node.keywords if keyword.arg == "inplace"]
    return call.kind.text.endswith("_") or any(getattr(flag, "value", True) is True for flag in flags)


@functools.lru_cache(maxsize=256)
def _make_subclass(base: Any, sources: tuple[tuple[str, str, FunctionType | None], ...]) -> type:
    """Return a subclass in which methods have other source, and whose instances pickle."""
    members = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    members |= {name: _compile(base, name, source, function) for name, source, function in sources}
    members |= {_BASE: base, _SOURCES: sources, "__reduce_ex__": _reduce}
    return type(base.__name__, (base,), members)


def _reduce(module: Any, protocol: Any) -> tuple[Any, ...]:
    """Implement ``__reduce_ex__``. Not nested, because a run key has the line of a nested function."""
    base, sources = getattr(module, _BASE), getattr(module, _SOURCES)
    return _make_empty, (base, sources), *base.__reduce_ex__(module, max(2, protocol))[2:]


def _make_empty(base: Any, sources: tuple[tuple[str, str, FunctionType | None], ...]) -> Any:
    cls: Any = _make_subclass(base, sources)
    return cls.__new__(cls)


def _compile(base: type, name: str, source: str, function: FunctionType | None) -> Any:
    """Compile the source of a method, with the globals, closure and defaults of a function.

    If it is None, use the function that the class has.
    """
    old: Any = function or undecorate(inspect.getattr_static(base, name))
    body: list[Any] = ast.parse(source).body
    factory: Any = ast.parse(f"def make({', '.join(old.__code__.co_freevars)}): pass")
    factory.body[0].body = [*body, ast.Return(ast.Name(getattr(body[0], "name", name)))]
    text = ast.unparse(factory)
    file = f"<swapped {base.__qualname__}.{name} {hashlib.sha256(text.encode()).hexdigest()[:8]}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    scope: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    exec(compile(text, file, "exec", flags, dont_inherit=True), scope)  # noqa: S102
    new = FunctionType(scope["make"].__code__, old.__globals__)(*read_closure(old).values())
    inner: Any = undecorate(new)
    inner.__defaults__, inner.__kwdefaults__ = old.__defaults__, old.__kwdefaults__
    return new
