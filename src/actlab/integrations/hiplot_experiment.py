"""HiPlot's experiment with pages of its own; only who has HiPlot imports this."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import hiplot

from actlab.errors import UsageError
from actlab.files import writing

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
# A frame keeps HiPlot's styles from the notebook, and the sandbox its scripts.
_FRAME = (
    '<div><iframe title="HiPlot" sandbox="allow-scripts" srcdoc="{page}" '
    'style="width: 100%; height: 800px; border: 0"></iframe></div>'
)


_Base: Any = hiplot.Experiment  # whose two methods take more than those below


class Experiment(_Base):
    """A ``hiplot.Experiment`` whose pages open offline and execute none of its values.

    HiPlot's own :meth:`to_html` and :meth:`display` put values raw into a script, where ``</script>`` in one
    would end it, and both ask a font server for a face. These do neither. Values are harmless in HiPlot's
    table only if :func:`actlab.integrations.hiplot.to_hiplot` has made them so.
    """

    def to_html(self, file: str | Path | None = None) -> str:
        """Return the page.

        Args:
            file: Where to write it too; the file appears whole or not at all.

        Raises:
            UsageError: The file cannot be written.
        """
        options = {"dataProviderName": "none", "experiment": self.validate()._asdict()}
        values = json.dumps(options, allow_nan=False).replace("<", "\\u003c")
        bundle = Path(hiplot.__file__).with_name("static") / "built" / "hiplot.bundle.js"
        script = _WEB_FONT.sub("", bundle.read_text(encoding="utf-8"))
        page = _TEMPLATE.format(script=script, values=values)
        if file is not None:
            with writing(Path(file)) as beside:
                beside.write_text(page, encoding="utf-8")
        return page

    def display(self, force_full_width: bool = False) -> None:
        """Show the page in a notebook, in a frame.

        Any notebook shows it, where HiPlot's own needs ipykernel; the kernel does not hear what is brushed.

        Args:
            force_full_width: HiPlot's; the frame is as wide as there is room, with it or without.

        Raises:
            UsageError: This is no notebook.
        """
        try:
            from IPython import display, get_ipython
        except ImportError:
            shell = None
        else:
            shell = get_ipython()
        if shell is None:
            raise UsageError("display() needs a notebook; to_html('page.html') writes the page into a file")
        display.display(display.HTML(_FRAME.format(page=html.escape(self.to_html()))))
