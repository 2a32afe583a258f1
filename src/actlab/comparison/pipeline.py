"""Pipelines of scikit-learn, whose transformers are fitted on the training samples of each fold."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import skorch
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from actlab.data.dataset import Dataset, compute_fingerprint
from actlab.errors import UsageError, summarize_error
from actlab.models.random_streams import seeded_numpy


@dataclass(frozen=True, repr=False, eq=False)
class TransformedDataset(Dataset):
    """A dataset whose features are the output of transformers.

    Args:
        transformers: The transformers. They get :attr:`encoded`, the features before scaling.
    """

    transformers: Pipeline | None = None

    def scale(self, rows: Any) -> npt.NDArray[np.float32]:
        """Return the features (n, ...) of all samples, from transformers fitted on the samples ``rows``.

        Raises:
            UsageError: A transformer fails, or its output has a different number of features from :attr:`X`.
        """
        assert self.encoded is not None
        X = transform(self.transformers, self.encoded, self.y, rows)
        if X.shape[1] != self.num_features:
            problem = f"the transformers of the pipeline make {self.num_features} features from all samples"
            raise UsageError(f"{problem}, but {X.shape[1]} from the training samples of a fold")
        return X.reshape(self.X.shape)


def transform(
    transformers: Any, X: npt.NDArray[Any], y: npt.NDArray[Any], rows: Any
) -> npt.NDArray[np.float32]:
    """Return features X (n, ...), from copies of transformers that are fitted on the samples ``rows``.

    Raises:
        UsageError: A transformer fails, or its output is not a finite number for each sample and feature.
    """
    try:
        with seeded_numpy(0):
            made = clone(transformers).fit(X[rows], y[rows]).transform(X)
        made = np.asarray(made.toarray() if hasattr(made, "toarray") else made, np.float32)
    except Exception as error:  # raised by the user's transformers
        raise UsageError(f"the pipeline's transformers fail: {summarize_error(error)}") from error
    if made.ndim != 2 or len(made) != len(X) or not np.isfinite(made).all():
        problem = f"the pipeline's transformers return the shape {made.shape}, or numbers that are not finite"
        raise UsageError(f"{problem}; they must return finite features ({len(X)}, d)")
    return made


def split_pipeline(pipeline: Pipeline, dataset: Dataset) -> tuple[skorch.NeuralNet, Dataset]:
    """Return the skorch model at the end of a pipeline, and the dataset that its transformers make.

    Args:
        pipeline: The pipeline.
        dataset: The data. The transformers get the features before columns are scaled.

    Raises:
        UsageError: The last step is not a skorch model, or a transformer fails.
    """
    net = pipeline[-1] if len(pipeline) else None
    if not isinstance(net, skorch.NeuralNet):
        kind = type(net).__name__
        raise UsageError(f"module is a Pipeline that ends in a {kind}; its last step must be a skorch model")
    if len(pipeline) == 1:
        return net, dataset
    transformers = Pipeline(pipeline.steps[:-1])
    before = dataset.X if dataset.encoded is None else dataset.encoded
    every = np.arange(len(before))
    X = transform(transformers, before, dataset.y, every)
    # Other transformers can make the same features from all samples.
    some = transform(transformers, before, dataset.y, every[::2])
    shape = dataset.shape if X.shape == dataset.X.shape else ()
    names = ", ".join(
        step if isinstance(step, str) else type(step).__name__ for _, step in transformers.steps
    )
    kept = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    changed = {
        "X": X,
        "fingerprint": compute_fingerprint(np.stack([X, some]) if X.shape == some.shape else X, dataset.y),
        "shape": shape,
        "encoded": np.asarray(before),
        "preprocessing": f"transformed by {names}, fitted on the training samples of each fold",
    }
    made = TransformedDataset(**{**kept, **changed}, channels="first", transformers=transformers)
    return net, made
