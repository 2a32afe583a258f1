"""Activations made of derived programs, as the tests need them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import actlab
from actlab.activation.definition import Activation, Facts
from actlab.derivation.codegen.program import Program
from actlab.derivation.derived import Derived, derive
from actlab.derivation.syntax.to_sympy import read as to_sympy

# Every element-wise formula of the catalogue.
NAMES = tuple(name for name, known in actlab.catalogue.items() if not known.facts.gated)


def numbers(parameters: Mapping[str, Any]) -> dict[str, float]:
    """The parameters that are numbers."""
    return {k: float(v) for k, v in parameters.items() if not isinstance(v, bool | str)}


def trained(name: str) -> tuple[str, ...]:
    """The parameters of an entry of the catalogue that may be trained."""
    known = actlab.catalogue[name]
    return tuple(p for p in known.formulas.partials if p in numbers(known.example))


@functools.cache
def from_catalogue(name: str) -> tuple[Derived, Activation[...]]:
    """An entry of the catalogue, derived from its formula alone."""
    known = actlab.catalogue[name]
    return made(known.formula(), numbers(known.example), trained(name))


def made(
    formula: str, parameters: Mapping[str, float], trainable: tuple[str, ...] = (), **facts: Any
) -> tuple[Derived, Activation[...]]:
    """A formula, derived, and the activation of its programs."""
    derived = derive(to_sympy(formula), parameters, trainable=trainable)

    def forward(x: Tensor, *values: Any) -> Tensor:
        return derived.forward(x, *values)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("x", kind),
            *(inspect.Parameter(name, kind, default=value) for name, value in parameters.items()),
        ]
    )
    known: dict[str, Any] = {
        "formula": formula,
        "limits": derived.limits,
        "slopes": derived.slopes,
        "range": derived.range,
        "monotonic": derived.monotonic,
        "paper": "-",
        "saves": derived.saves,
        "error_scale": derived.error_scale,
        "kinks": derived.kinks,
    }
    activation: Activation[...] = Activation(forward, Facts(**{**known, **facts}))
    activation.derivative(derived.derivative)
    if derived.torch_operation is not None:
        activation.torch_operation(derived.torch_operation)
    if derived.second is not None:
        activation.second(derived.second)
    for name, partial in derived.partials.items():
        activation.partial(name)(partial)
    activation.module("Derived")
    return derived, activation


def slope(derived: Derived, x: Tensor) -> Tensor:
    """The derivative by the input, whichever tensor is kept."""
    return derived.derivative(derived.forward(x) if derived.saves == "output" else x)


def programs(derived: Derived) -> list[Program]:
    """All programs that there are."""
    made = (derived.forward, derived.derivative, derived.second, *derived.partials.values())
    return [program for program in made if program is not None]


def printed(lines: list[str], inputs: tuple[str, ...], names: Mapping[str, Any]) -> Any:
    """The function that printed statements are the body of."""
    source = f"def function({', '.join(inputs)}):\n" + "\n".join(f"    {line}" for line in lines)
    space: dict[str, Any] = dict(names)
    exec(source, space)  # noqa: S102, it is what is tested
    return space["function"]


def sample() -> torch.Tensor:
    """Numbers of every size, infinities and no number."""
    sizes = torch.logspace(-45, 38, 400, dtype=torch.float64)
    return torch.cat([-sizes, sizes, torch.tensor([0.0, torch.inf, -torch.inf, torch.nan])]).double()
