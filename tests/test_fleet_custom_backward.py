"""Fleets keep custom backward functions; skorch trains models with parameters of several dtypes."""

from __future__ import annotations

import pytest
import skorch
import torch
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.autograd import Function

import actlab


class Rounds(Function):
    """A straight-through estimator: rounds, with the gradient of the identity."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.round(4 * x) / 4

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


class Reverses(Function):
    """Returns its input, and a tenth of the negative gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return -0.1 * grad


class OldHalves(Function):
    """relu with half of its gradient, in the old style."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx, grad):
        return 0.5 * grad * (ctx.saved_tensors[0] > 0)


reverse = Reverses.apply  # bound before tracing


class Network(nn.Module):
    def __init__(self, function="Rounds"):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(64, 12), nn.Linear(12, 10)
        self.function = {"Rounds": Rounds.apply, "reverse": reverse, "OldHalves": OldHalves.apply}[function]

    def forward(self, x):
        return self.last(self.function(torch.tanh(self.first(x))))


class Scales(nn.Module):
    def __init__(self, dtype="complex"):
        super().__init__()
        torch.manual_seed(0)
        start = torch.tensor(0.3 + 0.2j) if dtype == "complex" else torch.tensor(0.7, dtype=torch.float64)
        self.linear, self.scale = nn.Linear(64, 10), nn.Parameter(start)

    def forward(self, x):
        return self.linear((x * self.scale).abs().float() * x.sign())


def mean_losses(search_class, module, grid, **options):
    data = actlab.load_data("digits")
    model = skorch.NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, max_epochs=3, lr=0.1, verbose=0, train_split=None
    )
    search = search_class(model, grid, cv=2, scoring="neg_log_loss", refit=False, n_jobs=1, **options)
    search.fit(data.X[:400], data.y[:400])
    return search, search.cv_results_["mean_test_score"]


@pytest.mark.parametrize("function", ["Rounds", "reverse", "OldHalves"])
def test_search_keeps_the_backward_of_a_function_in_a_forward(function):
    grid = {"module__function": [function]}
    search, result = mean_losses(actlab.FleetSearchCV, Network, grid)
    assert result == pytest.approx(mean_losses(GridSearchCV, Network, grid)[1], rel=1e-4)
    assert set(search.runs_["how"]) <= {"autograd", "skorch"}


@pytest.mark.parametrize("dtype", ["complex", "float64"])
def test_search_leaves_parameters_of_several_dtypes_to_skorch(dtype):
    grid = {"module__dtype": [dtype]}
    search, result = mean_losses(actlab.FleetSearchCV, Scales, grid)
    assert result == pytest.approx(mean_losses(GridSearchCV, Scales, grid)[1], rel=1e-6)
    assert set(search.runs_["how"]) == {"skorch"}
    assert search.runs_["reason_alone"].str.contains("a fleet needs one real dtype").all()
