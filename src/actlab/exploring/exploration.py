"""Explore activations in an interactive page."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actlab.activation.definition import Activation
from actlab.errors import UsageError, summarize_error
from actlab.exploring.page import MOST_FUNCTIONS, choose_spec, render
from actlab.files import replace_file
from actlab.spec import ActivationLike, resolve_all, resolve_definition

DEFAULT = ("relu", "gelu", "tanh")
# A frame separates the styles of the page from those of the notebook.
_FRAME = (
    '<iframe title="Explore activation functions" sandbox="allow-scripts" srcdoc="{page}" '
    'style="width: 100%; height: 900px; border: 0"></iframe>'
)


class Exploration:
    """An interactive page about activation functions. A notebook shows it in a frame.

    Args:
        activations: The definitions that the page shows first.
    """

    def __init__(self, activations: Sequence[Activation[Any]]) -> None:
        self.activations = tuple(activations)

    @property
    def specs(self) -> list[str]:
        """The functions that the page shows first, as named on the command line."""
        return list(map(choose_spec, self.activations))

    def to_html(self, file: str | Path | None = None) -> str:
        """Return the page.

        Args:
            file: File to write the page to. It is written completely or not at all.

        Returns:
            HTML that makes no network request.

        Raises:
            UsageError: The file cannot be written.
        """
        page = render(self.activations)
        if file is not None:
            with replace_file(Path(file)) as temporary:
                temporary.write_text(page, encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        return _FRAME.format(page=html.escape(self.to_html()))

    def __repr__(self) -> str:
        return f"<page about {', '.join(self.specs)}; .to_html('explore.html') writes it>"


def explore(*activations: ActivationLike) -> Exploration:
    """Explore activations in a page that works offline: curves, signals in deep networks, and training.

    Args:
        *activations: Up to six: catalogue names, specs, definitions, modules of actlab, and formulas with or
            without ``"formula:"`` (default: relu, gelu and tanh).

    Returns:
        The page. It makes no network request.

    Raises:
        UsageError: An activation is unknown, has no formula in one input, or is given twice.

    Examples:
        >>> explore("elu(alpha=0.5)", "x * tanh(a * x) with a=2").specs
        ['elu(alpha=0.5)', 'formula:x * tanh(a * x) with a=2.0']
    """
    if len(activations) > MOST_FUNCTIONS:
        raise UsageError(f"explore shows at most {MOST_FUNCTIONS} functions, got {len(activations)}")
    resolved = resolve_all([*map(_complete, activations)] or DEFAULT)
    definitions = []
    for one in resolved:
        definition = resolve_definition(one)
        try:
            choose_spec(definition)
        except UsageError:
            raise
        except Exception as error:  # a user's definition may raise anything
            problem = summarize_error(error)
            raise UsageError(f"activation {one.name!r} cannot be explored: {problem}") from error
        definitions.append(definition)
    return Exploration(definitions)


def _complete(activation: ActivationLike) -> ActivationLike:
    """Return a formula without ``"formula:"`` as a spec, and any other value unchanged."""
    is_formula = isinstance(activation, str) and ":" not in activation and re.search(r"\bx\b", activation)
    return f"formula:{activation}" if is_formula else activation
