"""Formulas as MathML, which browsers draw themselves: no script, no picture, no font from elsewhere."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

# Many systems have no font whose brace grows with what it holds: the stylesheet draws that of cases.
_BRACE = '<mo stretchy="true" fence="true" form="prefix">&#x0007B;</mo><mtable>'


def mathml(latex: str, display: str) -> str:
    """Return LaTeX as MathML.

    Args:
        latex: The formula.
        display: ``"inline"`` or ``"block"``.

    Examples:
        >>> mathml("x^2", "inline").count("<msup>")
        1
    """
    return convert(latex, display=display).replace(_BRACE, '<mtable class="cases">')


def _visit_inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _visit_block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer under the name that ``html_math_renderer`` chooses it by."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
