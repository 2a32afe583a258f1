"""Write the page of ``actlab explore``: one HTML file that works offline."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from importlib import resources
from typing import Any

from actlab.activation.definition import Activation
from actlab.derivation.grammar import describe_grammar
from actlab.exploring.functions import describe_activation, list_catalogue, list_values
from actlab.functions import catalogue

MOST_FUNCTIONS = 6  # that the page shows at once
# The modules of the page, each after those that it imports.
_MODULES = (
    "syntax special graph formula random propagation network formats page pytorch state "
    "functions-view depth-view train-view take-view main"
).split()
_IMPORT = re.compile(r'^import \{ (.*) \} from "\./(.*)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:const|function|class) (\w+))", re.MULTILINE)
_POLICY = "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(activations: Iterable[Activation[Any]]) -> str:
    """Return the page as HTML that makes no network request.

    Args:
        activations: What the page shows first.

    Raises:
        UsageError: An activation cannot be shown.
    """
    entries, specs = list_catalogue(), []
    for activation in activations:
        specs.append(spec := choose_spec(activation))
        if not spec.startswith("formula:") and _is_new(activation):
            entries[spec] = describe_activation(activation)
    grammar = describe_grammar()
    data = {"grammar": grammar, "entries": entries, "functions": specs, "most": MOST_FUNCTIONS}
    script = _join_modules()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "policy": _POLICY.format(digest=digest),
        "style": _read_asset("actlab.report.html", "base.css")
        + _read_asset("actlab.exploring", "explore.css"),
        "functions": " ".join(name for name in grammar["functions"] if name != "where"),
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_ESCAPES),
        "script": script,
    }
    template = _read_asset("actlab.exploring", "explore.html")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def choose_spec(activation: Activation[Any]) -> str:
    """Return the text that names an activation in the page: a formula, or a name with changed values.

    Raises:
        UsageError: The activation cannot be shown.

    Examples:
        >>> import actlab
        >>> choose_spec(actlab.catalogue["elu"].at({"alpha": 0.5}))
        'elu(alpha=0.5)'
    """
    describe_activation(activation)
    values = list_values(activation)
    if recipe := getattr(activation, "recipe", None):
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        return f"formula:{recipe.text} with {given}" if given else f"formula:{recipe.text}"
    if _is_new(activation):
        texts = [f"{name}={value!r}" for name, value in activation.example.items() if isinstance(value, str)]
        return f"{activation.name}({', '.join(texts)})" if texts else activation.name
    default = catalogue[activation.name].example
    changed = [f"{name}={value}" for name, value in values.items() if value != default[name]]
    return f"{activation.name}({', '.join(changed)})" if changed else activation.name


def _is_new(activation: Activation[Any]) -> bool:
    """Return whether the catalogue has no function with this name and this formula."""
    known = catalogue.get(activation.name)
    return known is None or known.formula() != activation.formula()


def _join_modules() -> str:
    """Return the modules as one script, in which each has a scope of its own."""
    parts = []
    for name in _MODULES:
        text = _read_asset("actlab.exploring", f"{name}.js")
        names = [match[2] for match in _EXPORT.finditer(text)]
        text = _IMPORT.sub(r'const { \1 } = modules["\2"];', text)
        text = _EXPORT.sub(r"\1", text)
        parts.append(f'modules["{name}"] = (() => {{\n{text}return {{ {", ".join(names)} }};\n}})();')
    return '"use strict";\n{\nconst modules = {};\n' + "\n".join(parts) + "\n}\n"


def _read_asset(package: str, name: str) -> str:
    return (resources.files(package) / "assets" / name).read_text(encoding="utf-8")
