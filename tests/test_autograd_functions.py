"""An autograd.Function can be used as an activation in swap, compare and FleetSearchCV."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import skorch
import torch
from torch import nn

import actlab
from actlab.cli import main
from actlab.models.networks import new_activation
from actlab.spec import FunctionModule
from tests.faulty_activations import TanhOnce
from tests.sound_activations import NotebookReLU, OldStyleSoftsign, SigmoidOfOutput

FUNCTIONS = [NotebookReLU, OldStyleSoftsign, SigmoidOfOutput, TanhOnce]
FILE = """
import torch


class Squish(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.tanh()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)
"""


@pytest.mark.parametrize("function", FUNCTIONS)
def test_fresh_wraps_an_autograd_function(function):
    x = torch.linspace(-2, 2, 9)
    module = new_activation(function)
    assert isinstance(module, nn.Module)
    assert torch.equal(module(x), function.apply(x))


def test_function_module_can_be_pickled_with_an_autograd_function():
    x = torch.linspace(-2, 2, 9)
    again = pickle.loads(pickle.dumps(FunctionModule(NotebookReLU)))  # noqa: S301 - bytes of this line
    assert torch.equal(again(x), x.relu())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_swap_inserts_an_autograd_function(function):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(3, 4)
    expected = model[2](function.apply(model[0](x)))
    assert torch.equal(actlab.swap(model, {nn.ReLU: function})(x), expected)


def test_compare_trains_an_autograd_function_from_a_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "act.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    call = [*"compare --no-tune tanh act.py:Squish --data digits --epochs 1 --jobs 1 --quiet".split()]
    assert main([*call, "--out", "out"]) == 0
    table = actlab.Comparison.load("out").results
    scores = table.pivot(index="fold", columns="activation", values="score")
    # Values and slopes are computed as in torch, so training differs only by rounding.
    assert np.allclose(scores["tanh"], scores["act.py:Squish"], atol=0.005)


class Network(nn.Module):
    def __init__(self, act=None):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(64, 8), act or nn.ReLU(), nn.Linear(8, 10)

    def forward(self, x):
        return self.last(self.act(self.first(x)))


def test_search_trains_an_autograd_function():
    data = actlab.load_data("digits")
    torch.manual_seed(0)
    model = skorch.NeuralNetClassifier(Network, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0)
    grid = {"module__act": [nn.ReLU(), NotebookReLU]}
    search = actlab.FleetSearchCV(model, grid, cv=3, n_jobs=1, refit=False).fit(data.X, data.y)
    relu, notebook_relu = search.cv_results_["mean_test_score"]
    assert abs(relu - notebook_relu) < 0.005  # the same function and gradient
