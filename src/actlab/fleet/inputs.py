"""The inputs of skorch models as one array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from skorch.helper import SliceDict
from torch import Tensor

from actlab.fleet.module_building import Arguments

Array = npt.NDArray[Any]


def read_inputs(X: Any) -> dict[str, Any]:
    """Return inputs as arrays (n, ...), each by the name of the module argument that skorch passes it to.

    Args:
        X: An array or a tensor (whose name is empty), a DataFrame with named columns, or a SliceDict. Any
            other value gives no arrays.
    """
    if isinstance(X, pd.DataFrame):
        if not all(isinstance(name, str) for name in X):
            return {}
        columns = {str(name): X[name].values for name in X}  # arrays unless the dtype is pandas' own
        return {name: v.reshape(-1, 1) if isinstance(v, np.ndarray) else v for name, v in columns.items()}
    values = X if isinstance(X, SliceDict) else {"": X}
    arrays = {name: v.detach().cpu().numpy() if isinstance(v, Tensor) else v for name, v in values.items()}
    return arrays if isinstance(X, SliceDict | Tensor | np.ndarray) else {}


def read_targets(y: Any) -> Any:
    """Return targets as an array if they are a tensor or a Series."""
    return y.to_numpy() if isinstance(y, pd.Series) else read_inputs(y).get("", y)


def slice_inputs(arrays: Mapping[str, Array], samples: slice) -> Any:
    """Return the inputs of some samples as a batch of skorch: a tensor, or a dict of tensors."""
    tensors = {name: torch.from_numpy(np.array(array[samples])) for name, array in arrays.items()}
    return tensors.get("", tensors)


def join_inputs(arrays: Mapping[str, Array]) -> Array:
    """Return all inputs of each sample as one array (n, ...), whose dtype holds their values exactly.

    Raises:
        ValueError: No dtype holds all values exactly, or the numbers of samples differ.
    """
    if "" in arrays:
        return arrays[""]
    flat = [array.reshape(len(array), -1) for array in arrays.values()]
    joined = np.concatenate(flat, axis=1)
    for name, array in arrays.items():
        if array.dtype.kind in "iu" and joined.dtype.kind == "f" and np.abs(array).max(initial=0) > 2**53:
            raise ValueError(f"the integers in {name} are too large for {joined.dtype}")
    return joined


def list_arguments(arrays: Mapping[str, Array]) -> Arguments:
    """Return how :func:`split_inputs` splits what :func:`join_inputs` returns; empty for an unnamed array."""
    named = [] if "" in arrays else arrays.items()
    return tuple((name, array.shape[1:], array.dtype.name) for name, array in named)
