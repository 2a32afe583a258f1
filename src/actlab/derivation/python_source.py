"""Write a formula's activation as Python."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from actlab.activation.definition import Activation
from actlab.derivation.codegen.program import Program
from actlab.derivation.formula_module import make_class_name, make_repr_format


def write_source(activation: Activation[...], trainable: Sequence[str]) -> str:
    """Return an activation as Python.

    Args:
        activation: An activation whose formulas are programs.
        trainable: The names of the parameters that its module trains.
    """
    name, formulas = activation.name, activation.formulas
    signature = ", ".join(["x", *_write_defaults(activation)])
    blocks = [
        f"{_write_decorator(activation)}\ndef {name}({signature}):\n{_indent(_write_docstring(activation))}\n"
        f"{_write_body(formulas.forward)}",
        f"@{name}.derivative\n{_write_function(formulas.derivative)}",
    ]
    if formulas.second is not None:
        blocks.append(f"@{name}.second\n{_write_function(formulas.second)}")
    for parameter, program in formulas.partials.items():
        blocks.append(f'@{name}.partial("{parameter}")\n{_write_function(program)}')
    module = make_class_name(name)
    blocks.append(
        _write_trained_module(activation, trainable) if trainable else f'{module} = {name}.module("{module}")'
    )
    body = "\n\n\n".join(blocks)
    return f"{_write_imports(body)}\n\n\n{body}\n"


def _write_imports(body: str) -> str:
    def uses(name: str) -> bool:
        return re.search(rf"\b{name}\b", body) is not None

    lines = ["import torch", "", "from actlab import elementwise"]
    names = ", ".join(name for name in ("TrainedModule", "numerics") if uses(name))
    lines += [f"from actlab.activation import {names}"] if names else []
    lines += ["from actlab.derivation import elementary"] if uses("elementary") else []
    constants = [f'{name} = float("{name}")' for name in ("inf", "nan") if uses(name)]
    return "\n".join([*lines, *([""] if constants else []), *constants])


def _write_decorator(activation: Activation[...]) -> str:
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
        ["@elementwise(", *(f"    {fact}={_write_literal(value)}," for fact, value in facts.items()), ")"]
    )


def _write_literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_write_literal, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_write_literal(k)}: {_write_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # the file defines inf and nan
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _write_docstring(activation: Activation[...]) -> str:
    doc = activation.__doc__ or ""
    return f'"""{doc}\n"""' if "\n" in doc else f'"""{doc}"""'


def _write_function(program: Any) -> str:
    return f"def _({', '.join(program.inputs)}):\n{_write_body(program)}"


def _write_body(program: Any) -> str:
    assert isinstance(program, Program)
    return _indent("\n".join(program.to_python()))


def _indent(text: str) -> str:
    return re.sub("^(?=.)", "    ", text, flags=re.M)


def _write_defaults(activation: Activation[...]) -> list[str]:
    return [f"{name}={value!r}" for name, value in activation.parameters.items()]


def _write_trained_module(activation: Activation[...], trainable: Sequence[str]) -> str:
    signature = ", ".join(["self", *_write_defaults(activation), "*", "device=None", "dtype=None"])
    starts = ", ".join(f"{name}={name}" for name in trainable)
    lines = [
        f"@{activation.name}.use_module",
        f"class {make_class_name(activation.name)}(TrainedModule):",
        f'    """The module of :func:`{activation.name}`; it trains {", ".join(trainable)}."""',
        "",
        f'    repr_format = "{make_repr_format(activation, trainable)}"',
        "",
        f"    def __init__({signature}):",
        f"        super().__init__(device, dtype, {starts})",
        *(f"        self.{name} = {name}" for name in activation.parameters if name not in trainable),
    ]
    return "\n".join(lines)
