"""An autoencoder with a bottleneck of 8 units for images of digits."""

from __future__ import annotations

from typing import Any

from actlab.data.dataset import Dataset, compute_fingerprint
from actlab.data.load import load_data
from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings


def load() -> Dataset:
    """Return the digits, with the images themselves as targets and one scale for all pixels."""
    X = load_data("digits").X
    return Dataset(X, X, "digits", compute_fingerprint(X, X), ())


def explained_variance(net: Any, X: Any, y: Any) -> float:
    """Return the share of the variance of all pixels that the outputs explain."""
    from sklearn.metrics import r2_score

    return float(r2_score(y, net.predict(X), multioutput="variance_weighted"))


TASK = Task(
    name="digits-autoencoder",
    description="autoencoder of 8x8 digits with 8 units in the middle",
    data=load,
    settings=TrainSettings(hidden=(48, 8, 48), epochs=20, optimizer="adam", lr=0.003),
    scoring=explained_variance,
    seconds=0.04,
)
