"""Make an activation from a formula given as text."""

from __future__ import annotations

import ast
import contextlib
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
from actlab.activation.module import PartlyTrainedModule
from actlab.derivation.analysis.kinks import NoKink
from actlab.derivation.formula_derivation import derive
from actlab.derivation.formula_module import make_formula_module
from actlab.derivation.syntax.builtin_functions import FUNCTIONS, WHERE
from actlab.derivation.syntax.domain_check import check_defined
from actlab.derivation.syntax.error_position import make_error_at
from actlab.derivation.syntax.parser import parse_formula
from actlab.derivation.syntax.to_sympy import X, to_expression
from actlab.derivation.syntax.tokenizer import to_one_line
from actlab.errors import FormulaWarning, UsageError, did_you_mean

_LONGEST_NAME = 40
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_STEP = re.compile(r"v\d+")  # the names of steps in the source
# Names that the source and modules use.
_RESERVED = frozenset(
    "x pi inf nan torch nn numerics elementary elementwise activation_module input self init device dtype "
    "inplace".split()
)
_MODULE_ATTRIBUTES = frozenset({*dir(nn.Module()), *dir(PartlyTrainedModule), "starts"})
_ASSIGNMENT = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>[-+]?[\w.]+(?:[eE][-+]?\d+)?)\s*", re.ASCII)


@dataclass(frozen=True)
class Recipe:
    """The arguments that make the same activation in any process.

    Attributes:
        text: The formula, in one line.
        name: The activation's name.
        parameters: The names and default values of the parameters.
        trainable: The names of the parameters that a module trains.
        at: Kinks and the derivatives chosen there.
    """

    text: str
    name: str
    parameters: tuple[tuple[str, float], ...] = ()
    trainable: tuple[str, ...] = ()
    at: tuple[tuple[float, float], ...] = ()

    def __str__(self) -> str:
        """Return the call of :func:`formula`."""
        options = {
            "name": self.name if self.name != make_name(self.text) else None,
            "parameters": dict(self.parameters),
            "trainable": self.trainable,
            "at": dict(self.at),
        }
        written = [f"{option}={value!r}" for option, value in options.items() if value]
        return f"actlab.formula({', '.join([repr(self.text), *written])})"


class FormulaActivation(Activation[...]):
    """An activation that :func:`formula` made.

    Attributes:
        recipe: The arguments that it was made from.
        expression: The formula in SymPy.
        inexact: One sentence for each interval in which an error exceeds its bound.
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
        super().__init__(_make_prototype(recipe), facts)
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
        """The recipe without the name, which determines the values."""
        recipe = self.recipe
        return recipe.text, recipe.parameters, recipe.trainable, recipe.at

    def source(self) -> str:
        """Return the activation as Python source code.

        Returns:
            The function with its derivatives, and its ``nn.Module``. The code computes bitwise identical
            results.

        Examples:
            >>> print(formula("x * sigmoid(x)", name="swish").source().splitlines()[0])
            import torch
        """
        from actlab.derivation.python_source import write_source

        return write_source(self, self.recipe.trainable)

    def latex(self) -> tuple[str, str, str]:
        """Return the function and its first and second derivative in LaTeX.

        Examples:
            >>> formula("x**2 * exp(x)").latex()[0]
            'x^{2} e^{x}'
        """
        from actlab.derivation.latex import to_latex

        return to_latex(self.expression)

    def __repr__(self) -> str:
        return f"<activation {self.name}: {self.recipe.text}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return make_activation, (self.recipe,)


def formula(
    text: str,
    *,
    name: str | None = None,
    parameters: Mapping[str, float] | None = None,
    trainable: Iterable[str] = (),
    at: Mapping[float, float] | None = None,
) -> FormulaActivation:
    """Make an activation from a formula given as text.

    Args:
        text: The formula in ``x`` and the parameters, in Python's arithmetic with the usual functions,
            ``where(x > 0, a, b)``, ``min``, ``max``, ``abs``, ``clip(x, low, high)``, ``pi``, and every
            function in the catalogue with its parameters in order, such as ``elu(x, 0.5)``.
        name: The activation's name (default: derived from the text).
        parameters: The names and default values of the parameters.
        trainable: The names of the parameters that the module trains.
        at: The derivatives at kinks, instead of those that follow from the formula, such as ``{0: 0.5}``
            for ``max(x, 0)``.

    Returns:
        The activation, with derivatives, a module and everything else that an activation in the catalogue
        has, and with ``.source()`` and ``.latex()``. The same arguments return the same object.

    Raises:
        UsageError: The text is not a formula, or has no real value at some point. The message shows the
            position.

    Examples:
        >>> import torch
        >>> swish = formula("x * sigmoid(beta * x)", name="my_swish", parameters={"beta": 1.5})
        >>> swish(torch.tensor([-1.0, 2.0]))
        tensor([-0.1824,  1.9051])
        >>> swish.module_class()
        MySwish(beta=1.5)
    """
    activation = make_activation(_make_recipe(text, name, parameters or {}, trainable, at or {}))
    _warn_if_inexact(activation)
    return activation


def _warn_if_inexact(activation: FormulaActivation) -> None:
    # A worker process stays silent: its parent has already issued the warning.
    if activation.inexact and multiprocessing.parent_process() is None:
        first, *rest = activation.inexact
        more = f"; .inexact has {len(rest)} more" if rest else ""
        warnings.warn(f"formula {activation.recipe.text}: {first}{more}", FormulaWarning, stacklevel=3)


@functools.lru_cache(512)
def make_activation(recipe: Recipe) -> FormulaActivation:
    """Make the activation of a recipe, once per process."""
    parameters = dict(recipe.parameters)
    parsed = parse_formula(recipe.text, ("x", *parameters))
    expression = to_expression(parsed)
    names = {node.id for node in ast.walk(parsed.tree) if isinstance(node, ast.Name)}
    for name in parameters:
        if name not in names:
            parsed.refuse(parsed.tree, f"parameter {name!r} does not occur in the formula")
    if "x" not in names:
        parsed.refuse(parsed.tree, "x does not occur: the value is the same everywhere")
    if not expression.has(X):
        parsed.refuse(parsed.tree, "x cancels out: the value is the same everywhere")
    check_defined(parsed, parameters)
    try:
        return FormulaActivation(recipe, expression)
    except NoKink as error:
        parsed.refuse(parsed.tree, str(error))


@functools.lru_cache(512)
def make_from_spec(spec: str) -> FormulaActivation:
    """Make the activation of a spec.

    Args:
        spec: A formula such as ``"formula:x*tanh(softplus(x))"``. Values of parameters follow ``with``,
            separated by commas: ``"formula:a*x + b*x**3 with a=1, b=-0.1"``.

    Raises:
        UsageError: As for :func:`formula`.

    Examples:
        >>> make_from_spec("formula: a*x + b*x**3 with a=1, b=-0.1").parameters
        {'a': 1.0, 'b': -0.1}
    """
    line = to_one_line(spec.strip().removeprefix("formula:"))
    text, *rest = re.split(r"\bwith\b", line, maxsplit=1)
    parameters: dict[str, float] = {}
    start = len(line) - len(rest[0]) if rest else 0
    for part in rest[0].split(",") if rest else ():
        match = _ASSIGNMENT.fullmatch(part)
        value = math.nan
        with contextlib.suppress(ValueError):
            value = float(match["value"]) if match else math.nan
        if match is None or math.isnan(value) or match["name"] in parameters:
            problem = "formula: write parameters and their values after 'with', such as beta=1.5, gamma=2"
            raise make_error_at(problem, line, start, start + max(len(part), 1))
        parameters[match["name"]] = value
        start += len(part) + 1
    activation = make_activation(_make_recipe(text, None, parameters, (), {}))
    _warn_if_inexact(activation)
    return activation


def make_name(text: str) -> str:
    """Return a name for a formula, composed of its names and numbers.

    Examples:
        >>> make_name("x * tanh(softplus(x))"), make_name("2*x")
        ('x_tanh_softplus_x', 'f_2_x')
    """
    words = "_".join(re.findall(r"[A-Za-z0-9]+", text))[:_LONGEST_NAME].strip("_")
    name = words if _NAME.fullmatch(words) else f"f_{words}".strip("_")
    return f"f_{name}" if keyword.iskeyword(name) or name in _RESERVED else name


def _make_recipe(
    text: str,
    name: str | None,
    parameters: Mapping[str, float],
    trainable: Iterable[str],
    at: Mapping[float, float],
) -> Recipe:
    line = " ".join(to_one_line(text).split())
    for argument, value in (("parameters", parameters), ("at", at)):
        if not isinstance(value, Mapping):
            raise UsageError(f"formula: {argument} must be a dictionary, got {value!r}")
    for parameter in parameters:
        if problem := _check_parameter(parameter):
            raise UsageError(f"formula: parameter {parameter!r} {problem}")
    if name is not None and (problem := _check_name(name)):
        raise UsageError(f"formula: name {name!r} {problem}")
    values = {key: _to_finite(f"parameter {key!r}", value) for key, value in parameters.items()}
    if isinstance(trainable, str) or not isinstance(trainable, Iterable):
        names = [trainable] if isinstance(trainable, str) else list(values) or ["alpha"]
        raise UsageError(f"formula: trainable must be a list of names such as {names}, got {trainable!r}")
    trainable = tuple(dict.fromkeys(trainable))
    for one in trainable:
        if one not in values:
            near = did_you_mean(str(one), values) or f"; the formula has {list(values) or 'no parameters'}"
            raise UsageError(f"formula: trainable contains {one!r}, which is not a parameter{near}")
    points = [
        (_to_finite("a point of at", x), _to_finite(f"the derivative at {x!r}", y)) for x, y in at.items()
    ]
    return Recipe(line, name or make_name(line), tuple(values.items()), trainable, tuple(sorted(points)))


def _to_finite(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise UsageError(f"formula: {what} must be a finite number, got {value!r}")
    return float(value)


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "is not a valid name: use letters, digits and single underscores, and start with a letter"
    if keyword.iskeyword(name):
        return "is a Python keyword"
    return "is taken" if name in _RESERVED or _STEP.fullmatch(name) else ""


def _check_parameter(name: object) -> str:
    if name == "x":
        return "is the input"
    if problem := _check_name(name):
        return problem
    if name in FUNCTIONS or name == WHERE:
        return "is a function"
    return "is reserved: every module has an attribute with this name" if name in _MODULE_ATTRIBUTES else ""


def _make_prototype(recipe: Recipe) -> Any:
    """Return a function with the name, the docstring and the signature of the activation."""

    def forward(x: Any, *values: Any) -> Any:
        raise NotImplementedError  # the program is called instead

    parameters = dict(recipe.parameters)
    kinds = {name: "trained" if name in recipe.trainable else "a number" for name in parameters}
    lines = [f"``{recipe.text}``, made from its formula.", "", "Args:", "    x: The input."]
    forward.__doc__ = "\n".join(
        [*lines, *(f"    {name}: A parameter, {kind}." for name, kind in kinds.items())]
    )
    forward.__name__ = forward.__qualname__ = recipe.name
    make_parameter = functools.partial(inspect.Parameter, kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [make_parameter("x"), *(make_parameter(name, default=value) for name, value in parameters.items())]
    )
    return forward
