"""HiPlot pages that open offline, whatever the values are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from actlab._errors import UsageError
from actlab._files import writing
from actlab.report.tables import plain

# HiPlot's stylesheet asks a font server for a face that the browser can do without.
_WEB_FONT = re.compile(r'@import\s*\\?"https?://[^"]*"')

# The empty icon keeps a browser from asking the server for one.
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>actlab: HiPlot</title><link rel="icon" href="data:,"></head>
<body style="margin: 0">
<div id="plot"><noscript>HiPlot needs JavaScript.</noscript></div>
<script>{script}</script>
<script>hiplot.render(document.getElementById("plot"), {values});</script>
</body>
</html>
"""


def to_hiplot(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Make a HiPlot experiment of rows.

    Args:
        rows: One mapping from column to value per line of the plot. Values may be anything; HiPlot stops at
            numpy scalars, classes and times, so they are made plain first.

    Returns:
        A ``hiplot.Experiment``.

    Raises:
        ImportError: HiPlot is not installed; the message says how to get it.
        UsageError: There are no rows.
    """
    try:
        import hiplot
    except ImportError as error:
        raise ImportError('no HiPlot page without HiPlot: pip install "actlab[hiplot]"') from error
    plain_rows = [{str(name): plain(value) for name, value in row.items()} for row in rows]
    if not plain_rows:
        raise UsageError("a HiPlot page needs at least one row; there are none")
    experiment = hiplot.Experiment.from_iterable(plain_rows)
    for display in (hiplot.Displays.PARALLEL_PLOT, hiplot.Displays.TABLE):
        experiment.display_data(display)["hide"] = ["uid", "from_uid"]  # row numbers, nothing measured
    return experiment


def write_hiplot(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write a HiPlot page of rows that makes no network request.

    Args:
        rows: As for :func:`to_hiplot`.
        path: The HTML file; it appears whole or not at all.

    Raises:
        ImportError: HiPlot is not installed; the message says how to get it.
        UsageError: There are no rows, or the file cannot be written.
    """
    page = _page(to_hiplot(rows))
    with writing(path) as beside:
        beside.write_text(page, encoding="utf-8")


def _page(experiment: Any) -> str:
    import hiplot

    # HiPlot's own to_html puts values raw into the script, where "</script>" in one would end it, and its
    # table takes them for HTML: an invisible word joiner keeps "<" from opening a tag there.
    options = {"dataProviderName": "none", "experiment": experiment.validate()._asdict()}
    values = json.dumps(options, allow_nan=False).replace("<", "\\u003c\\u2060")
    bundle = Path(hiplot.__file__).with_name("static") / "built" / "hiplot.bundle.js"
    script = _WEB_FONT.sub("", bundle.read_text(encoding="utf-8"))
    return _TEMPLATE.format(script=script, values=values)
