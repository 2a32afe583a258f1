"""A formula's activation as Python."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from actlab.activation.definition import Activation
from actlab.derivation.modules import class_name

_INDENT = "    "
# What the text of a program may refer to, beside torch.
_IMPORTS = {
    "numerics": "from actlab.activation import numerics",
    "kernels": "from actlab.derivation.codegen import kernels",
}


def source(activation: Activation[...], trainable: Sequence[str]) -> str:
    """Return an activation as Python.

    Args:
        activation: One whose formulas are programs.
        trainable: Which of its parameters its module trains.
    """
    given = ["x", *(f"{name}={value!r}" for name, value in activation.parameters.items())]
    name, formulas = activation.name, activation.formulas
    blocks = [[*_facts(activation), *_function(name, given, _docstring(activation), formulas.forward)]]
    blocks.append([f"@{name}.derivative", *_derivative(formulas.derivative)])
    if formulas.second is not None:
        blocks.append([f"@{name}.second", *_derivative(formulas.second)])
    for parameter, program in formulas.partials.items():
        blocks.append([f'@{name}.partial("{parameter}")', *_derivative(program)])
    module = class_name(name)
    blocks.append(_module(activation, trainable) if trainable else [f'{module} = {name}.module("{module}")'])
    body = "\n\n\n".join("\n".join(block) for block in blocks)
    return f"{_head(body, bool(trainable))}\n\n\n{body}\n"


def _head(body: str, trained: bool) -> str:
    lines = ["import torch"]
    lines += ["from torch import nn"] if trained else []
    lines += ["", "from actlab import elementwise"]
    lines += ["from actlab.activation.module import ActivationModule"] if trained else []
    lines += [line for name, line in _IMPORTS.items() if re.search(rf"\b{name}\.", body)]
    numbers = [f'{name} = float("{name}")' for name in ("inf", "nan") if re.search(rf"\b{name}\b", body)]
    return "\n".join([*lines, *([""] if numbers else []), *numbers])


def _facts(activation: Activation[...]) -> list[str]:
    """Return the decorator. Facts that depend on parameters are those at their defaults."""
    facts = activation.facts
    known = {
        "formula": activation.formula(),
        "limits": activation.limits(),
        "slopes": activation.slopes(),
        "range": activation.range(),
        "monotonic": facts.monotonic,
        "paper": facts.paper,
        "saves": facts.saves,
        "kinks": dict(activation.kinks()),
    }
    if facts.error_scale != "pointwise":
        known["error_scale"] = facts.error_scale
    return ["@elementwise(", *(f"{_INDENT}{fact}={_literal(value)}," for fact, value in known.items()), ")"]


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # inf, -inf and nan are names here
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _docstring(activation: Activation[...]) -> list[str]:
    first, *rest = (activation.__doc__ or "").splitlines()
    return [f'"""{first}', *rest, '"""'] if rest else [f'"""{first}"""']


def _function(name: str, takes: Sequence[str], doc: Sequence[str], program: Callable[..., Any]) -> list[str]:
    body = [f"{_INDENT}{line}".rstrip() for line in (*doc, *program.lines())]  # type: ignore[attr-defined]
    return [f"def {name}({', '.join(takes)}):", *body]


def _derivative(program: Callable[..., Any]) -> list[str]:
    return _function("_", program.inputs, [], program)  # type: ignore[attr-defined]


def _module(activation: Activation[...], trainable: Sequence[str]) -> list[str]:
    given = [f"{name}={value!r}" for name, value in activation.parameters.items()]
    fixed = [name for name in activation.parameters if name not in trainable]
    init = ", ".join(f'"{name}": {name}' for name in trainable)
    lines = [
        f"@{activation.name}.use_module",
        f"class {class_name(activation.name)}(ActivationModule):",
        f'    """The module of :func:`{activation.name}`; it trains {", ".join(trainable)}."""',
        "",
        f"    def __init__(self, {', '.join(given)}, *, device=None, dtype=None):",
        "        nn.Module.__init__(self)",
        "        self.inplace = False",
        *(f"        self.{name} = {name}" for name in fixed),
        f"        self.init = {{{init}}}",
        "        for name, start in self.init.items():",
        "            setattr(self, name, nn.Parameter(torch.tensor(start, device=device, dtype=dtype)))",
        "",
        "    def reset_parameters(self):",
        '        """Set the parameters back to where they started."""',
        "        for name, start in self.init.items():",
        "            nn.init.constant_(getattr(self, name), start)",
        "",
        "    def extra_repr(self):",
        '        """Return what is not trained."""',
        f"        return {_shown(fixed)}",
    ]
    return lines


def _shown(fixed: Sequence[str]) -> str:
    return 'f"' + ", ".join(f"{name}={{self.{name}!r}}" for name in fixed) + '"' if fixed else '""'
