"""Resolve the specs by which users name activations. Only literals in a spec are evaluated."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch

from actlab.activation.definition import Activation
from actlab.activation.module import read_parameters
from actlab.errors import UsageError, did_you_mean, raise_problems, summarize_error
from actlab.functions import catalogue

_EXAMPLE_FILE = "my_layers.py"  # stands for a file of the user
_loading: set[tuple[int, Path]] = set()  # the files that each thread is importing


class _SelfImportError(UsageError):
    """Raised if importing a file imports the file again."""


@dataclass(frozen=True, eq=False, repr=False)
class ResolvedActivation:
    """An activation that a spec names.

    It is immutable, so a copy is the object itself. Its pickle holds the spec, which is resolved again where
    it is loaded.

    Attributes:
        spec: The spec, which stands for the activation in tables and ledgers.
        target: What the spec names: a definition, or what ``"package.module:Name"`` imports.
        imported: Whether the target is imported, not from the catalogue or a formula.
        args: Literal positional arguments of its module.
        kwargs: Literal named arguments of its module.
    """

    spec: str
    target: Any
    imported: bool
    args: list[Any] = field(default_factory=list)
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_elementwise(self) -> bool:
        """Whether it is a function of each element by definition; what is imported may be anything."""
        return not self.imported and not self.target.facts.gated

    def build(self, **options: Any) -> torch.nn.Module:
        """Build the module; a target that is a module is returned itself.

        Args:
            **options: Arguments for a constructor that has parameters of these names, unless the spec has
                them.

        Raises:
            UsageError: The arguments do not fit, or the target makes no module.
        """
        factory = _find_factory(self.spec, self.target)
        accepted = inspect_parameters(factory) if options else {}
        kwargs = {name: value for name, value in options.items() if name in accepted} | {**self.kwargs}
        try:
            module = factory(*self.args, **kwargs)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise UsageError(f"activation {self.spec!r}: {error}") from error
        if not isinstance(module, torch.nn.Module):
            name, kind = self.spec.partition("(")[0].strip(), type(module).__name__
            raise UsageError(f"activation {self.spec!r}: {name} returns a {kind}, not an nn.Module")
        return module

    def is_same(self, other: ResolvedActivation) -> bool:
        """Whether two specs, such as ``"relu"`` and ``"relu()"``, name one activation."""
        return (self.target, self.args, self.kwargs) == (other.target, other.args, other.kwargs)

    def __eq__(self, other: object) -> bool:
        """Compare the spec with another, which may be text: ``net.module__activation == "tanh"``."""
        return self.spec == (other.spec if isinstance(other, ResolvedActivation) else other)

    def __hash__(self) -> int:
        return hash(self.spec)

    def __repr__(self) -> str:
        return repr(self.spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> ResolvedActivation:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return resolve, (self.spec,)


def resolve(spec: str | ResolvedActivation) -> ResolvedActivation:
    """Find the activation that a spec names.

    Args:
        spec: As for :func:`get`. A resolved activation is returned as it is.

    Raises:
        UsageError: The spec does not name an activation, or its arguments are not literals.

    Examples:
        >>> resolve("leaky_relu(negative_slope=0.2)").build()
        LeakyReLU(negative_slope=0.2)
    """
    if isinstance(spec, ResolvedActivation):
        return spec
    name, args, kwargs = split_spec(spec)
    imported = is_import_path(name)
    target = import_object("activation", name) if imported else find_definition(name)
    return ResolvedActivation(spec, target, imported, args, kwargs)


def resolve_all(activations: Iterable[str | Activation[Any]]) -> tuple[ResolvedActivation, ...]:
    """Resolve a list of different activations.

    Args:
        activations: Specs, definitions from the catalogue, or results of :func:`actlab.formula`.

    Raises:
        UsageError: The argument is not a list, an element is not an activation or has no spec, or two are the
            same. The message names all problems.

    Examples:
        >>> import actlab
        >>> resolve_all(["relu", actlab.functional.mish, actlab.formula("x*sin(a*x)", parameters={"a": 2})])
        ('relu', 'mish', 'formula:x*sin(a*x) with a=2.0')
        >>> resolve_all([torch.nn.GELU()])
        Traceback (most recent call last):
        actlab.errors.UsageError: activations[0] is an instance of GELU; pass its name: 'torch.nn:GELU' or 'my_layers.py:Name'
    """  # noqa: E501 - an error is one line
    if isinstance(activations, str | torch.nn.Module) or not isinstance(activations, Iterable):
        is_module = isinstance(activations, torch.nn.Module)
        shown = f"an instance of {type(activations).__name__}" if is_module else repr(activations)
        raise UsageError(f"activations is {shown}, not a list of specs such as ['relu', 'tanh']")
    resolved: list[ResolvedActivation] = []
    problems = []
    for number, value in enumerate(activations):
        try:
            spec = value if isinstance(value, str | ResolvedActivation) else _find_spec(value)
            if spec is None:
                raise UsageError(f"activations[{number}] is {_describe_problem(value)}")
            resolved.append(resolve(spec))
        except UsageError as error:
            problems.append(str(error))
    if not problems and not resolved:
        problems.append("no activations are given; name at least one")
    if not problems:
        problems = [
            f"activation {one!r} is given twice"
            for number, one in enumerate(resolved)
            if any(one.is_same(other) for other in resolved[:number])
        ]
    raise_problems(problems)
    return tuple(resolved)


def get(spec: str | torch.nn.Module) -> torch.nn.Module:
    """Return the module that a spec names.

    Args:
        spec: A catalogue name (``"mish"``), a name with literal arguments
            (``"leaky_relu(negative_slope=0.2)"``), a formula (``"formula:x*tanh(softplus(x))"``, with
            parameters ``"formula:x*sigmoid(beta*x) with beta=1.5"``), ``"package.module:Name"`` or
            ``"file.py:Name"`` with or without arguments, or a module, which is returned as it is.

    Returns:
        A new module, or the module given.

    Raises:
        UsageError: The spec does not name an activation, or its arguments are not literals or are wrong.

    Examples:
        >>> get("leaky_relu(negative_slope=0.2)")
        LeakyReLU(negative_slope=0.2)
    """
    return spec if isinstance(spec, torch.nn.Module) else resolve(spec).build()


def resolve_definition(spec: str) -> Activation[Any]:
    """Return the definition that a spec names, at the parameters that it gives.

    Args:
        spec: As for :func:`get`; what is imported must be a definition, or its module.

    Returns:
        The definition, with the parameters as its example.

    Raises:
        UsageError: The spec does not name a definition, or its arguments are wrong.

    Examples:
        >>> resolve_definition("leaky_relu(negative_slope=0.2)").example
        {'negative_slope': 0.2}
    """
    activation = resolve(spec)
    target = activation.target
    defined = target if isinstance(target, Activation) else getattr(target, "activation", None)
    if not isinstance(defined, Activation) or (
        defined is not target and defined.module_class not in (target, type(target))
    ):
        raise UsageError(
            f"activation {spec!r} is not a definition; show needs one, but check and time accept any module"
        )
    if activation.args or activation.kwargs:
        return defined.at(read_parameters(activation.build().eval()))
    return defined.at(read_parameters(target.eval())) if isinstance(target, torch.nn.Module) else defined


def find_definition(name: str) -> Activation[Any]:
    """Return the definition that a name stands for, without importing anything.

    Args:
        name: A name in the catalogue, without arguments, or a formula such as ``"formula:x*tanh(x)"``.

    Raises:
        UsageError: There is none. The message suggests the nearest name or describes the problem.
    """
    if is_formula(name):
        from actlab.derivation.formula_activation import make_from_spec  # loads SymPy: 0.5 s

        return make_from_spec(name.strip())
    if name not in catalogue:
        suggestion = did_you_mean(name, catalogue) or "; actlab list prints all names"
        raise UsageError(f"unknown activation {name!r}{suggestion}")
    return catalogue[name]


def split_spec(spec: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Split a spec into its name and its literal arguments.

    Args:
        spec: The spec.

    Returns:
        The name, the positional and the named arguments; a formula is a name as a whole.

    Raises:
        UsageError: The arguments are not literals.

    Examples:
        >>> split_spec("elu(alpha=0.5)")
        ('elu', [], {'alpha': 0.5})
        >>> split_spec("formula:x*tanh(x)")
        ('formula:x*tanh(x)', [], {})
    """
    if not isinstance(spec, str):
        raise UsageError(f"activation {spec!r} must be a name or an nn.Module, not {type(spec).__name__}")
    if is_formula(spec):
        return spec.strip(), [], {}
    name, bracket, rest = spec.strip().partition("(")
    if not bracket:
        return name, [], {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise ValueError
        args = [ast.literal_eval(value) for value in call.args]
        kwargs = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
        if len(kwargs) != len(call.keywords):
            raise ValueError
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        hint = "arguments must be literals, as in 'leaky_relu(negative_slope=0.2)'"
        raise UsageError(f"activation {spec!r}: {hint}") from error
    return name.strip(), args, kwargs


def is_formula(spec: str) -> bool:
    """Whether a spec is a formula."""
    return spec.lstrip().startswith("formula:")


def is_import_path(name: str) -> bool:
    """Whether a name, as :func:`split_spec` returns it, is imported."""
    return ":" in name and not is_formula(name)


def _import_module(what: str, path: str) -> ModuleType:
    """Import a module by its name, or by the path of a ``.py`` file."""
    if path.endswith(".py") and not Path(path).is_file():
        raise UsageError(f"{what}: file {path!r} does not exist")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the command line's results
            return _load_file(Path(path)) if path.endswith(".py") else importlib.import_module(path)
    except _SelfImportError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what}: cannot import {path!r}: {summarize_error(error)}") from error


def _load_file(path: Path) -> ModuleType:
    if (this := (threading.get_ident(), path.resolve())) in _loading:
        advice = "put the activation into another file, or call actlab under `if __name__ == '__main__':`"
        problem = f"{path.name} imports itself, because it calls actlab when it is imported"
        raise _SelfImportError(f"{problem}; {advice}")
    name = path.stem
    while name in sys.modules:  # another module has this name
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # objects that it defines can then be pickled
    _loading.add(this)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _loading.remove(this)
    return module


def import_object(what: str, name: str) -> Any:
    """Import what ``"package.module:Name"``, ``"package.module:Class.method"`` or ``"file.py:Name"`` names.

    Args:
        what: What it is for; the error begins with it.
        name: The name.

    Raises:
        UsageError: It cannot be imported, or has no such attribute. The message has its own error, shortened.
    """
    path, _, attributes = name.rpartition(":")
    value: Any = _import_module(f"{what} {name!r}", path)
    for attribute in attributes.split("."):
        if not hasattr(value, attribute):
            public = [name for name in dir(value) if not name.startswith("_")]
            raise UsageError(f"{what} {name!r}: {attribute!r} not found{did_you_mean(attribute, public)}")
        value = getattr(value, attribute)
    return value


def inspect_parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a callable, by name; none if it has no signature."""
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # callables written in C may have none
        return {}


class CallableModule(torch.nn.Module):
    """A function from tensor to tensor as a module.

    Args:
        function: The function, or an ``autograd.Function``, which is applied.
        **options: Further arguments of each call.
    """

    def __init__(self, function: Callable[..., torch.Tensor], **options: Any) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function."""
        if isinstance(self.function, type):
            return self.function.apply(x, **self.options)  # type: ignore[attr-defined, no-any-return]
        return self.function(x, **self.options)


def is_autograd_function(value: Any) -> bool:
    """Return whether a value is a subclass of ``autograd.Function``."""
    return isinstance(value, type) and issubclass(value, torch.autograd.Function)


def _is_tensor_function(target: Any) -> bool:
    """Whether it is a function of a tensor; a function that makes a module needs no argument."""
    if is_autograd_function(target):
        return True
    if not isinstance(target, FunctionType):
        return False
    first = next(iter(inspect_parameters(target).values()), None)
    return first is not None and first.default is first.empty and first.kind < first.VAR_POSITIONAL


def _find_factory(spec: str, target: Any) -> Callable[..., Any]:
    """Return what makes the module of a target."""
    if isinstance(target, Activation):
        if target.module_class is None:
            raise UsageError(f"activation {spec!r} has no module; make one with its .module('Name')")
        return target.module_class
    if isinstance(target, torch.nn.Module):
        return lambda: target
    if _is_tensor_function(target):
        return functools.partial(CallableModule, target)
    if not callable(target):
        raise UsageError(f"activation {spec!r}: a value of type {type(target).__name__} is not callable")
    return target  # type: ignore[no-any-return]


def _find_spec(value: Any) -> str | None:
    """Return the spec that stands for a definition; None if no spec does."""
    if not isinstance(value, Activation):
        return None
    if catalogue.get(value.name) is value:
        return value.name
    from actlab.derivation.formula_activation import FormulaActivation, make_from_spec

    if not isinstance(value, FormulaActivation):
        return None
    recipe = value.recipe
    parameters = ", ".join(f"{name}={number!r}" for name, number in recipe.parameters)
    spec = f"formula:{recipe.text}" + f" with {parameters}" * bool(parameters)
    return spec if make_from_spec(spec).recipe == recipe else None


def _describe_problem(value: Any) -> str:
    """Describe a value without a spec, and how to name it."""
    if isinstance(value, Activation):
        if (recipe := getattr(value, "recipe", None)) is None:
            problem = f"the activation {value.name!r}, which is not in the catalogue"
            return f"{problem}; pass its name: {_suggest_import_names(value)}"
        hint = f"put it into a file and pass its name: '{_EXAMPLE_FILE}:{value.name}'"
        return f"{recipe}, which a formula spec cannot express completely; {hint}"
    if isinstance(value, torch.nn.Module):
        return f"an instance of {type(value).__name__}; pass its name: {_suggest_import_names(type(value))}"
    if isinstance(value, type) and issubclass(value, torch.nn.Module | torch.autograd.Function):
        return f"the class {value.__name__}; pass its name: {_suggest_import_names(value)}"
    if isinstance(value, FunctionType) and value.__name__ != "<lambda>":
        return f"the function {value.__name__}; pass its name: {_suggest_import_names(value)}"
    if callable(value):
        kind = "lambda" if isinstance(value, FunctionType) else type(value).__name__
        return f"a {kind}; write it as a function in a file and pass its name: '{_EXAMPLE_FILE}:name'"
    return f"{value!r}, not a spec such as 'relu'"


def _suggest_import_names(value: Any) -> str:
    """Return the specs by which a module's class, a function or a definition can be imported."""
    inner = value.__wrapped__ if isinstance(value, Activation) else value
    module, name = inner.__module__, inner.__name__
    if getattr(torch.nn, name, None) is value:
        module = "torch.nn"
    importable = module != "__main__" and getattr(sys.modules.get(module), name, None) is value
    return f"'{module}:{name}' or '{_EXAMPLE_FILE}:Name'" if importable else f"'{_EXAMPLE_FILE}:{name}'"
