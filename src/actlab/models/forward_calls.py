"""Find the activations that a forward method calls, in its source."""

from __future__ import annotations

import ast
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from actlab.introspection.user_code import read_source
from actlab.models.activation_sites import CALLS, Kind, identify, identify_module

_UNKNOWN = object()


@dataclass(eq=False)
class Method:
    """A Python function that runs when a module is called.

    Attributes:
        function: The function, without its decorators.
        name: Its attribute name in the owner.
        owner: The object whose method it is; None for a function that is not a method.
        tree: Its parsed source.
        offset: What to add to a line number of the tree to get the line number in the file.
        callers: The methods that refer to it, each with the expression that does so; None instead of the
            expression if its value is not the function itself, such as the decorated function.
        is_outside: Whether it is a function or an overridden method, which a replacement must copy.
    """

    function: FunctionType
    name: str
    owner: Any
    tree: ast.Module
    offset: int
    callers: list[tuple[Method, ast.expr | None]] = field(default_factory=list)
    is_outside: bool = False


class Call(NamedTuple):
    """An activation in the source of a method: a call, or the function itself, as in ``act = F.relu``.

    Attributes:
        kind: The activation.
        name: The name of the function and the line.
        where: The file and the line.
        problem: Why it cannot be replaced, and what to do; empty if it can.
        method: The method.
        node: The expression in the method's tree.
        argument: The input of the activation; None if the activation is named and not called.
    """

    kind: Kind
    name: str
    where: str
    problem: str
    method: Method | None = None
    node: ast.expr | None = None
    argument: ast.expr | None = None


def find_activation_calls(model: nn.Module) -> dict[nn.Module, list[Call]]:
    """Return the activations that the forward method of each module calls, in the order of the source.

    Python functions that the forward method refers to are read too, except those of torch; a method of
    another module counts as part of that module. Code is read, not run. Code without source, such as a
    function written in C, is skipped.
    """
    entries = {module: ["forward", "__call__"] for module in model.modules()}
    calls = {}
    todo = [*entries]
    while todo:
        module = todo.pop(0)
        calls[module], others = _find_calls(module, entries)
        for owner, name in others:
            if name not in entries[owner]:
                entries[owner].append(name)
                todo.append(owner)
    return calls


def _find_calls(
    module: nn.Module, entries: Mapping[nn.Module, list[str]]
) -> tuple[list[Call], list[tuple[nn.Module, str]]]:
    """Return the calls in a module's methods, and the methods of other modules that these refer to.

    Args:
        module: The module.
        entries: By module, the names of the methods that are read first.
    """
    if isinstance(module, fx.GraphModule | torch.jit.ScriptModule):
        return _find_calls_in_generated_code(module), []
    if identify_module(module).activation or type(module).__module__.startswith("torch."):
        return [], []
    names = entries[module]
    own = {name: _try(lambda: undecorate(_get_attribute(module, name))) for name in names}  # noqa: B023
    todo: list[tuple[FunctionType, str, Any, tuple[Method, ast.expr | None] | None]] = [
        (function, name, module, None) for name, function in own.items() if isinstance(function, FunctionType)
    ]
    calls: list[Call] = []
    others: list[tuple[nn.Module, str]] = []
    methods: dict[FunctionType, Method | None] = {}
    while todo:
        function, name, owner, caller = todo.pop(0)
        if issubclass(type(owner), nn.Module) and owner is not module and owner in entries:
            others.append((owner, name))
            continue
        if function not in methods:
            methods[function] = _parse(function, name, owner)
            if (method := methods[function]) is not None:
                reader = _Reader(method)
                calls += reader.calls
                todo += reader.functions
        if (method := methods[function]) is not None and caller is not None:
            method.callers.append(caller)
    problems = {method: _find_problem(module, method) for method in methods.values() if method}
    while inherited := {
        method: problems[caller]
        for method, problem in problems.items()
        if method.is_outside and not problem
        for caller, _ in method.callers
        if problems[caller]
    }:
        problems |= inherited
    calls = [call._replace(problem=call.problem or problems[call.method]) for call in calls if call.method]
    return calls, others


def _find_calls_in_generated_code(module: Any) -> list[Call]:
    """Return the activations in the code that torch generated for a traced, exported or scripted module."""
    code = getattr(module, "code", "")  # a scripted module without a forward has none
    kinds = {kind.text.rpartition(".")[2]: kind for kind in CALLS.values()}
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)]
    names = [node.attr for node in nodes if ast.unparse(node.value) != "self"]
    called = [kinds[name]._replace(text=name) for name in dict.fromkeys(names) if name in kinds]
    problem = "torch generated its code; replace it before the model is traced, exported or scripted"
    return [Call(kind, "forward", "generated code", problem) for kind in called]


def _find_problem(module: nn.Module, method: Method) -> str:
    """Return why the source of a method cannot be replaced; set whether it is outside the module's class."""
    is_method = method.owner is module
    own = inspect.getattr_static(type(module), method.name, None) if is_method else None
    is_own = own is not None and undecorate(own) is method.function
    method.is_outside = not is_own
    if is_method and method.name in vars(module):
        problem = f"{method.name} is an attribute of the module, not a method of its class"
    elif is_method and not method.function.__code__.co_argcount:
        problem = f"{method.name} does not name its first argument"
    elif is_own or ((is_method or method.owner is None) and _can_be_copied(method)):
        return ""
    else:
        problem = f"it is in {method.function.__qualname__}, not in a method of its class"
    return f"{problem}; make it a separate module"


def _can_be_copied(method: Method) -> bool:
    """Whether all callers can call a copy of a function instead."""
    is_definition = isinstance(method.tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef)
    return is_definition and bool(method.callers) and all(node is not None for _, node in method.callers)


def undecorate(value: Any) -> Any:
    """Return the Python function of a method or decorated function; None for torch's and for others."""
    while isinstance(value, functools.partial):
        value = value.func
    function = inspect.unwrap(getattr(value, "__func__", value))
    if not isinstance(function, FunctionType):
        return None
    package = str(function.__globals__.get("__name__")).partition(".")[0]
    return None if package == "torch" else function


@functools.lru_cache(maxsize=4096)
def _read_statement(function: FunctionType) -> str:
    source = read_source(function)
    return f"if 1:\n{source}" if source[0].isspace() else f"\n{source}"


def _parse(function: FunctionType, name: str, owner: Any) -> Method | None:
    try:
        tree = ast.parse(_read_statement(function))
    except (OSError, TypeError, SyntaxError):  # no source, or a lambda within a statement
        return None
    if isinstance(first := tree.body[0], ast.If):
        tree.body = first.body
    cls = function.__qualname__.rpartition(".")[0].rpartition(".")[2].lstrip("_")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("__") and not node.attr.endswith("__"):
            node.attr = f"_{cls}{node.attr}"  # the name of a private attribute outside of its class
    return Method(function, name, owner, tree, function.__code__.co_firstlineno - 2)


def _build_scope(method: Method) -> dict[str, Any]:
    """Return the values of the names in a function that are not local variables."""
    function: Any = method.function
    scope = {**function.__builtins__, **function.__globals__, **read_closure(function)}
    for node in ast.walk(method.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            _try(lambda: exec(compile(ast.Module([node], []), "<import>", "exec"), scope))  # noqa: B023, S102
        elif isinstance(node, ast.arg):
            scope.pop(node.arg, None)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            scope.pop(node.id, None)
    if method.owner is not None and function.__code__.co_argcount:
        scope[function.__code__.co_varnames[0]] = method.owner
    return scope


def read_closure(function: FunctionType) -> dict[str, Any]:
    """Return the values of the variables that a function takes from enclosing functions."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: _try(lambda: cell.cell_contents) for name, cell in cells}  # noqa: B023


def _try(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception:  # raised by the user's objects, or by an empty cell
        return _UNKNOWN


def _get_attribute(value: Any, name: str) -> Any:
    is_computed = isinstance(inspect.getattr_static(value, name, None), property | cached_property)
    return _UNKNOWN if value is _UNKNOWN or is_computed else getattr(value, name)


class _Reader(ast.NodeVisitor):
    """Collects the activations in the source of one function, and the other functions that it names."""

    def __init__(self, method: Method) -> None:
        self.method, self.scope = method, _build_scope(method)
        self.calls: list[Call] = []
        self.functions: list[tuple[FunctionType, str, Any, tuple[Method, ast.expr | None]]] = []
        definition = method.tree.body[0]
        for node in getattr(definition, "body", [definition]):  # without decorators and defaults
            self.visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        value, kind = self._resolve(node.func)
        inputs = [*node.args, *(k.value for k in node.keywords if k.arg in ("input", "x", None))]
        is_method = value is _UNKNOWN or isinstance(getattr(value, "__self__", None), Tensor)
        if is_method and isinstance(node.func, ast.Attribute):  # x.relu()
            kind, inputs = CALLS.get(node.func.attr), [node.func.value]
        if kind is None or self._is_module_attribute(node.func):
            self.generic_visit(node)
        elif isinstance(value, type):  # nn.ReLU()
            self._add(node, kind)
        elif inputs:
            self.visit(inputs[0])
            self._add(node, kind, inputs[0])

    def visit_Name(self, node: ast.Name) -> None:
        self._visit_value(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._visit_value(node, node.attr)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._visit_value(node, "")

    def _visit_value(self, node: ast.expr, name: str) -> None:
        value, kind = self._resolve(node)
        if kind is not None and not isinstance(value, type):
            if not self._is_module_attribute(node):
                self._add(node, kind)
            return
        function = _try(lambda: undecorate(value))
        if isinstance(function, FunctionType):
            is_same = getattr(value, "__func__", value) is function
            caller = self.method, node if is_same else None
            self.functions.append((function, name, getattr(value, "__self__", None), caller))
        self.generic_visit(node)

    def _add(self, node: ast.expr, kind: Kind, argument: ast.expr | None = None) -> None:
        code, line = self.method.function.__code__, self.method.offset + node.lineno
        file = os.path.basename(code.co_filename)
        where = f"{'<swapped>' if file.startswith('<swapped') else file}:{line}"
        keywords = node.keywords if isinstance(node, ast.Call) else []
        problem = "it has the argument 'out'; remove it" if any(k.arg == "out" for k in keywords) else ""
        name = f"{code.co_name}:{line}"
        self.calls.append(Call(kind, name, where, problem, self.method, node, argument))

    def _is_module_attribute(self, node: ast.expr) -> bool:
        """Whether an expression is an attribute of a module. Then the attribute itself is replaced."""
        if not isinstance(node, ast.Attribute | ast.Subscript):
            return False
        owner = self._try_evaluate(node.value)
        if not issubclass(type(owner), nn.Module):
            return False
        return isinstance(node, ast.Subscript) or node.attr in {**vars(owner), **owner._modules}

    def _resolve(self, node: ast.expr) -> tuple[Any, Kind | None]:
        """Return the value of an expression, and the activation that it is."""
        value = self._try_evaluate(node)
        kind = _try(lambda: identify(value))
        if not isinstance(kind, Kind) or (kind.activation is None and not kind.other):
            return value, None
        return value, kind if kind.text else kind._replace(text=type(value).__name__)

    def _try_evaluate(self, node: ast.expr) -> Any:
        return _try(lambda: self._evaluate(node))

    def _evaluate(self, node: ast.expr) -> Any:
        """Return the value of a name, attribute or item that does not depend on local variables."""
        match node:
            case ast.Name(id=name):
                return self.scope.get(name, _UNKNOWN)
            case ast.Constant(value=value):
                return value
            case ast.Call(func=ast.Name(id="super"), args=[]):
                return super(self.scope["__class__"], self.method.owner)
            case ast.Call(func=ast.Name(id="getattr"), args=[base, name, *_]):
                return _get_attribute(self._evaluate(base), self._evaluate(name))
            case ast.Attribute(value=base, attr=name):
                return _get_attribute(self._evaluate(base), name)
            case ast.Subscript(value=base, slice=key) if isinstance(
                self._evaluate(base), dict | list | tuple
            ):
                return self._evaluate(base)[self._evaluate(key)]
        return _UNKNOWN
