"""Activations built from derived programs, for the tests of derivation."""

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
from actlab.derivation.formula_derivation import Derivation, derive
from actlab.derivation.syntax.to_sympy import read_formula

# Every element-wise formula in the catalogue.
NAMES = tuple(name for name, entry in actlab.catalogue.items() if not entry.facts.gated)


def numbers(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Return the parameters that are numbers."""
    return {k: float(v) for k, v in parameters.items() if not isinstance(v, bool | str)}


def trainable_parameters(name: str) -> tuple[str, ...]:
    """Return the trainable parameters of a catalogue entry."""
    entry = actlab.catalogue[name]
    return tuple(p for p in entry.formulas.partials if p in numbers(entry.example))


@functools.cache
def from_catalogue(name: str) -> tuple[Derivation, Activation[...]]:
    """Derive a catalogue entry from its formula."""
    entry = actlab.catalogue[name]
    return derive_activation(entry.formula(), numbers(entry.example), trainable_parameters(name))


def derive_activation(
    formula: str, parameters: Mapping[str, float], trainable: tuple[str, ...] = (), **facts: Any
) -> tuple[Derivation, Activation[...]]:
    """Derive a formula; return the result and the activation of its programs."""
    derived = derive(read_formula(formula), parameters, trainable=trainable)

    def forward(x: Tensor, *values: Any) -> Tensor:
        return derived.forward(x, *values)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("x", kind),
            *(inspect.Parameter(name, kind, default=value) for name, value in parameters.items()),
        ]
    )
    entry: dict[str, Any] = {
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
    activation: Activation[...] = Activation(forward, Facts(**{**entry, **facts}))
    activation.derivative(derived.derivative)
    if derived.torch_operation is not None:
        activation.torch_operation(derived.torch_operation)
    if derived.second is not None:
        activation.second(derived.second)
    for name, partial in derived.partials.items():
        activation.partial(name)(partial)
    activation.module("Derived")
    return derived, activation


def slope(derived: Derivation, x: Tensor) -> Tensor:
    """Return the derivative by the input, for either saved tensor."""
    return derived.derivative(derived.forward(x) if derived.saves == "output" else x)


def programs(derived: Derivation) -> list[Program]:
    """Return all programs of a derivation."""
    candidates = (derived.forward, derived.derivative, derived.second, *derived.partials.values())
    return [program for program in candidates if program is not None]


def compile_lines(lines: list[str], inputs: tuple[str, ...], names: Mapping[str, Any]) -> Any:
    """Return a function with the printed statements as its body."""
    source = f"def function({', '.join(inputs)}):\n" + "\n".join(f"    {line}" for line in lines)
    space: dict[str, Any] = dict(names)
    exec(source, space)  # noqa: S102, the printed code is under test
    return space["function"]


def sample() -> torch.Tensor:
    """Return numbers of all magnitudes, infinities and NaN."""
    sizes = torch.logspace(-45, 38, 400, dtype=torch.float64)
    return torch.cat([-sizes, sizes, torch.tensor([0.0, torch.inf, -torch.inf, torch.nan])]).double()
