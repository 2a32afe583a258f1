"""Write a formula's activation as Python."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from actlab.activation.definition import Activation
from actlab.derivation.codegen.program import Program
from actlab.derivation.formula_module import class_name, repr_format


def write_source(activation: Activation[...], trainable: Sequence[str]) -> str:
    """Return an activation as Python.

    Args:
        activation: An activation whose formulas are programs.
        trainable: The names of the parameters that its module trains.
    """
    name, formulas = activation.name, activation.formulas
    signature = ", ".join(["x", *_defaults(activation)])
    blocks = [
        f"{_decorator(activation)}\ndef {name}({signature}):\n{_indent(_docstring(activation))}\n"
        f"{_body(formulas.forward)}",
        f"@{name}.derivative\n{_function(formulas.derivative)}",
    ]
    if formulas.second is not None:
        blocks.append(f"@{name}.second\n{_function(formulas.second)}")
    for parameter, program in formulas.partials.items():
        blocks.append(f'@{name}.partial("{parameter}")\n{_function(program)}')
    module = class_name(name)
    blocks.append(
        _trained_module(activation, trainable) if trainable else f'{module} = {name}.module("{module}")'
    )
    body = "\n\n\n".join(blocks)
    return f"{_imports(body)}\n\n\n{body}\n"


def _imports(body: str) -> str:
    def uses(name: str) -> bool:
        return re.search(rf"\b{name}\b", body) is not None

    lines = ["import torch", "", "from actlab import elementwise"]
    names = ", ".join(name for name in ("TrainedModule", "numerics") if uses(name))
    lines += [f"from actlab.activation import {names}"] if names else []
    lines += ["from actlab.derivation import elementary"] if uses("elementary") else []
    constants = [f'{name} = float("{name}")' for name in ("inf", "nan") if uses(name)]
    return "\n".join([*lines, *([""] if constants else []), *constants])


def _decorator(activation: Activation[...]) -> str:
    """Return the decorator. Facts that depend on parameters are those at their defaults."""
    facts = {
        "formula": activation.formula(),
        "limits": activation.limits(),
        "slopes": activation.slopes(),
        "range": activation.range(),
        "monotonic": activation.facts.monotonic,
        "paper": activation.facts.paper,
        "saves": activation.facts.saves,
        "kinks": dict(activation.kinks()),
    }
    if activation.facts.error_scale != "pointwise":
        facts["error_scale"] = activation.facts.error_scale
    return "\n".join(
        ["@elementwise(", *(f"    {fact}={_literal(value)}," for fact, value in facts.items()), ")"]
    )


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # the file defines inf and nan
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _docstring(activation: Activation[...]) -> str:
    doc = activation.__doc__ or ""
    return f'"""{doc}\n"""' if "\n" in doc else f'"""{doc}"""'


def _function(program: Any) -> str:
    return f"def _({', '.join(program.inputs)}):\n{_body(program)}"


def _body(program: Any) -> str:
    assert isinstance(program, Program)
    return _indent("\n".join(program.lines()))


def _indent(text: str) -> str:
    return re.sub("^(?=.)", "    ", text, flags=re.M)


def _defaults(activation: Activation[...]) -> list[str]:
    return [f"{name}={value!r}" for name, value in activation.parameters.items()]


def _trained_module(activation: Activation[...], trainable: Sequence[str]) -> str:
    signature = ", ".join(["self", *_defaults(activation), "*", "device=None", "dtype=None"])
    starts = ", ".join(f"{name}={name}" for name in trainable)
    lines = [
        f"@{activation.name}.use_module",
        f"class {class_name(activation.name)}(TrainedModule):",
        f'    """The module of :func:`{activation.name}`; it trains {", ".join(trainable)}."""',
        "",
        f'    repr_format = "{repr_format(activation, trainable)}"',
        "",
        f"    def __init__({signature}):",
        f"        super().__init__(device, dtype, {starts})",
        *(f"        self.{name} = {name}" for name in activation.parameters if name not in trainable),
    ]
    return "\n".join(lines)
