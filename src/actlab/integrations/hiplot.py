"""HiPlot of rows, shown by pages that open offline, whatever the values are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.errors import UsageError
from actlab.report.tables import plain

if TYPE_CHECKING:
    from actlab.integrations.hiplot_experiment import Experiment

_RESERVED = ("uid", "from_uid")  # what HiPlot calls a row, and the row that it came from
_JOINER = "\u2060"  # an invisible character that joins words


def to_hiplot(rows: Iterable[Mapping[str, Any]]) -> Experiment:
    """Make a HiPlot experiment of rows.

    Args:
        rows: One mapping from column to value per line of the plot. Values may be anything; HiPlot stops at
            numpy scalars, classes and times, so they are made plain first. What is not finite becomes None,
            which HiPlot shows apart from the numbers. HiPlot takes values and names of columns for HTML: an
            invisible character after each "<" and "&" in them keeps them text.

    Returns:
        A ``hiplot.Experiment`` whose pages make no network request, see
        :class:`actlab.integrations.hiplot_experiment.Experiment`.

    Raises:
        ImportError: HiPlot is not installed; the message says how to get it.
        UsageError: There are no rows.
    """
    try:
        import hiplot
    except ImportError as error:
        raise ImportError('no HiPlot page without HiPlot: pip install "actlab[hiplot]"') from error
    from actlab.integrations.hiplot_experiment import Experiment

    points = [
        hiplot.Datapoint(
            {_column(name): _harmless(plain(value)) for name, value in row.items()}, uid=str(place)
        )
        for place, row in enumerate(rows)
    ]
    if not points:
        raise UsageError("a HiPlot page needs at least one row; there are none")
    experiment = Experiment(points)
    for display in (hiplot.Displays.PARALLEL_PLOT, hiplot.Displays.TABLE):
        experiment.display_data(display)["hide"] = list(_RESERVED)  # row numbers, nothing measured
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
    to_hiplot(rows).to_html(path)


def _column(name: str) -> str:
    text: str = _harmless(str(name))
    return text + _JOINER if text in _RESERVED else text


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("<", "<" + _JOINER).replace("&", "&" + _JOINER)
    return value
