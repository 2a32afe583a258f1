"""The report of a check: one row for each capability, as text, JSON and JUnit XML."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from xml.etree import ElementTree

PASS, FAIL, UNSUPPORTED = "pass", "fail", "unsupported"
NOT_APPLICABLE, COULD_NOT_RUN = "not applicable", "could not run"
STATUSES = (FAIL, COULD_NOT_RUN, UNSUPPORTED, PASS, NOT_APPLICABLE)  # worst first
_COLOURS = {FAIL: "31", COULD_NOT_RUN: "35", UNSUPPORTED: "33", PASS: "32", NOT_APPLICABLE: "2"}


class Outcome(Exception):
    """Ends a row with a status other than pass."""

    status = FAIL


class Failure(Outcome):
    """The target is wrong; the text has the smallest input that shows it and the expected value."""


class Unsupported(Outcome):
    """The target lacks the capability and raises an error instead of returning a wrong result."""

    status = UNSUPPORTED


class NotApplicable(Outcome):
    """The capability does not exist for this target."""

    status = NOT_APPLICABLE


@dataclass(frozen=True)
class Row:
    """One capability: its name, ``pass``, ``fail``, ``unsupported``, ``not applicable`` or ``could not run``,
    and one line of detail."""

    name: str
    status: str
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """The result of checking one target.

    Attributes:
        target: The name of the target.
        rows: One :class:`Row` for each capability, in the order in which they were run.
    """

    target: str
    rows: Sequence[Row]

    @property
    def passed(self) -> bool:
        """Whether no row failed."""
        return all(row.status != FAIL for row in self.rows)

    def row(self, name: str) -> Row:
        """Return the row with this name."""
        return next(row for row in self.rows if row.name == name)

    def text(self, *, width: int = 80, colour: bool = False) -> str:
        """Return the report as a table, worst first.

        Args:
            width: Columns of the terminal.
            colour: Whether to colour the statuses with escape sequences.
        """
        counts = [(s, sum(row.status == s for row in self.rows)) for s in STATUSES]
        lines = [
            *textwrap.wrap(f"{self.target}: " + ", ".join(f"{n} {s}" for s, n in counts if n), width),
            "",
        ]
        named = max([len(row.name) for row in self.rows], default=0)
        room = max(width - named - 18, 20)
        printed: dict[tuple[str, str], str] = {}  # a long detail is printed once
        for row in sorted(self.rows, key=lambda row: STATUSES.index(row.status)):
            earlier = printed.setdefault((row.status, row.detail), row.name)
            repeats = len(row.detail) > room and earlier != row.name
            detail = f"same as {earlier}" if repeats else row.detail
            first, *rest = textwrap.wrap(detail, room) or [""]
            status = f"{row.status:<14}"
            if colour:
                status = f"\x1b[{_COLOURS[row.status]}m{status}\x1b[0m"
            lines.append(f"{row.name:<{named}}  {status}  {first}".rstrip())
            lines += [f"{'':<{named + 18}}{line}" for line in rest]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def to_json(self) -> dict[str, object]:
        """Return the report as plain values."""
        return {"target": self.target, "passed": self.passed, "rows": [asdict(row) for row in self.rows]}


def format_junit(reports: Sequence[CheckReport]) -> str:
    """Return reports as a JUnit XML document, one suite for each target."""
    root = ElementTree.Element("testsuites")
    for report in reports:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=report.target,
            tests=str(len(report.rows)),
            failures=str(sum(row.status == FAIL for row in report.rows)),
            skipped=str(sum(row.status not in (PASS, FAIL) for row in report.rows)),
        )
        for row in report.rows:
            case = ElementTree.SubElement(suite, "testcase", classname=report.target, name=row.name)
            if row.status == FAIL:
                ElementTree.SubElement(case, "failure", message=_escape(row.detail))
            elif row.status != PASS:
                ElementTree.SubElement(case, "skipped", message=_escape(f"{row.status}: {row.detail}"))
            else:
                ElementTree.SubElement(case, "system-out").text = _escape(row.detail)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _escape(text: str) -> str:
    """Escape control characters, which XML does not allow and an error message may contain."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
