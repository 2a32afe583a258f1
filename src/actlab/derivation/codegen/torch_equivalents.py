"""A formula that is an operation of torch, as a whole and to the last bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import sympy
import torch
from sympy import Expr
from torch import Tensor

from actlab.activation.numerics import small
from actlab.derivation.analysis.piecewise import Leaf, Tree
from actlab.derivation.codegen.error_bounds import DTYPES, points
from actlab.derivation.codegen.program import Program
from actlab.derivation.syntax.to_sympy import X

aten = torch.ops.aten

_MOST_VALUES = 32  # of the parameters, for which an operation is looked up


class Operation(NamedTuple):
    """An operation of torch, and whether it keeps its output for backward instead of its input."""

    run: Callable[[Tensor], Tensor]
    keeps_output: bool = False


def find_torch_equivalent(
    tree: Tree,
    programs: tuple[Program, Program, Program | None],
    parameters: Mapping[str, float],
    saves: Literal["input", "output"],
) -> Callable[..., Tensor | None] | None:
    """Return torch's operation for a formula, or None where it has none at the default parameters.

    Args:
        tree: The pieces.
        programs: The function and its derivatives, which the operation has to give to the last bit. The
            second one is None where the first is one of the output.
        parameters: The default parameters.
        saves: What has to be kept for backward: of a large input that is what torch has to keep, too.

    Returns:
        A function of the input and the parameters; it answers None for those that torch has no operation for.
    """
    names = [sympy.Symbol(name, real=True) for name in parameters]
    known: dict[tuple[float, ...], Operation | None] = {}

    def operation(values: tuple[float, ...]) -> Operation | None:
        if values not in known and len(known) < _MOST_VALUES:
            bound = dict(zip(names, map(sympy.Rational, values), strict=True))
            borders, pieces = _on_line(tree, bound)
            found = _candidates(borders, pieces, saves)
            known[values] = next((one for one in found if _same(one.run, programs, values, borders)), None)
        return known.get(values)

    def native(x: Tensor, *values: Any) -> Tensor | None:
        if x.dtype not in DTYPES or any(isinstance(value, Tensor) for value in values):
            return None
        found = operation(tuple(map(float, values)))
        if found is None or not (found.keeps_output or saves == "input" or small(x)):
            return None
        return found.run(x)

    return native if operation(tuple(parameters.values())) is not None else None


def _on_line(tree: Tree, bound: Mapping[Any, Any]) -> tuple[list[Expr], list[Expr]]:
    """Return where pieces end and the pieces between, from left to right; none if a border is no number."""
    borders: set[Expr] = set()

    def conditions(tree: Tree) -> Iterator[Any]:
        if not isinstance(tree, Leaf):
            yield tree.condition
            yield from conditions(tree.yes)
            yield from conditions(tree.no)

    for condition in conditions(tree):
        for relation in condition.atoms(sympy.core.relational.Relational):
            difference = sympy.expand((relation.lhs - relation.rhs).xreplace(bound))
            slope = difference.coeff(X, 1)
            if (
                not difference.is_polynomial(X)
                or sympy.degree(difference, X) > 1
                or difference.free_symbols - {X}
            ):
                return [], []
            if slope:
                borders.add(-difference.coeff(X, 0) / slope)
    places = sorted(borders)
    inner = [(a + b) / 2 for a, b in itertools.pairwise(places)]
    samples = [places[0] - 1, *inner, places[-1] + 1] if places else [sympy.S.Zero]
    found = [_piece(tree, {**bound, X: sample}).xreplace(bound) for sample in samples]
    changes = [i for i, (a, b) in enumerate(itertools.pairwise(found)) if a != b]
    return [places[i] for i in changes], [*(found[i] for i in changes), found[-1]]


def _piece(tree: Tree, point: Mapping[Any, Any]) -> Expr:
    while not isinstance(tree, Leaf):
        tree = tree.yes if tree.condition.subs(point) == sympy.true else tree.no
    return tree.expression


def _candidates(borders: list[Expr], pieces: list[Expr], saves: str) -> Iterator[Operation]:
    """Yield operations of torch that have these pieces, whatever they do between them."""
    match [float(border) for border in borders], pieces:
        case [0.0], [left, right] if right == X and left == 0:
            yield Operation(torch.relu, keeps_output=True)
        case [border], [left, right] if right == X and left.is_number:
            yield Operation(lambda x: aten.threshold(x, border, float(left)))
        case [0.0], [left, right] if right == X and (left / X).is_number:
            if saves == "output" and left / X > 0:
                # Of what it overwrites torch keeps the output.
                yield Operation(lambda x: aten.leaky_relu_(x.clone(), float(left / X)), keeps_output=True)
            yield Operation(lambda x: aten.leaky_relu(x, float(left / X)))
        case [low, high], [left, inner, right] if inner == X and (left, right) == tuple(borders):
            if saves == "output":
                yield Operation(lambda x: aten.hardtanh_(x.clone(), low, high), keeps_output=True)
            yield Operation(lambda x: aten.hardtanh(x, low, high))
        case [low, high], [left, inner, right] if inner == 0 and left == right == X and low == -high:
            yield Operation(lambda x: aten.hardshrink(x, high))
        case [low, high], [left, inner, right] if (left, inner, right) == (X - borders[0], 0, X - borders[1]):
            yield Operation(lambda x: aten.softshrink(x, high))
        case [], [whole] if whole == sympy.exp(X):
            yield Operation(torch.exp, keeps_output=True)


def _same(
    made: Callable[[Tensor], Tensor],
    programs: tuple[Program, Program, Program | None],
    values: tuple[float, ...],
    borders: list[Expr],
) -> bool:
    """Whether an operation and its derivatives by autograd have the same bits as programs."""
    places = torch.from_numpy(points(tuple(map(float, borders))))
    for dtype in DTYPES:
        x = torch.cat([places, torch.tensor([torch.inf, -torch.inf])]).to(dtype).requires_grad_()
        got = made(x)
        forward, derivative, second = programs
        saved = got.detach() if second is None else x.detach()
        for program, of in ((forward, x.detach()), (derivative, saved), (second, x.detach())):
            with torch.no_grad():
                if program is not None and not torch.equal(got.detach(), program(of, *values)):
                    return False
            if program is not second:
                (got,) = torch.autograd.grad(got.sum(), x, create_graph=True, materialize_grads=True)
    return True
