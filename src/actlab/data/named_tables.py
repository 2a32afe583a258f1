"""Tables that are loaded by name: those that come with scikit-learn, and those of openml.org."""

from __future__ import annotations

import http.client
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from actlab.data.readers import BROKEN, Array, format_names, format_reason
from actlab.errors import UsageError, warn_about_data

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("iris", "wine", "breast_cancer", "diabetes")
OPENML = "openml:"


def read_digits() -> tuple[Array, Array]:
    """Return scikit-learn's digits: images (1797, 8, 8) and labels (1797,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target  # whole numbers from 0 to 16, stored as float64


def read_bundled_table(name: str) -> tuple[pd.DataFrame, str]:
    """Return one of ``TABLES``, and the name of its target column; labels are the names of the classes."""
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
    frame: pd.DataFrame = bunch.frame
    if "target_names" in bunch:
        frame["target"] = bunch.target_names[frame["target"]]
    return frame, "target"


def download_table(source: str, target: str | None) -> tuple[pd.DataFrame, str]:
    """Return a table of openml.org, and the name of its target column.

    Args:
        source: ``"openml:"`` and a name or an ID.
        target: The target column; None for the default of the table.

    Raises:
        UsageError: There is no such table, the network is unavailable, or the table has no default target or
            several.
    """
    bunch = _fetch(source)
    if target is None and len(bunch.target_names) != 1:
        names = f"several default targets: {format_names(bunch.target_names)}"
        problem = names if bunch.target_names else "no default target"
        columns = format_names(list(bunch.frame))
        raise UsageError(f"{source} has {problem}; set target (--target COLUMN); its columns are {columns}")
    return bunch.frame, bunch.target_names[0] if target is None else target


def _fetch(source: str) -> Any:
    from sklearn.datasets import fetch_openml

    key = source.removeprefix(OPENML).strip()
    identifier: dict[str, Any] = {"data_id": int(key)} if key.isdecimal() else {"name": key}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # The parser of pandas fails for labels that are numbers (scikit-learn 1.9, pandas 3.1).
            bunch = fetch_openml(**identifier, as_frame=True, parser="liac-arff")
    except (*BROKEN, http.client.HTTPException) as error:
        reason, advice = format_reason(error), "check the name or ID on www.openml.org, and the network"
        if reason.startswith("Sparse"):
            reason, advice = "it is sparse", "read it with scikit-learn's fetch_openml, and pass (X, y)"
        raise UsageError(f"cannot download {source!r}: {reason}; {advice}") from error
    for warning in caught:
        text = str(warning.message).partition("\n")[0].partition(" Available versions")[0]
        if warning.category is UserWarning and "network error" not in text:  # it has tried again
            warn_about_data(f"{source}: {text}")
    return bunch
