"""Write a page and a picture for every activation into docs/functions/, read off the definitions.

Run ``python docs/make_pages.py [FOLDER]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import actlab
from actlab.describe import properties, summary, table
from actlab.report.figures import write_figure


def page(activation: actlab.Activation[...], picture: str | None) -> str:
    """Return the page of one activation as Markdown."""
    lines = [f"# {activation.name}", "", summary(activation), ""]
    if picture:
        lines += [f"![f, its derivative and its second derivative]({picture})", ""]
    lines += [
        "| | |",
        "|---|---|",
        *(f"| {label} | {_code(label, text)} |" for label, text in properties(activation)),
    ]
    if picture:
        lines += ["", "| x | f | f′ | f″ |", "|--:|--:|--:|--:|"]
        lines += ["| " + " | ".join(cells) + " |" for cells in table(activation)]
    return "\n".join(lines) + "\n"


def _code(label: str, text: str) -> str:
    return f"`{text}`" if label in ("formula", "derivative", "module", "torch.nn twin") else text


def index() -> str:
    """Return the page that lists them all."""
    rows = [f"| [{n}]({n}.md) | `{actlab.catalogue[n].formula()}` |" for n in sorted(actlab.catalogue)]
    return "\n".join(["# The catalogue", "", "| name | formula |", "|---|---|", *rows]) + "\n"


def main() -> None:
    """Write all pages."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "functions"
    folder.mkdir(parents=True, exist_ok=True)
    for name, activation in actlab.catalogue.items():
        picture = None if activation.facts.gated else f"{name}.png"
        if picture:
            write_figure(activation, folder / picture)
        (folder / f"{name}.md").write_text(page(activation, picture), encoding="utf-8")
    (folder / "index.md").write_text(index(), encoding="utf-8")
    print(f"Written: {len(actlab.catalogue)} pages in {folder}")


if __name__ == "__main__":
    main()
