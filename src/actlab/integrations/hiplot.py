"""HiPlot pages that work offline and never execute values as code."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from actlab.errors import UsageError
from actlab.files import replace_file
from actlab.report.tables import to_json_value

_RESERVED = ("uid", "from_uid")  # HiPlot's names for a row and its parent
_JOINER = "\u2060"  # an invisible character

# HiPlot's stylesheet requests a font that the browser can do without.
_WEB_FONT = re.compile(r'@import\s*\\?"https?://[^"]*"')
# The empty icon keeps a browser from requesting one.
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
# A frame separates HiPlot's styles from the notebook, and the sandbox its scripts.
_FRAME = (
    '<div><iframe title="HiPlot" sandbox="allow-scripts" srcdoc="{page}" '
    'style="width: 100%; height: 800px; border: 0"></iframe></div>'
)


class HiPlotPage:
    """A HiPlot experiment as a page that makes no network request.

    HiPlot's own pages insert values unescaped into a script and request a font from a server.

    Attributes:
        experiment: The ``hiplot.Experiment``, to change its options.
    """

    def __init__(self, experiment: Any) -> None:
        self.experiment = experiment

    def to_html(self, file: str | Path | None = None) -> str:
        """Return the page.

        Args:
            file: File to write the page to. It is written completely or not at all.

        Raises:
            UsageError: The file cannot be written.
        """
        import hiplot

        options = {"dataProviderName": "none", "experiment": self.experiment.validate()._asdict()}
        values = json.dumps(options, allow_nan=False).replace("<", "\\u003c")
        bundle = Path(hiplot.__file__).with_name("static") / "built" / "hiplot.bundle.js"
        script = _WEB_FONT.sub("", bundle.read_text(encoding="utf-8"))
        page = _TEMPLATE.format(script=script, values=values)
        if file is not None:
            with replace_file(Path(file)) as temporary:
                temporary.write_text(page, encoding="utf-8")
        return page

    def display(self, force_full_width: bool = False) -> None:
        """Show the page in a notebook, in a frame of the width of the cell.

        Args:
            force_full_width: Ignored; HiPlot's own method has this argument.

        Raises:
            UsageError: This is not a notebook.
        """
        ipython: Any = sys.modules.get("IPython")  # a notebook has imported it
        if ipython is None or ipython.get_ipython() is None:
            raise UsageError("display() needs a notebook; to_html('page.html') writes the page to a file")
        ipython.display.display(ipython.display.HTML(_FRAME.format(page=html.escape(self.to_html()))))


def to_hiplot(rows: Iterable[Mapping[str, Any]]) -> HiPlotPage:
    """Return a HiPlot page of rows.

    Args:
        rows: One mapping from column to value per line of the plot. Values that JSON cannot represent become
            text. Values that are not finite become None, which HiPlot shows separately. HiPlot would
            interpret values and column names as HTML; an invisible character after each "<" and "&" prevents
            this.

    Raises:
        ImportError: HiPlot is not installed; the message explains how to install it.
        UsageError: There are no rows.
    """
    try:
        import hiplot
    except ImportError as error:
        raise ImportError('a HiPlot page needs HiPlot: pip install "actlab[hiplot]"') from error
    points = [
        hiplot.Datapoint(
            {_escape_name(name): _escape(to_json_value(value)) for name, value in row.items()},
            uid=str(uid),
        )
        for uid, row in enumerate(rows)
    ]
    if not points:
        raise UsageError("a HiPlot page needs at least one row; there are none")
    experiment = hiplot.Experiment(points)
    for display in (hiplot.Displays.PARALLEL_PLOT, hiplot.Displays.TABLE):
        experiment.display_data(display)["hide"] = list(_RESERVED)
    return HiPlotPage(experiment)


def _escape_name(name: str) -> str:
    text: str = _escape(str(name))
    return text + _JOINER if text in _RESERVED else text


def _escape(value: Any) -> Any:
    return re.sub("[<&]", rf"\g<0>{_JOINER}", value) if isinstance(value, str) else value
