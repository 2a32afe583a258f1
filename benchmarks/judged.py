"""Judge published tables of results, and compare the verdicts with what the authors conclude.

``python -m benchmarks.judged`` writes docs/judged.md. It trains nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import actlab

DOCS = Path(__file__).parents[1] / "docs"
PAGE, TABLES = DOCS / "judged.md", DOCS / "judged"


def read_tables() -> dict[str, dict[str, Any]]:
    """Return the entries of docs/judged/tables.toml by the name of their table."""
    tables = tomllib.loads((TABLES / "tables.toml").read_text(encoding="utf-8"))
    for entry in tables.values():
        entry.update({key: " ".join(text.split()) for key, text in entry.items() if isinstance(text, str)})
    return tables


def judge_table(name: str, options: Mapping[str, Any]) -> actlab.Judgement:
    """Return the judgement on a published table.

    Args:
        name: The name of the table.
        options: The arguments of :func:`actlab.judge`.
    """
    return actlab.judge(TABLES / f"{name}.csv", **options)


def format_page() -> str:
    """Judge all tables; return the page."""
    tables = read_tables()
    rows, sections = [], []
    for name, entry in tables.items():
        judgement = judge_table(name, entry["options"])
        cells = [
            entry["title"],
            len(judgement.runs),
            f"`{judgement.design.analysis}`",
            entry["verdict"],
            "yes" if entry["agrees"] else "no",
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |")
        sections.append(_format_section(name, entry, judgement))
    agree = sum(entry["agrees"] for entry in tables.values())
    return _PAGE.format(
        count=len(tables), agree=agree, rows="\n".join(rows), sections="\n".join(sections).rstrip("\n")
    )


def _format_section(name: str, entry: Mapping[str, Any], judgement: actlab.Judgement) -> str:
    omitted = tuple(entry.get("omitted", ()))
    sentences = [f"> - {one}" for one in judgement.sentences() if not one.startswith(omitted)]
    if omitted:
        sentences.append(f"> - ({len(omitted)} more sentences)")
    return _SECTION.format(
        **{key: entry[key] for key in ("title", "source", "conclusion", "reason")},
        command=_format_command(name, entry["options"]),
        sentences="\n".join(sentences),
        agrees="Agrees" if entry["agrees"] else "Differs",
    )


def _format_command(name: str, options: Mapping[str, Any]) -> str:
    words = ["actlab", "judge", f"docs/judged/{name}.csv"]
    for option, value in options.items():
        words.append(f"--{option.replace('_', '-')}")
        if value is not True:
            words.append("''" if value == [] else str(value))
    return " ".join(words)


_PAGE = """# Published tables, judged

Does [`actlab judge`](guide/judge.md) agree with what people conclude from their own results? These {count}
tables come from papers and repositories that publish each run, fold or dataset. They were chosen for their
variety, not at random. `docs/judged/` has the numbers and names the sources. {agree} verdicts agree with the
authors. For the other tables, `judge` decides no pair, because there are too few runs.

<!-- not run: it writes this page -->
```sh
python -m benchmarks.judged
```

| table | runs | analysis | verdict of `judge` | agrees |
| --- | --: | --- | --- | --- |
{rows}

`judge` finds the [design](guide/judge.md#design-and-analysis) in the columns and chooses the analysis.

{sections}
"""

_SECTION = """## {title}

{source}

**Authors:** {conclusion}

**Call:** `{command}`

{sentences}

**{agrees}:** {reason}
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(format_page(), encoding="utf-8")
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    main()
