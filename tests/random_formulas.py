"""Random formulas, and checks of their derived programs against ball arithmetic."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable

import numpy as np
import torch
from hypothesis import strategies as st

from actlab.derivation.formula_derivation import Derivation, derive
from actlab.derivation.syntax.to_sympy import read_formula
from tests.exact_values import taylor

_NAMES = (
    "exp",
    "expm1",
    "tanh",
    "sigmoid",
    "softplus",
    "erf",
    "erfc",
    "sin",
    "cos",
    "atan",
    "asinh",
    "abs",
    "-",
)
_UNARY = [*(f"{name}({{}})" for name in _NAMES), "log1p(({})**2)", "sqrt(1 + ({})**2)", "({})**2"]
_BINARY = ["({}) + ({})", "({}) - ({})", "({}) * ({})", "({}) / (1 + ({})**2)", "min({}, {})", "max({}, {})"]
_LEAVES = st.sampled_from(["x", "x", "x", "0.5 * x", "2 * x", "1", "0.5", "3", "-x"])


def _extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.builds(lambda form, a: form.format(a), st.sampled_from(_UNARY), inner)
    two = st.builds(lambda form, a, b: form.format(a, b), st.sampled_from(_BINARY), inner, inner)
    choice = st.builds("where(x > {}, {}, {})".format, st.sampled_from(["0", "1", "-0.5"]), inner, inner)
    return st.one_of(one, one, two, two, two, choice)


FORMULAS = st.recursive(_LEAVES, _extend, max_leaves=5)
# Points for ball arithmetic, different from those of the error bounds.
POINTS = np.concatenate(
    [s * np.array([1e-9, 3e-4, 0.0123, 0.31, 1.07, 2.9, 7.7, 19.3, 41.0]) for s in (-1, 1)]
)
_INTERVAL = re.compile(r"(f'*) (?:from (\S+) to|at) (\S+) in (float\d+)")
# The error bounds can be exceeded between their points.
_SLACK = 4


def is_reported_inexact(derived: Derivation, name: str, dtype: str, x: float) -> bool:
    """Return whether a reported inexact interval contains or borders on a point."""
    for sentence in derived.inexact:
        order, low, high, kind = _INTERVAL.match(sentence).groups()
        low = low or high
        near = 0.1 * abs(x) + 1e-6
        if (order, kind) == (name, dtype) and float(low) - near <= x <= float(high) + near:
            return True
    return False


def input_functions(derived: Derivation) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Return f, f' and f'' as functions of the input, for either saved tensor."""
    if derived.second is not None:
        return {"f": derived.forward, "f'": derived.derivative, "f''": derived.second}

    def slope(x: torch.Tensor) -> torch.Tensor:
        return derived.derivative(derived.forward(x))

    def bend(x: torch.Tensor) -> torch.Tensor:
        y = derived.forward(x).requires_grad_()
        slope = derived.derivative(y)
        bend = torch.autograd.grad(slope.sum(), y)[0] if slope.requires_grad else torch.zeros_like(y)
        return (bend * slope).detach()

    return {"f": derived.forward, "f'": slope, "f''": bend}


def find_errors(text: str, derived: Callable[..., Derivation] = derive) -> list[str]:
    """Return the errors of a formula's programs, found by ball arithmetic."""
    result = derived(read_formula(text), {})
    tree = ast.parse(text, mode="eval").body
    programs = input_functions(result)
    line = float(programs["f'"](torch.linspace(-50, 50, 1001).double()).abs().max())
    wrong = []
    for x in POINTS.astype(np.float32).astype(float).tolist():
        try:
            balls, branch = taylor(tree, x, {})
        except (ArithmeticError, ValueError):
            continue  # no value, or no tight enclosure
        true = [float(ball.mid()) for ball in balls]
        for order, (name, made) in enumerate(programs.items()):
            if (branch and order) or not math.isfinite(true[order]):
                continue
            for dtype in (torch.float64, torch.float32):
                least = line if order and result.error_scale == "line" else 0.0
                info = torch.finfo(dtype)
                if not abs(true[order]) < info.max / 2:
                    continue
                got = float(made(torch.tensor([x], dtype=dtype)))
                scale = max(abs(true[order]), abs(x * true[order + 1]), info.tiny * 1000, least)
                error = abs(got - true[order]) / (info.eps * scale)
                short = str(dtype).removeprefix("torch.")
                if not error <= _SLACK * (8 if order == 2 else 4) and not is_reported_inexact(
                    result, name, short, x
                ):
                    wrong.append(f"{name} at {x} in {short}: {got}, not {true[order]}: {error:.3g} roundings")
    return wrong
