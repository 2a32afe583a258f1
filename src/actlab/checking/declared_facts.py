"""The facts that a definition declares, at the parameters of the target."""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass
from typing import Any

from actlab.activation.definition import Activation
from actlab.activation.module import ActivationModule, read_parameters
from actlab.checking.check_report import Failure, NotApplicable
from actlab.checking.reference import FormulaReference
from actlab.errors import UsageError

_NONE = "no reference was given"
_LONG = 40  # operations
_MAX_CALLS = 2_000_000  # function calls; about a second


@dataclass(frozen=True)
class DeclaredFacts:
    """What a definition declares.

    Attributes:
        definition: The definition; its example parameters are those of the target.
        is_usual: Whether the parameters are the defaults or the example, for which some facts are declared.
        monotonic: Whether the function is monotonic; None if that is not declared for these parameters.
    """

    definition: Activation[Any]
    is_usual: bool
    monotonic: bool | None

    def make_reference(self) -> FormulaReference:
        """Return the formula as a reference.

        Raises:
            NotApplicable: The formula is not a function of one number, or is too complicated.
            Failure: The formula cannot be parsed.
        """
        if self.definition.facts.gated:
            raise NotApplicable(f"{_NONE}, and the declared formula has two inputs")
        # It imports SymPy, which takes half a second.
        from actlab.derivation.syntax.sympy_budget import BudgetExceeded, limit_calls

        try:
            expression = self._read_formula()
            # Counting calls doubles the time; a short formula needs no limit.
            is_long = expression.count_ops() > _LONG
            with limit_calls(_MAX_CALLS) if is_long else contextlib.nullcontext():
                return FormulaReference(expression, "the declared formula", self.definition.kinks())
        except BudgetExceeded:
            raise NotApplicable(f"{_NONE}, and the declared formula is too complicated") from None
        except UsageError as error:
            problem = str(error).splitlines()[0].removeprefix("formula: ")
            raise Failure(f"the declared formula cannot be read: {problem}") from error

    def _read_formula(self) -> Any:
        import sympy

        from actlab.derivation.syntax.to_sympy import read_formula

        parameters = self.definition.example
        formula = read_formula(self.definition.formula(), {"x", *parameters})
        numbers = {n: v for n, v in parameters.items() if isinstance(v, int | float)}
        values = {sympy.Symbol(n, real=True): sympy.Rational(v) for n, v in numbers.items()}
        expression = formula.xreplace(values)
        more = sorted(map(str, expression.free_symbols - {sympy.Symbol("x", real=True)}))
        if more:
            raise NotApplicable(f"{_NONE}, and {more[0]} in the declared formula is not a number")
        return expression


def find_declared_facts(target: object) -> DeclaredFacts | None:
    """Return what a target declares; the target is a definition with parameters, or its module."""
    if isinstance(target, functools.partial) and isinstance(target.func, Activation):
        definition = target.func
        parameters = {n: value for n, value in target.keywords.items() if n in definition.parameters}
    # A subclass of the module may compute something else.
    elif isinstance(target, ActivationModule) and target.activation.module_class is type(target):
        definition, parameters = target.activation, read_parameters(target)
    else:
        return None
    usual = definition.example
    is_usual = all(_nearly_equal(value, usual.get(name)) for name, value in parameters.items())
    monotonic = definition.facts.monotonic if is_usual else None
    return DeclaredFacts(definition.at(parameters), is_usual, monotonic)


def _nearly_equal(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, int | float):
        return math.isclose(one, two, rel_tol=1e-6)  # a trained value was rounded to float32
    return bool(one == two)
