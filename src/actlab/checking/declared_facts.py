"""The facts that a definition declares, at the parameters of the target."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actlab.activation.definition import Activation
from actlab.activation.module import ActivationModule, parameters_of
from actlab.checking.check_report import Failure, NotApplicable
from actlab.checking.reference import FormulaReference
from actlab.errors import UsageError

_NONE = "no reference was given"
_LONG = 40  # operations
_MAX_CALLS = 2_000_000  # function calls; about a second


@dataclass(frozen=True)
class DeclaredFacts:
    """A definition and the values of its parameters."""

    definition: Activation[Any]
    parameters: Mapping[str, Any]

    @property
    def is_usual(self) -> bool:
        """Whether the parameters are the defaults or the example, for which some facts are declared."""
        usual = self.definition.example
        return all(_nearly_equal(value, usual.get(name)) for name, value in self.parameters.items())

    @property
    def limits(self) -> tuple[float, ...]:
        """The values at minus and plus infinity."""
        return tuple(map(float, self.definition.limits(**self.parameters)))

    @property
    def slopes(self) -> tuple[float, ...]:
        """The derivatives at minus and plus infinity."""
        return tuple(map(float, self.definition.slopes(**self.parameters)))

    @property
    def range(self) -> tuple[float, ...]:
        """The infimum and the supremum."""
        return tuple(map(float, self.definition.range(**self.parameters)))

    @property
    def kinks(self) -> dict[float, float]:
        """The points where the derivative jumps, and the derivative there."""
        return {float(x): float(slope) for x, slope in self.definition.kinks(**self.parameters).items()}

    @property
    def saves(self) -> str:
        """What is saved for backward."""
        saves = self.definition.facts.saves
        return saves(**self.parameters) if callable(saves) else saves

    def make_reference(self) -> FormulaReference:
        """Return the formula as a reference.

        Raises:
            NotApplicable: It is not a function of one number, or it is too complicated.
            Failure: It cannot be parsed.
        """
        if self.definition.facts.gated:
            raise NotApplicable(f"{_NONE}, and the declared formula has two inputs")
        from actlab.derivation.syntax.sympy_budget import (
            BudgetExceeded,
            limit_calls,
        )  # it imports SymPy, which takes half a second

        try:
            expression = self._read_formula()
            # Counting calls doubles the time; a short formula needs no limit.
            is_long = expression.count_ops() > _LONG
            with limit_calls(_MAX_CALLS) if is_long else contextlib.nullcontext():
                return FormulaReference(expression, name="the declared formula", kinks=self.kinks)
        except BudgetExceeded:
            raise NotApplicable(f"{_NONE}, and the declared formula is too complicated") from None
        except UsageError as error:
            problem = str(error).splitlines()[0].removeprefix("formula: ")
            raise Failure(f"the declared formula cannot be read: {problem}") from error

    def _read_formula(self) -> Any:
        import sympy

        from actlab.derivation.syntax.to_sympy import read

        numbers = {n: v for n, v in self.parameters.items() if isinstance(v, int | float)}
        formula = read(self.definition.formula(**self.parameters), {"x", *self.parameters})
        values = {sympy.Symbol(n, real=True): sympy.Rational(v) for n, v in numbers.items()}
        expression = formula.xreplace(values)
        more = sorted(map(str, expression.free_symbols - {sympy.Symbol("x", real=True)}))
        if more:
            raise NotApplicable(f"{_NONE}, and {more[0]} in the declared formula is not a number")
        return expression


def find_declared_facts(target: object) -> DeclaredFacts | None:
    """Return what is declared of a target, which is a definition with parameters or its module."""
    if isinstance(target, functools.partial) and isinstance(target.func, Activation):
        given = {name: value for name, value in target.keywords.items() if name in target.func.parameters}
        return DeclaredFacts(target.func, {**target.func.example, **given})
    # A subclass of the module may compute something else.
    if isinstance(target, ActivationModule) and target.activation.module_class is type(target):
        return DeclaredFacts(target.activation, parameters_of(target))
    return None


def _nearly_equal(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, int | float):
        return math.isclose(one, two, rel_tol=1e-6)  # a trained value was rounded to float32
    return bool(one == two)
