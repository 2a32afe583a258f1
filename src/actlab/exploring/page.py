"""Write the page of ``actlab explore``: one HTML file that works offline."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from actlab.activation.definition import Activation
from actlab.derivation.grammar import describe_grammar
from actlab.exploring.functions import describe_activation, list_catalogue, list_values
from actlab.files import replace_file

# The modules of the page, each after those that it imports.
_MODULES = (
    "syntax special graph formula random propagation network formats page pytorch state "
    "functions-view depth-view train-view take-view main"
).split()
_IMPORT = re.compile(r'^import \{ (.*) \} from "\./(.*)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:const|function|class) (\w+))", re.MULTILINE)
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_page(activations: Iterable[Activation[Any]], path: Path) -> None:
    """Write the page as one HTML file that makes no network request.

    Args:
        activations: What the page shows first.
        path: The file. It is written completely or not at all.

    Raises:
        UsageError: An activation cannot be shown, or the file cannot be written.

    Examples:
        >>> import actlab, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "explore.html"
        >>> write_page([actlab.catalogue["relu"]], file)
        >>> file.read_text(encoding="utf-8")[:15]
        '<!DOCTYPE html>'
    """
    page = render(activations)
    with replace_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(activations: Iterable[Activation[Any]]) -> str:
    """Return the page; see :func:`write_page`."""
    entries, specs = list_catalogue(), []
    for activation in activations:
        entry, spec = describe_activation(activation), _write_spec(activation)
        is_known = entries.get(activation.name, {}).get("formula") == entry["formula"]
        if not spec.startswith("formula:") and not is_known:
            entries[spec := _make_label(activation)] = entry
        specs.append(spec)
    grammar = describe_grammar()
    data = {"grammar": grammar, "entries": entries, "functions": specs}
    script = _join_modules()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "policy": f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:",
        "style": _read_asset("actlab.report.html", "base.css")
        + _read_asset("actlab.exploring", "explore.css"),
        "functions": " ".join(name for name in grammar["functions"] if name != "where"),
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_ESCAPES),
        "script": script,
    }
    template = _read_asset("actlab.exploring", "explore.html")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _write_spec(activation: Activation[Any]) -> str:
    """Return the text that names an activation on the command line: a formula, or a name with values."""
    values = list_values(activation)
    if recipe := getattr(activation, "recipe", None):
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        return f"formula:{recipe.text} with {given}" if given else f"formula:{recipe.text}"
    default = {**dict(activation.parameters), **_find_example(activation.name)}
    changed = [f"{name}={value}" for name, value in values.items() if value != default.get(name)]
    return f"{activation.name}({', '.join(changed)})" if changed else activation.name


def _find_example(name: str) -> dict[str, Any]:
    from actlab.functions import catalogue

    return dict(catalogue[name].example) if name in catalogue else {}


def _make_label(activation: Activation[Any]) -> str:
    """Return the name of an activation that is not a formula and not in the catalogue, with its texts."""
    texts = [f"{name}={value!r}" for name, value in activation.example.items() if isinstance(value, str)]
    return f"{activation.name}({', '.join(texts)})" if texts else activation.name


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
