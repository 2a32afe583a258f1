"""The reference of a target: another function, or a formula evaluated with fifty digits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from actlab.checking.target import resolve_target
from actlab.errors import UsageError
from actlab.functions import catalogue

_DIGITS = 50
_FAR = 1e6  # exp(_FAR) overflows and exp(-_FAR) underflows


class Reference:
    """A function that returns values, and derivatives if it has them, at float64 points."""

    max_points = 100_000
    name = "the reference"

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the values at points, and the derivatives if there are any."""
        leaf = x.clone().requires_grad_()
        y = self.function(leaf)
        if not y.requires_grad:
            return y, None
        (slope,) = torch.autograd.grad(y.sum(), leaf)
        return y.detach(), slope


class FormulaReference(Reference):
    """A formula in SymPy, evaluated by mpmath.

    Args:
        expression: The formula, in ``x`` only.
        name: The name in messages.
        kinks: Points where the derivative is a convention and is not compared.
    """

    max_points = 300  # a point takes a tenth of a millisecond

    def __init__(self, expression: Any, name: str = Reference.name, kinks: Iterable[float] = ()) -> None:
        import sympy

        self.name, self.kinks = name, frozenset(kinks)
        free = sorted(map(str, expression.free_symbols - {_make_symbol()}))
        if free:
            raise UsageError(
                f"reference {str(expression)!r} must be a formula in x only, but it also contains {free}"
            )
        derivative = sympy.diff(expression.rewrite(sympy.Piecewise), _make_symbol())
        self.value, self.slope = (
            sympy.lambdify(_make_symbol(), e, modules=[{"exp": _exp}, "mpmath"])
            for e in (expression, derivative)
        )

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the values and derivatives at points, rounded once."""
        import mpmath

        with mpmath.workdps(_DIGITS):
            points = [self._evaluate_point(mpmath.mpf(v)) for v in x.flatten().tolist()]
        value, slope = torch.tensor(points, dtype=torch.float64, device=x.device).unbind(1)
        return value.view_as(x), slope.view_as(x)

    def _evaluate_point(self, x: Any) -> tuple[float, float]:
        slope = float("nan") if x in self.kinks else _evaluate_float(self.slope, x)
        return _evaluate_float(self.value, x), slope


def _exp(x: Any) -> Any:
    """Return e to a power. mpmath needs seconds and all memory for a very large exponent."""
    import mpmath

    if abs(x) < _FAR:
        return mpmath.exp(x)
    return mpmath.inf if x > 0 else mpmath.mpf(0)


def _evaluate_float(function: Callable[[Any], Any], x: Any) -> float:
    import mpmath

    try:
        return float(mpmath.re(function(x)))
    except (OverflowError, ZeroDivisionError, ValueError, TypeError):
        return float("nan")  # the function has no value here: the point is not compared


def _make_symbol() -> Any:
    import sympy

    return sympy.Symbol("x", real=True)


def resolve_reference(reference: Any) -> Reference | None:
    """Resolve a reference.

    Args:
        reference: A function of a tensor, a SymPy expression in ``x``, or text: a catalogue name,
            ``"pkg.mod:name"``, or a formula such as ``"x * tanh(log(1 + exp(x)))"``; or None.

    Returns:
        The reference.

    Raises:
        UsageError: The reference is none of these.
    """
    if reference is None:
        return None
    if hasattr(reference, "free_symbols"):
        symbols = {s: _make_symbol() for s in reference.free_symbols if str(s) == "x"}
        return FormulaReference(reference.subs(symbols))
    if isinstance(reference, str):
        name, _, arguments = reference.partition("(")
        if ":" not in reference and (name not in catalogue or "x" in arguments):
            from actlab.derivation.syntax.to_sympy import read_formula

            return FormulaReference(read_formula(reference))
    elif not callable(reference):
        raise UsageError(f"reference {reference!r} must be a function, a formula or a name")
    return Reference(resolve_target(reference)[1])
