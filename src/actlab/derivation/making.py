"""A line of text becomes an activation like any other."""

from __future__ import annotations

import ast
import functools
import inspect
import keyword
import math
import multiprocessing
import numbers
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from torch import nn

from actlab.activation.definition import Activation, Facts
from actlab.activation.module import ActivationModule
from actlab.derivation.derived import derive
from actlab.derivation.modules import make_formula_module
from actlab.derivation.syntax.builtins import FUNCTIONS, WHERE
from actlab.derivation.syntax.domain import check_defined, check_kinks
from actlab.derivation.syntax.errors import error_at
from actlab.derivation.syntax.parser import Parsed, parse
from actlab.derivation.syntax.to_sympy import expression
from actlab.derivation.syntax.tokenizer import to_one_line
from actlab.errors import FormulaWarning, UsageError, did_you_mean

_LONGEST_NAME = 40
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_STEP = re.compile(r"v\d+")  # what a printed program calls its steps
# What printed code and modules have already.
_TAKEN = frozenset(
    "x pi inf nan torch nn numerics kernels elementwise activation_module input self init device dtype "
    "inplace".split()
)
_OF_MODULES = frozenset({*dir(nn.Module()), *dir(ActivationModule)})
_VALUE = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>[-+]?[\w.]+(?:[eE][-+]?\d+)?)\s*", re.ASCII)


@dataclass(frozen=True)
class Recipe:
    """All that a formula's activation is made of: it is made again from it in another process.

    Attributes:
        text: The formula, in one line.
        name: The activation's name.
        parameters: Names and values.
        trainable: Which of them a module trains.
        at: Kinks and the derivatives chosen there.
    """

    text: str
    name: str
    parameters: tuple[tuple[str, float], ...] = ()
    trainable: tuple[str, ...] = ()
    at: tuple[tuple[float, float], ...] = ()

    def __str__(self) -> str:
        """Return the call that makes it."""
        given = [repr(self.text)]
        if self.name != default_name(self.text):
            given.append(f"name={self.name!r}")
        given += [f"parameters={dict(self.parameters)!r}"] * bool(self.parameters)
        given += [f"trainable={self.trainable!r}"] * bool(self.trainable)
        given += [f"at={dict(self.at)!r}"] * bool(self.at)
        return f"actlab.formula({', '.join(given)})"


class FormulaActivation(Activation[...]):
    """An activation made from a line of text, by :func:`formula`.

    Attributes:
        recipe: What it was made from.
        expression: The formula as SymPy.
        inexact: Sentences about stretches of the line where a bound on the error is not met.
    """

    def __init__(self, recipe: Recipe, expression: sympy.Expr) -> None:
        self.recipe, self.expression = recipe, expression
        parameters = dict(recipe.parameters)
        derived = derive(expression, parameters, trainable=recipe.trainable, at=dict(recipe.at))
        self.inexact: tuple[str, ...] = tuple(derived.inexact)
        facts = Facts(
            formula=recipe.text,
            limits=derived.limits,
            slopes=derived.slopes,
            range=derived.range,
            monotonic=derived.monotonic,
            paper="made from its formula",
            saves=derived.saves,
            error_scale=derived.error_scale,
            kinks=derived.kinks,
        )
        super().__init__(_face(recipe), facts)
        self.formulas.forward = derived.forward
        self.derivative(derived.derivative)
        if derived.torch_operation is not None:
            self.torch_operation(derived.torch_operation)
        if derived.second is not None:
            self.second(derived.second)
        for name, program in derived.partials.items():
            self.partial(name)(program)
        self._complete(make_formula_module(self, recipe.trainable))

    @property
    def made_of(self) -> tuple[Any, ...]:
        """What alone decides its values: its recipe but for the name."""
        recipe = self.recipe
        return recipe.text, recipe.parameters, recipe.trainable, recipe.at

    def source(self) -> str:
        """Return the activation as Python, to be pasted into a file of your own.

        Returns:
            A module's text: the function with its derivatives, and its ``nn.Module``. It computes the same
            bits.

        Examples:
            >>> print(formula("x * sigmoid(x)", name="swish").source().splitlines()[0])
            import torch
        """
        from actlab.derivation.source import source

        return source(self, self.recipe.trainable)

    def latex(self) -> tuple[str, str, str]:
        """Return the function and its first and second derivative in LaTeX.

        Examples:
            >>> formula("x**2 * exp(x)").latex()[0]
            'x^{2} e^{x}'
        """
        from actlab.derivation.latex import latex

        return latex(self.expression)

    def __repr__(self) -> str:
        return f"<activation {self.name}: {self.recipe.text}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return made, (self.recipe,)


def formula(
    text: str,
    *,
    name: str | None = None,
    parameters: Mapping[str, float] | None = None,
    trainable: Iterable[str] = (),
    at: Mapping[float, float] | None = None,
) -> FormulaActivation:
    """Make an activation from a line of text.

    Args:
        text: The formula in ``x`` and the parameters, as Python writes arithmetic: the usual functions,
            ``where(x > 0, a, b)``, ``min``, ``max``, ``abs``, ``clip(x, low, high)``, ``pi``, and any
            function of the catalogue with its parameters in order, such as ``elu(x, 0.5)``.
        name: What to call it; made of the text when left out.
        parameters: Its parameters, and their values when nothing else is said.
        trainable: Which of them its module trains.
        at: The derivative at kinks, instead of the one that follows from the formula: ``{0: 0.5}`` for
            ``max(x, 0)``.

    Returns:
        The activation, with derivatives, module and everything else that one of the catalogue has, and with
        ``.source()`` and ``.latex()``. The same arguments give the same object.

    Raises:
        UsageError: The text is no formula, or not a real number on all of the line; the message shows where.

    Examples:
        >>> import torch
        >>> swish = formula("x * sigmoid(beta * x)", name="my_swish", parameters={"beta": 1.5})
        >>> swish(torch.tensor([-1.0, 2.0]))
        tensor([-0.1824,  1.9051])
        >>> swish.module_class()
        MySwish(beta=1.5)
    """
    activation = made(_recipe(text, name, parameters, trainable, at))
    _tell(activation)
    return activation


def _tell(activation: FormulaActivation) -> None:
    """Say where a bound is not met; a worker's person has been told already."""
    if activation.inexact and multiprocessing.parent_process() is None:
        first, *rest = activation.inexact
        more = f"; .inexact has {len(rest)} more" if rest else ""
        warnings.warn(f"formula {activation.recipe.text}: {first}{more}", FormulaWarning, stacklevel=3)


@functools.lru_cache(512)
def made(recipe: Recipe) -> FormulaActivation:
    """Return the activation of a recipe, made once in a process."""
    parameters = dict(recipe.parameters)
    parsed = parse(recipe.text, ("x", *parameters))
    found = expression(parsed)
    _check_names(parsed, parameters)
    if not found.has(sympy.Symbol("x", real=True)):
        parsed.refuse(parsed.tree, "x cancels out: the value is the same everywhere")
    check_defined(parsed, parameters)
    check_kinks(parsed, parameters, [point for point, _ in recipe.at])
    return FormulaActivation(recipe, found)


@functools.lru_cache(512)
def from_spec(spec: str) -> FormulaActivation:
    """Return the activation of a spec.

    Args:
        spec: ``"formula:x*tanh(softplus(x))"``, with values of parameters after ``with``:
            ``"formula:x*sigmoid(beta*x) with beta=1.5"``, several parted by commas.

    Raises:
        UsageError: As :func:`formula`.

    Examples:
        >>> from_spec("formula: a*x + b*x**3 with a=1, b=-0.1").parameters
        {'a': 1.0, 'b': -0.1}
    """
    line = to_one_line(spec.strip().removeprefix("formula:"))
    text, *rest = re.split(r"\bwith\b", line, maxsplit=1)
    parameters: dict[str, float] = {}
    place = len(line) - len(rest[0]) if rest else 0
    for part in rest[0].split(",") if rest else ():
        found = _VALUE.fullmatch(part)
        try:
            value = float(found["value"]) if found else math.nan
        except ValueError:
            value = math.nan
        if found is None or math.isnan(value) or found["name"] in parameters:
            problem = "formula: after 'with' stand parameters with their values, such as beta=1.5, gamma=2"
            raise error_at(problem, line, place, place + max(len(part), 1))
        parameters[found["name"]] = value
        place += len(part) + 1
    activation = made(_recipe(text, None, parameters, (), None))
    _tell(activation)
    return activation


def default_name(text: str) -> str:
    """Return a name for a formula: its names and numbers.

    Examples:
        >>> default_name("x * tanh(softplus(x))"), default_name("2*x")
        ('x_tanh_softplus_x', 'f_2_x')
    """
    words = "_".join(re.findall(r"[A-Za-z0-9]+", text))[:_LONGEST_NAME].strip("_")
    name = words if _NAME.fullmatch(words) else f"f_{words}".strip("_")
    return f"f_{name}" if keyword.iskeyword(name) or name in _TAKEN else name


def _recipe(
    text: str,
    name: str | None,
    parameters: Mapping[str, float] | None,
    trainable: Iterable[str],
    at: Mapping[float, float] | None,
) -> Recipe:
    line = " ".join(to_one_line(text).split())
    for parameter in parameters or ():
        if problem := _parameter_problem(parameter):
            raise UsageError(f"formula: parameter {parameter!r} {problem}")
    if name is not None and (problem := _name_problem(name)):
        raise UsageError(f"formula: name {name!r} {problem}")
    values = tuple((key, _finite(f"parameter {key!r}", value)) for key, value in (parameters or {}).items())
    if isinstance(trainable, str):
        raise UsageError(f"formula: trainable is {trainable!r}, not a list of names such as [{trainable!r}]")
    trained = tuple(dict.fromkeys(trainable))
    for one in trained:
        if one not in dict(values):
            near = did_you_mean(str(one), dict(values)) or f"; it has {list(dict(values)) or 'none'}"
            raise UsageError(f"formula: trainable has {one!r}, which is no parameter{near}")
    points = [
        (_finite("a point of at", x), _finite(f"the derivative at {x!r}", y)) for x, y in (at or {}).items()
    ]
    return Recipe(line, name or default_name(line), values, trained, tuple(sorted(points)))


def _finite(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise UsageError(f"formula: {what} is {value!r}, not a finite number")
    return float(value)


def _name_problem(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "is no name: it has letters, digits and single underscores, and begins with a letter"
    if keyword.iskeyword(name):
        return "is a word of Python"
    return "is taken" if name in _TAKEN or _STEP.fullmatch(name) else ""


def _parameter_problem(name: object) -> str:
    if problem := _name_problem(name):
        return {"x": "is the input"}.get(str(name), problem)
    if name in FUNCTIONS or name == WHERE:
        return "is a function"
    return "is taken: every module has it" if name in _OF_MODULES else ""


def _check_names(parsed: Parsed, parameters: Mapping[str, float]) -> None:
    """Refuse a formula without ``x``, and a parameter that is not in it."""
    names = {node.id for node in ast.walk(parsed.tree) if isinstance(node, ast.Name)}
    for name in parameters:
        if name not in names:
            parsed.refuse(parsed.tree, f"parameter {name!r} is not in it")
    if "x" not in names:
        parsed.refuse(parsed.tree, "has no x: the value is the same everywhere")


def _face(recipe: Recipe) -> Any:
    """Return what an activation has of its function: a name, a docstring and a signature."""

    def forward(x: Any, *values: Any) -> Any:
        raise NotImplementedError  # the program is called instead

    said = {name: "trained" if name in recipe.trainable else "a number" for name, _ in recipe.parameters}
    lines = [f"``{recipe.text}``, made from its formula.", "", "Args:", "    x: The input."]
    forward.__doc__ = "\n".join(
        [*lines, *(f"    {name}: A parameter, {what}." for name, what in said.items())]
    )
    forward.__name__ = forward.__qualname__ = recipe.name
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    takes = [inspect.Parameter(name, kind, default=value) for name, value in recipe.parameters]
    signature = inspect.Signature([inspect.Parameter("x", kind), *takes])
    forward.__signature__ = signature  # type: ignore[attr-defined]
    return forward
