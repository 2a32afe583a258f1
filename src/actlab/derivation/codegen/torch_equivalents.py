"""Find the torch operation that computes a whole formula, to the last bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import sympy
import torch
from sympy import Expr
from torch import Tensor

from actlab.activation.numerics import is_small
from actlab.derivation.analysis.piecewise import Leaf, Tree, iterate_conditions
from actlab.derivation.codegen.error_meter import make_points
from actlab.derivation.codegen.program import DTYPES, Program
from actlab.derivation.syntax.to_sympy import X

aten = torch.ops.aten

_MOST_VALUES = 32  # settings of the parameters for which an operation is looked up


class TorchOperation(NamedTuple):
    """An operation of torch, and whether it saves its output for backward instead of its input."""

    run: Callable[[Tensor], Tensor]
    saves_output: bool = False


def find_torch_equivalent(
    tree: Tree,
    programs: tuple[Program, Program, Program | None],
    parameters: Mapping[str, float],
    saves: Literal["input", "output"],
) -> Callable[..., Tensor | None] | None:
    """Return torch's operation for a formula, or None if there is none at the default parameters.

    Args:
        tree: The pieces.
        programs: The function and its derivatives, which the operation must match to the last bit. The
            second derivative is None where the first is a function of the output.
        parameters: The default parameters.
        saves: The tensor saved for backward. For a large input torch must save the same one.

    Returns:
        A function of the input and the parameters; it returns None if torch has no operation for them.
    """
    symbols = [sympy.Symbol(name, real=True) for name in parameters]
    operations: dict[tuple[float, ...], TorchOperation | None] = {}

    def find(values: tuple[float, ...]) -> TorchOperation | None:
        if values not in operations and len(operations) < _MOST_VALUES:
            borders, pieces = _flatten(tree, dict(zip(symbols, map(sympy.Rational, values), strict=True)))
            equal = (o for o in _match(borders, pieces, saves) if _is_same(o.run, programs, values, borders))
            operations[values] = next(equal, None)
        return operations.get(values)

    def run(x: Tensor, *values: Any) -> Tensor | None:
        if x.dtype not in DTYPES or any(isinstance(value, Tensor) for value in values):
            return None
        operation = find(tuple(map(float, values)))
        if operation is None or not (operation.saves_output or saves == "input" or is_small(x)):
            return None
        return operation.run(x)

    return run if find(tuple(parameters.values())) is not None else None


def _flatten(tree: Tree, bound: Mapping[Any, Any]) -> tuple[list[Expr], list[Expr]]:
    """Return the borders and the pieces between them, left to right; none if a border is not a number."""
    borders: set[Expr] = set()
    for condition in iterate_conditions(tree):
        for relation in condition.atoms(sympy.core.relational.Relational):
            difference = sympy.expand((relation.lhs - relation.rhs).xreplace(bound))
            is_linear = difference.is_polynomial(X) and sympy.degree(difference, X) <= 1
            if not is_linear or difference.free_symbols - {X}:
                return [], []
            if slope := difference.coeff(X, 1):
                borders.add(-difference.coeff(X, 0) / slope)
    places = sorted(borders)
    inner = [(a + b) / 2 for a, b in itertools.pairwise(places)]
    samples = [places[0] - 1, *inner, places[-1] + 1] if places else [sympy.S.Zero]
    pieces = [_select_piece(tree, {**bound, X: sample}).xreplace(bound) for sample in samples]
    changes = [i for i, (a, b) in enumerate(itertools.pairwise(pieces)) if a != b]
    return [places[i] for i in changes], [*(pieces[i] for i in changes), pieces[-1]]


def _select_piece(tree: Tree, point: Mapping[Any, Any]) -> Expr:
    while not isinstance(tree, Leaf):
        tree = tree.yes if tree.condition.subs(point) == sympy.true else tree.no
    return tree.expression


def _match(borders: list[Expr], pieces: list[Expr], saves: str) -> Iterator[TorchOperation]:
    """Yield operations of torch with these pieces; they may differ at the borders."""
    match [float(border) for border in borders], pieces:
        case [0.0], [left, right] if right == X and left == 0:
            yield TorchOperation(torch.relu, saves_output=True)
        case [border], [left, right] if right == X and left.is_number:
            yield TorchOperation(lambda x: aten.threshold(x, border, float(left)))
        case [0.0], [left, right] if right == X and (left / X).is_number:
            slope = float(left / X)
            if saves == "output" and slope > 0:  # an operation in place saves its output
                yield TorchOperation(lambda x: aten.leaky_relu_(x.clone(), slope), saves_output=True)
            yield TorchOperation(lambda x: aten.leaky_relu(x, slope))
        case [low, high], [left, inner, right] if inner == X and (left, right) == tuple(borders):
            if saves == "output":
                yield TorchOperation(lambda x: aten.hardtanh_(x.clone(), low, high), saves_output=True)
            yield TorchOperation(lambda x: aten.hardtanh(x, low, high))
        case [low, high], [left, inner, right] if inner == 0 and left == right == X and low == -high:
            yield TorchOperation(lambda x: aten.hardshrink(x, high))
        case [low, high], [left, inner, right] if (left, inner, right) == (X - borders[0], 0, X - borders[1]):
            yield TorchOperation(lambda x: aten.softshrink(x, high))
        case [], [whole] if whole == sympy.exp(X):
            yield TorchOperation(torch.exp, saves_output=True)


def _is_same(
    operation: Callable[[Tensor], Tensor],
    programs: tuple[Program, Program, Program | None],
    values: tuple[float, ...],
    borders: list[Expr],
) -> bool:
    """Return whether an operation and its derivatives by autograd are bitwise equal to those of programs."""
    places = torch.from_numpy(make_points(tuple(map(float, borders))))
    forward, derivative, second = programs
    for dtype in DTYPES:
        x = torch.cat([places, torch.tensor([torch.inf, -torch.inf])]).to(dtype).requires_grad_()
        got = operation(x)
        saved = got.detach() if second is None else x.detach()
        for program, argument in ((forward, x.detach()), (derivative, saved), (second, x.detach())):
            with torch.no_grad():
                if program is not None and not torch.equal(got.detach(), program(argument, *values)):
                    return False
            if program is not second:
                (got,) = torch.autograd.grad(got.sum(), x, create_graph=True, materialize_grads=True)
    return True
