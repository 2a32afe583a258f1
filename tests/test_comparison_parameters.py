"""Comparison.parameters: trained parameters of activations in all kinds of runs."""

from __future__ import annotations

import functools
import sqlite3

import pandas as pd
import pytest
import skorch
from torch import nn

from actlab import Comparison, NeuralNet, compare
from actlab.ledger import Ledger
from actlab.models.trained_parameters import find_trained_activations
from tests.report_cases import comparison
from tests.test_comparison_verdicts import SHORT, dataset

__all__ = ["dataset"]

OPTIONS = {"tune": None, **SHORT}
OWN = """
import torch
from torch import nn

class Slopes(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.25, 0.75]))
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)
        self.part = nn.PReLU()
    def forward(self, x):
        return self.part(x) * self.slope.mean() * self.fixed

class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.5))
    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)
"""


class OwnNet(nn.Module):
    """Takes the class of its activation, and has an activation of its own."""

    def __init__(self, num_features, num_classes, act_layer=nn.ReLU):
        super().__init__()
        self.first, self.middle = nn.Linear(num_features, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, num_classes)
        self.acts = nn.ModuleList([act_layer(), act_layer()])

    def forward(self, x):
        return self.last(self.acts[1](self.middle(self.acts[0](self.first(x)))))


def test_comparison_parameters_are_those_of_the_trained_networks(dataset, tmp_path):
    with Ledger(tmp_path / "l.sqlite", weights=True) as ledger:
        comparison = compare(["prelu", "relu"], dataset, ledger=ledger, **OPTIONS)
        results = ledger.results(comparison.results["key"].to_list())
    table = comparison.parameters
    assert table.columns.to_list() == ["activation", "split", "fold", "seed", "layer", "name", "value"]
    assert set(table["activation"]) == {"prelu"}
    for _, run in comparison.results[comparison.results["activation"] == "prelu"].iterrows():
        weights = results[run["key"]].weights
        expected = [value.item() for name, value in weights.items() if value.numel() == 1]
        rows = table[(table["fold"] == run["fold"]) & (table["seed"] == run["seed"])]
        assert rows["value"].to_list() == expected
        assert rows["layer"].to_list() == [1, 2]
    assert table["value"].nunique() == len(table)


def test_comparison_parameters_of_user_modules_are_means_of_trained_parameters(
    dataset, tmp_path, monkeypatch
):
    (tmp_path / "own_slopes.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    table = compare(["own_slopes.py:Slopes", "own_slopes.py:Gate", "relu"], dataset, **OPTIONS).parameters
    slopes, gates = (table[table["activation"] == f"own_slopes.py:{name}"] for name in ("Slopes", "Gate"))
    assert slopes["name"].to_list() == ["slope", "part.weight"] * 6
    assert slopes["layer"].to_list() == [1, 1, 2, 2] * 3
    assert (slopes[slopes["name"] == "slope"]["value"] - 0.5).abs().between(1e-6, 0.5).all()
    assert gates["name"].to_list() == ["beta"] * 6
    assert (gates["value"] - 1.5).abs().between(1e-6, 1).all()
    assert gates["fold"].to_list() == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("replaced", [{}, {"replace": "relu"}])
def test_comparison_parameters_of_a_user_network(dataset, replaced):
    net = OwnNet(4, 3) if replaced else OwnNet
    module = nn.Sequential(net, nn.Dropout(0.1)) if replaced else functools.partial(net, 4, 3)
    table = compare(["prelu(init=0.1)"], dataset, module=module, epochs=4, tune=None, **replaced).parameters
    assert table["layer"].to_list() == [1, 2] * 3
    assert table["value"].nunique() == 6


def test_comparison_parameters_of_runs_that_skorch_trains(dataset):
    class Own(skorch.NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, X=None, training=False):
            return super().get_loss(y_pred, y_true, X, training) * 1.5

    net = Own(
        NeuralNet,
        module__num_features=4,
        module__num_classes=3,
        module__num_units=4,
        criterion=nn.CrossEntropyLoss,
        max_epochs=3,
        verbose=0,
    )
    comparison = compare(["prelu"], dataset, module=net, tune=None)
    assert set(comparison.results["how"]) == {"skorch"}
    assert comparison.parameters["value"].nunique() == len(comparison.parameters) == 6


def test_comparison_parameters_come_from_the_ledger(dataset, tmp_path):
    options = {"ledger": tmp_path / "l.sqlite", "seeds": 2, **OPTIONS}
    first = compare(["prelu", "relu"], dataset, diagnostics=False, **options)
    again = compare(["prelu", "relu"], dataset, diagnostics=False, **options)
    assert again.results["seconds"].to_list() == first.results["seconds"].to_list()
    pd.testing.assert_frame_equal(again.parameters, first.parameters, check_exact=True)
    assert len(first.parameters) == 12


def test_comparison_parameters_complete_results_of_other_sessions(dataset, tmp_path):
    """A ledger may hold results with diagnostics but without parameters."""
    path = tmp_path / "l.sqlite"
    first = compare(["prelu"], dataset, diagnostics=True, ledger=path, **OPTIONS)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE diagnostics SET records = json_remove(records, '$.parameters')")
    connection.close()
    again = compare(["prelu"], dataset, diagnostics=False, ledger=path, **OPTIONS)
    assert again.diagnostics.empty
    third = compare(["prelu"], dataset, diagnostics=False, ledger=path, **OPTIONS)
    pd.testing.assert_frame_equal(third.parameters, first.parameters, check_exact=True)
    pd.testing.assert_frame_equal(third.diagnostics, first.diagnostics, check_exact=True)
    assert third.results["seconds"].to_list() == first.results["seconds"].to_list()


def test_comparison_parameters_have_no_rows_of_failed_runs(dataset):
    comparison = compare(["prelu", "relu"], dataset, lr=1e30, **OPTIONS)
    assert comparison.parameters.empty
    assert not any("Trained parameters" in sentence for sentence in comparison.sentences())


def test_comparison_parameters_are_those_of_the_chosen_settings(dataset):
    options = {**SHORT, "tune": {"lr": [0.001, 0.05]}}
    comparison = compare(["prelu"], dataset, **options)
    merged = comparison.results.merge(comparison.parameters, on=["fold", "seed", "lr"])
    assert len(merged) == len(comparison.parameters) == 6
    assert comparison.as_given.parameters.empty


def test_comparison_parameters_are_saved(dataset, tmp_path):
    comparison = compare(["prelu", "relu"], dataset, **OPTIONS)
    comparison.to_csv(tmp_path)
    again = Comparison.load(tmp_path)
    pd.testing.assert_frame_equal(again.parameters, comparison.parameters)
    assert again.sentences() == comparison.sentences()


def test_comparison_sentences_have_the_spread_of_parameters():
    values = {1: [1.6, 1.7], 2: [0.5, 0.5]}
    rows = [
        {"activation": "prelu", "fold": fold, "layer": layer, "name": "weight", "value": value}
        for layer, each in values.items()
        for fold, value in enumerate(each, 1)
    ]
    rows += [{**rows[0], "activation": "own", "layer": layer} for layer in range(1, 7)]
    sentence = comparison(parameters=pd.DataFrame(rows)).sentences()[-1]
    assert sentence == (
        "Trained parameters by layer, mean ± standard deviation over the runs: "
        "prelu weight 1.65 ± 0.05, 0.5 ± 0; own weight 1.6, …, 1.6."
    )


def test_find_trained_activations_ignores_others_and_shared_modules():
    shared, other = nn.PReLU(), nn.PReLU(3)
    network = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.ReLU()), "c": other})
    assert find_trained_activations(network, nn.PReLU()) == ("a", "c")
    assert find_trained_activations(network, nn.ReLU()) == ()
    assert find_trained_activations(network, nn.PReLU().requires_grad_(False)) == ()
    own = nn.Sequential(nn.PReLU())
    assert find_trained_activations(nn.Sequential(nn.Linear(2, 2), own), own) == ("1",)
