"""Kinds of skorch models that train in fleets, from the user's side: searches, comparisons, the ledger."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping
from skorch.helper import SliceDict
from torch import nn

from actlab import FleetSearchCV, compare
from actlab.data.dataset import Dataset
from actlab.fleet.inputs import join_inputs, list_arguments, read_inputs, slice_inputs
from actlab.fleet.module_building import split_inputs
from tests.search_models import Columns, Table
from tests.searches import CLASSES, ROWS, X, Y, classifier, create_network, one_thread, score_matrix

__all__ = ["one_thread"]

FRAME = pd.DataFrame(X, columns=list("abcd"))


def scored(**options):
    callbacks = [
        GradientNormClipping(0.5),
        EpochScoring("f1_macro", lower_is_better=False),
        EarlyStopping("f1_macro", patience=2, lower_is_better=False),
    ]
    return {"optimizer": torch.optim.NAdam, "lr": 0.02, "callbacks": callbacks, "max_epochs": 6, **options}


def test_fleet_search_resumes_frames_and_scores_from_a_ledger(tmp_path):
    def fit(frame=FRAME, **options):
        net = create_network(Columns, **scored(**options))
        search = FleetSearchCV(net, {"lr": [0.02, 0.01]}, cv=2, n_jobs=1, ledger=tmp_path / "runs.db")
        return search.fit(frame, Y)

    first, second = fit(), fit()
    assert first.runs_["how"].eq("autograd").all()
    assert first.runs_["seconds"].tolist() == second.runs_["seconds"].tolist()  # the second trains nothing
    assert np.array_equal(score_matrix(first), score_matrix(second))
    assert second.best_estimator_.history[:, "f1_macro"] == first.best_estimator_.history[:, "f1_macro"]
    renamed = FRAME.rename(columns={"a": "b", "b": "a"})
    assert fit(renamed).runs_["seconds"].tolist() != first.runs_["seconds"].tolist()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # skorch, in predict
def test_fleet_search_predicts_frames_in_their_own_dtypes():
    table = FRAME.assign(kind=Y.astype(np.int8), size=X[:, 0].astype(np.float64), day=np.arange(ROWS))
    fitted = FleetSearchCV(create_network(Table), {"lr": [0.1]}, cv=2, n_jobs=1).fit(table, pd.Series(Y))
    assert fitted.runs_["reason_alone"].eq("").all()
    assert fitted.best_estimator_.predict_proba(table).shape == (ROWS, CLASSES)
    assert fitted.score(table, Y) > 1 / CLASSES


def test_compare_trains_a_skorch_model_with_scores_and_clipping_in_a_fleet():
    net = classifier(**scored())
    data = Dataset(X, Y, "made up", "0" * 16, ("a", "b", "c"))
    comparison = compare(["relu", "tanh"], data, module=net, tune=None)
    assert comparison.results["how"].eq("layer by layer").all()
    assert comparison.results["failure"].eq("").all()
    assert comparison.results["epochs"].between(2, 6).all()


# -- inputs ---------------------------------------------------------------------------------------

INPUTS = {
    "a frame": pd.DataFrame({"a": X[:, 0], "k": Y.astype(np.int16), "b": X[:, 1].astype(float)}),
    "a dict": SliceDict(picture=X.reshape(ROWS, 2, 2), label=Y.astype(np.uint8), tensor=torch.from_numpy(X)),
}


class Echo(nn.Module):
    def forward(self, **inputs):
        return inputs


@pytest.mark.parametrize("name", INPUTS)
def test_join_inputs_keeps_every_value_of_split_inputs(name):
    arrays, module = read_inputs(INPUTS[name]), Echo()
    split_inputs(module, list_arguments(arrays))
    joined = join_inputs(arrays)
    assert joined.shape == (ROWS, sum(array[0].size for array in arrays.values()))
    batch, split = slice_inputs(arrays, slice(3, 9)), module(torch.from_numpy(joined[3:9]))
    assert list(split) == list(batch) == list(INPUTS[name])
    for argument, values in batch.items():
        assert split[argument].dtype == values.dtype
        assert torch.equal(split[argument], values)


def test_slice_inputs_equal_the_batches_of_skorch():
    net = skorch.NeuralNet(nn.PReLU, nn.MSELoss).initialize()
    for X_ in (*INPUTS.values(), X, torch.from_numpy(X), X[::-1]):
        (batch, _) = next(iter(net.get_iterator(net.get_dataset(X_))))
        ours = slice_inputs(read_inputs(X_), slice(0, 128))
        pairs = (
            [(ours, batch)]
            if isinstance(ours, torch.Tensor)
            else zip(ours.values(), batch.values(), strict=True)
        )
        for value, expected in pairs:
            assert value.dtype == expected.dtype
            assert torch.equal(value, expected)


@pytest.mark.parametrize(
    "X_",
    [X.tolist(), pd.Series(Y), pd.DataFrame(X), "text", None],
    ids=["list", "series", "frame", "text", "none"],
)
def test_read_inputs_is_empty_for_other_values(X_):
    assert read_inputs(X_) == {}
