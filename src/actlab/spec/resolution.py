"""Resolve each activation once, to an object that everything else passes on."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from actlab.activation.definition import Activation
from actlab.activation.module import read_parameters
from actlab.errors import UsageError, raise_problems, summarize_error
from actlab.spec.objects import (
    FunctionModule,
    choose_names,
    copy_module,
    find_spec,
    inspect_parameters,
    is_tensor_function,
    name_object,
    shorten_repr,
)
from actlab.spec.text import find_target

_LONGEST_NAME = 80  # characters of a name that the user chooses
_KINDS = "a name such as 'relu', an nn.Module, its class, or a function"


@dataclass(frozen=True, eq=False, repr=False)
class ResolvedActivation:
    """An activation: what a spec names, or a Python object.

    It is immutable, so a copy is the object itself. The pickle of a spec holds the spec, which is resolved
    again where it is loaded. The pickle of an object holds the object.

    Attributes:
        name: The name in tables and messages, which is the spec if there is one and no other name is given.
        spec: The spec; None for an object.
        target: A definition, or the object: a module, its class, a function or an ``autograd.Function``.
        is_own: Whether the target is an object or imported, not from the catalogue or a formula.
        args: Literal positional arguments of its module.
        kwargs: Literal named arguments of its module.
    """

    name: str
    spec: str | None
    target: Any
    is_own: bool
    args: list[Any] = field(default_factory=list)
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Any:
        """The spec, or the object if there is no spec. It determines the results."""
        return self.target if self.spec is None else self.spec

    @property
    def is_elementwise(self) -> bool:
        """Whether it is element-wise by definition; a user's own object may be anything."""
        return not self.is_own and not self.target.facts.gated

    def build(self, **options: Any) -> nn.Module:
        """Build a new module. The copy of a module has the parameters and buffers that the module has.

        Args:
            **options: Arguments for a constructor that has parameters of these names, unless the spec has
                them.

        Raises:
            UsageError: The arguments are wrong, or the target does not build a module.
        """
        factory = _find_factory(self.name, self.target)
        accepted = inspect_parameters(factory) if options else {}
        kwargs = {name: value for name, value in options.items() if name in accepted} | {**self.kwargs}
        try:
            module = factory(*self.args, **kwargs)
        except UsageError:
            raise
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise UsageError(f"activation {self.name!r}: {error}") from error
        except Exception as error:  # raised by the user's constructor
            raise UsageError(f"activation {self.name!r}: {summarize_error(error)}") from error
        if not isinstance(module, nn.Module):
            name, kind = self.name.partition("(")[0].strip(), type(module).__name__
            raise UsageError(f"activation {self.name!r}: {name} returns a {kind}, not an nn.Module")
        return module

    def is_same(self, other: ResolvedActivation) -> bool:
        """Whether two specs, such as ``"relu"`` and ``"relu()"``, or two objects are one activation."""
        if (self.spec is None) != (other.spec is None):
            return False
        return (self.target, self.args, self.kwargs) == (other.target, other.args, other.kwargs)

    def __eq__(self, other: object) -> bool:
        """Compare the spec with another, which may be text: ``net.module__activation == "tanh"``."""
        if isinstance(other, ResolvedActivation):
            return self.name == other.name and self.is_same(other)
        return self.spec is not None and self.spec == other

    def __hash__(self) -> int:
        return hash(self.spec)

    def __repr__(self) -> str:
        return repr(self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> ResolvedActivation:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.spec is None:
            return ResolvedActivation, (self.name, None, self.target, self.is_own)
        return resolve, (self.spec, self.name)


ActivationLike = (
    str
    | ResolvedActivation
    | Activation[...]
    | nn.Module
    | type[nn.Module]
    | type[torch.autograd.Function]
    | Callable[[Tensor], Tensor]
)


def resolve(value: ActivationLike, name: str | None = None) -> ResolvedActivation:
    """Resolve a spec or an object to an activation.

    Args:
        value: A spec, as for :func:`get`; a definition; a module, whose current state is copied; a class of
            modules; an ``autograd.Function``; a function from tensor to tensor; or a function without
            arguments that makes a module. A resolved activation is returned as it is.
        name: Its name (default: the spec, or the short name of the object).

    Raises:
        UsageError: It is not an activation, cannot be copied, or the arguments in a spec are not literals.

    Examples:
        >>> resolve("leaky_relu(negative_slope=0.2)").build()
        LeakyReLU(negative_slope=0.2)
        >>> resolve(torch.sin), resolve(torch.nn.LeakyReLU(0.2)), resolve(torch.nn.Tanh, "mine")
        ('sin', 'LeakyReLU', 'mine')
    """
    if isinstance(value, ResolvedActivation):
        return value if name is None else dataclasses.replace(value, name=name)
    spec = find_spec(value) if isinstance(value, Activation) else value
    if isinstance(spec, str):
        return ResolvedActivation(name or spec, spec, *find_target(spec))
    if not callable(value):
        raise UsageError(f"{shorten_repr(value)} is not an activation; pass {_KINDS}")
    name = name or name_object(value)
    return ResolvedActivation(name, None, _copy(value, name), is_own=True)


def resolve_all(
    activations: Iterable[ActivationLike] | Mapping[str, ActivationLike],
) -> tuple[ResolvedActivation, ...]:
    """Resolve different activations, and give each a unique name.

    Args:
        activations: A list of values that :func:`resolve` takes, or a dictionary from names to such values.

    Raises:
        UsageError: The argument is neither a list nor a dictionary, an element is not an activation, a name
            cannot be used, or two activations are the same. The message names all problems.

    Examples:
        >>> import actlab
        >>> resolve_all(["relu", actlab.functional.mish, actlab.formula("x*sin(a*x)", parameters={"a": 2})])
        ('relu', 'mish', 'formula:x*sin(a*x) with a=2.0')
        >>> resolve_all([torch.nn.ReLU(), torch.nn.LeakyReLU(0.1), torch.nn.LeakyReLU(0.2), torch.sin])
        ('ReLU', 'LeakyReLU(negative_slope=0.1)', 'LeakyReLU(negative_slope=0.2)', 'sin')
        >>> resolve_all({"line": torch.nn.Identity(), "curve": "tanh"})
        ('line', 'curve')
    """
    if isinstance(activations, str | nn.Module) or not isinstance(activations, Iterable):
        shown = name_object(activations) if callable(activations) else shorten_repr(activations)
        raise UsageError(f"activations is {shown}, not a list such as ['relu', torch.nn.Tanh()]")
    by_name = isinstance(activations, Mapping)
    entries = list(activations.items() if isinstance(activations, Mapping) else enumerate(activations))
    resolved: list[ResolvedActivation] = []
    problems = []
    for key, value in entries:
        try:
            if by_name and (problem := find_name_problem(key)):
                raise UsageError(problem)
            resolved.append(resolve(value, key if by_name else None))
        except UsageError as error:
            is_spec = isinstance(value, str | ResolvedActivation)
            problems.append(str(error) if is_spec else f"activations[{key!r}]: {error}")
    if not problems and not resolved:
        problems.append("no activations are given; name at least one")
    if not problems:
        problems = list(_find_duplicates([value for _, value in entries], resolved, by_name))
    raise_problems(problems)
    return tuple(resolved if by_name else _name_objects(resolved))


def find_name_problem(name: object) -> str:
    """Return the problem with a name that the user chose; an empty string if there is none."""
    if isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= _LONGEST_NAME:
        return ""
    return f"a name must be printable text of 1 to {_LONGEST_NAME} characters, got {shorten_repr(name)}"


def _find_duplicates(
    values: Sequence[Any], resolved: Sequence[ResolvedActivation], by_name: bool
) -> Iterator[str]:
    for number, one in enumerate(resolved):
        for earlier, other in enumerate(resolved[:number]):
            if values[number] is values[earlier] or one.is_same(other):
                twice = f"activation {one!r} is given twice"
                yield f"activations {other!r} and {one!r} are the same" if by_name else twice
                break


def _name_objects(resolved: list[ResolvedActivation]) -> list[ResolvedActivation]:
    """Return the activations with unique names; specs keep theirs."""
    objects = [one for one in resolved if one.spec is None]
    if not objects:
        return resolved
    taken = [one.name for one in resolved if one.spec is not None]
    names = iter(choose_names([one.target for one in objects], taken))
    return [resolve(one, next(names)) if one.spec is None else one for one in resolved]


def get(spec: ActivationLike) -> nn.Module:
    """Return the module of an activation.

    Args:
        spec: A catalogue name (``"mish"``), a name with literal arguments
            (``"leaky_relu(negative_slope=0.2)"``), a formula (``"formula:x*tanh(softplus(x))"``, with
            parameters ``"formula:x*sigmoid(beta*x) with beta=1.5"``), ``"package.module:Name"`` or
            ``"file.py:Name"`` with or without arguments; a definition, a class or a function; or a module,
            which is returned as it is.

    Returns:
        A new module, or the module given.

    Raises:
        UsageError: It is not an activation, or the arguments in a spec are not literals or are wrong.

    Examples:
        >>> get("leaky_relu(negative_slope=0.2)"), get(torch.sin)
        (LeakyReLU(negative_slope=0.2), FunctionModule(sin))
    """
    return spec if isinstance(spec, nn.Module) else resolve(spec).build()


def resolve_definition(value: ActivationLike) -> Activation[Any]:
    """Return the definition of a spec or an object, with its parameters.

    Args:
        value: As for :func:`get`; an object, imported or given, must be a definition or its module.

    Returns:
        The definition, with the parameters as its example.

    Raises:
        UsageError: It is not a definition, or the arguments are wrong.

    Examples:
        >>> resolve_definition("leaky_relu(negative_slope=0.2)").example
        {'negative_slope': 0.2}
    """
    activation = resolve(value)
    target = activation.target
    defined = target if isinstance(target, Activation) else getattr(target, "activation", None)
    if not isinstance(defined, Activation) or (
        defined is not target and defined.module_class not in (target, type(target))
    ):
        raise UsageError(
            f"activation {activation.name!r} is not a definition; show and explore need one, such as "
            "'formula:x*tanh(x)', but check and time accept any module"
        )
    if activation.args or activation.kwargs:
        return defined.at(read_parameters(activation.build().eval()))
    return defined.at(read_parameters(target.eval())) if isinstance(target, nn.Module) else defined


def _find_factory(name: str, target: Any) -> Callable[..., Any]:
    """Return what makes the module of a target."""
    if isinstance(target, Activation):
        if target.module_class is None:
            raise UsageError(f"activation {name!r} has no module; make one with its .module('Name')")
        return target.module_class
    if isinstance(target, nn.Module):
        return lambda: _copy(target, name)
    if not callable(target):
        raise UsageError(f"activation {name!r}: a value of type {type(target).__name__} is not callable")
    return functools.partial(FunctionModule, target) if is_tensor_function(target) else target


def _copy(value: Any, name: str) -> Any:
    """Return a deep copy of an object; return functions and classes unchanged."""
    try:
        return copy_module(value) if isinstance(value, nn.Module) else copy.deepcopy(value)
    except Exception as error:  # raised by the user's attributes
        raise UsageError(f"activation {name!r} cannot be copied: {summarize_error(error)}") from error
