"""Models that change their own state are trained by skorch, with the scores of GridSearchCV."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import nn

from actlab import FleetSearchCV
from actlab.fleet.module_state import StateWatch
from tests.searches import CLASSES, FEATURES, X, Y, create_network, one_thread, score_matrix

__all__ = ["one_thread"]


class Network(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)
        self.activation = activation()

    def forward(self, x):
        return self.last(self.activation(self.first(x)))


class Leaky(nn.Module):
    """Base of activations whose negative slope depends on earlier calls."""

    def leaky(self, x, slope):
        return torch.where(x > 0, x, x * slope)


class Counter(Leaky):
    def __init__(self):
        super().__init__()
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        return self.leaky(x, 1 / (1 + self.steps))


class History(Leaky):
    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, x):
        self.sizes.append(x.shape[-2])
        return self.leaky(x, 1 / len(self.sizes))


class Cache(Leaky):
    def __init__(self):
        super().__init__()
        self.seen = {"calls": {"train": 0, "eval": 0}}

    def forward(self, x):
        self.seen["calls"]["train" if self.training else "eval"] += 1
        return self.leaky(x, 1 / (1 + self.seen["calls"]["train"]))


class Outer(Leaky):
    """Changes a submodule that is never called."""

    def __init__(self):
        super().__init__()
        self.inner = Counter()

    def forward(self, x):
        self.inner.steps += 1
        return self.leaky(x, 1 / (1 + self.inner.steps))


class PlainTensor(Leaky):
    def __init__(self):
        super().__init__()
        self.total = torch.zeros(())

    def forward(self, x):
        self.total.add_(self.training)
        return self.leaky(x, 1 / (1 + self.total))


class PlainArray(Leaky):
    def __init__(self):
        super().__init__()
        self.total = np.ones(2)

    def forward(self, x):
        self.total[1] += self.training
        return self.leaky(x, 1 / float(self.total[1]))


class Previous(Leaky):
    """Saves a tensor of its last call."""

    def __init__(self):
        super().__init__()
        self.last = None

    def forward(self, x):
        slope = 0.1 if self.last is None else torch.tanh(self.last)
        self.last = x.detach().mean()
        return self.leaky(x, slope)


class EvalOnly(Leaky):
    def __init__(self):
        super().__init__()
        self.evaluations = 0

    def forward(self, x):
        self.evaluations += not self.training
        return self.leaky(x, 1 / (1 + self.evaluations))


class Toggle(Leaky):
    """Returns to its first state after every second call."""

    def __init__(self):
        super().__init__()
        self.odd = False

    def forward(self, x):
        self.odd = not self.odd
        return self.leaky(x, 0.5 if self.odd else 0.1)


class Threshold(Leaky):
    """Changes only for more samples than the first test uses."""

    def __init__(self):
        super().__init__()
        self.large = 0

    def forward(self, x):
        self.large += x.shape[-2] > 2
        return self.leaky(x, 1 / (1 + self.large))


class Later(Leaky):
    """Changes after a registered counter reaches a limit."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.slope = 0.5

    def forward(self, x):
        if self.training:
            self.steps += 1
        if self.steps.item() == 7:
            self.slope = 0.01
        return self.leaky(x, self.slope)


class Backward(Leaky):
    """Changes in backward."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def count(self, grad):
        self.steps += 1

    def forward(self, x):
        y = self.leaky(x, 1 / (1 + self.steps))
        if y.requires_grad:
            y.register_hook(self.count)
        return y


class OwnGenerator(Leaky):
    """Draws from its own random generator."""

    def __init__(self):
        super().__init__()
        self.random = random.Random(3)

    def forward(self, x):
        return self.leaky(x, self.random.random())


class Evaluated(Leaky):
    """Counts all calls in a buffer, so that evaluations change it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        return self.leaky(x, 1 / self.calls)


class Shrinking(Leaky):
    """Changes its parameter in forward."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        self.slope.data = self.slope.data * 0.99
        return self.leaky(x, self.slope)


class Growing(nn.Module):
    """Creates its layer in the first call."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList()

    def forward(self, x):
        if not self.layers:
            self.layers.append(nn.Tanh())
        return self.layers[0](x)


CHANGING = {
    Counter: "the attribute 'steps' of activation (Counter)",
    History: "the attribute 'sizes' of activation (History)",
    Cache: "the attribute 'seen' of activation (Cache)",
    Outer: "the attribute 'steps' of activation.inner (Counter)",
    PlainTensor: "the attribute 'total' of activation (PlainTensor)",
    PlainArray: "the attribute 'total' of activation (PlainArray)",
    Previous: "the attribute 'last' of activation (Previous)",
    EvalOnly: "the attribute 'evaluations' of activation (EvalOnly)",
    Toggle: "the attribute 'odd' of activation (Toggle)",
    Threshold: "the attribute 'large' of activation (Threshold)",
    Later: "the attribute 'slope' of activation (Later)",
    Backward: "the attribute 'steps' of activation (Backward)",
    OwnGenerator: "the attribute 'random' of activation (OwnGenerator)",
    Evaluated: "activation.calls when it is called in evaluation mode",
    Shrinking: "activation.slope when it is called in training mode",
    Growing: "the layers, parameters or buffers of activation.layers (ModuleList)",
}
SPLIT = [(np.arange(90), np.arange(90, 150))]


def by_fleet_and_skorch(model, grid):
    """Return FleetSearchCV and the scores of GridSearchCV, on one split from the same seed."""
    options = {"cv": SPLIT, "scoring": "neg_log_loss", "refit": False}
    ours = FleetSearchCV(model, grid, n_jobs=1, seeds=[5], **options).fit(X, Y)
    theirs = []
    for lr in grid["lr"]:
        torch.manual_seed(5)
        theirs.append(score_matrix(GridSearchCV(model, {"lr": [lr]}, **options).fit(X, Y))[0])
    return ours, np.array(theirs)


@pytest.mark.parametrize("kind", CHANGING, ids=lambda kind: kind.__name__)
def test_fleet_search_trains_modules_that_change_themselves_by_skorch(kind):
    model = create_network(Network, module__activation=kind)
    ours, theirs = by_fleet_and_skorch(model, {"lr": [0.1, 0.05]})
    assert ours.runs_["how"].eq("skorch").all()
    assert ours.runs_["reason_alone"].str.startswith(f"the network changes {CHANGING[kind]}").all()
    assert ours.runs_["failure"].eq("").all()
    assert np.array_equal(score_matrix(ours), theirs)


# -- state outside of modules -------------------------------------------------------------------------

CALLS = 0


class Global(Leaky):
    def forward(self, x):
        global CALLS
        CALLS += 1
        return torch.tanh(x)


class OfClass(Leaky):
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return torch.tanh(x)


def closure():
    calls = [0]

    def apply(x):
        calls[0] += 1
        return torch.tanh(x)

    return apply


def late_closure():
    calls = {"large": 0}

    def apply(x):
        calls["large"] += x.shape[-2] > 2
        return torch.tanh(x)

    return apply


TOTALS: list[float] = []


def remember(x):
    if x.shape[-2] > 2 and len(TOTALS) < 100:
        TOTALS.append(x.shape[-2])


class LateGlobal(Leaky):
    """Changes a global variable in a helper, but not for the two samples of the first test."""

    def forward(self, x):
        remember(x)
        return torch.tanh(x)


class Callable:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return torch.tanh(x)


class NumPyDraws(Leaky):
    def forward(self, x):
        return self.leaky(x, np.random.rand())


class PythonDraws(Leaky):
    def forward(self, x):
        return self.leaky(x, random.random() if self.training else 0.5)


DRAWS = "the network draws from Python's or NumPy's global random generator"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Global, "the network changes the variable 'CALLS' of Global.forward"),
        (OfClass, "the network changes the variable 'calls' of OfClass"),
        (closure, "the network changes the variable 'calls' of closure.<locals>.apply"),
        (late_closure, "the network changes the variable 'calls' of late_closure.<locals>.apply"),
        (LateGlobal, "the network changes the variable 'TOTALS' of remember"),
        (Callable, "the network changes the attribute 'activation' of Network"),
        (NumPyDraws, DRAWS),
        (PythonDraws, DRAWS),
    ],
)
def test_fleet_search_detects_state_outside_of_the_module(kind, reason):
    model = create_network(Network, module__activation=kind, max_epochs=1)
    fitted = FleetSearchCV(model, {"lr": [0.1]}, cv=SPLIT, refit=False, n_jobs=1).fit(X, Y)
    assert fitted.runs_["reason_alone"].str.startswith(reason).all()
    assert fitted.runs_["how"].eq("skorch").all()


# -- no false alarms ----------------------------------------------------------------------------------


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.tanh = nn.Tanh()
        self.handle = self.tanh.register_forward_hook(lambda module, args, y: y * 0.5)

    def forward(self, x):
        return self.tanh(x)


class Compiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.apply_ = torch.compile(torch.tanh, backend="eager")

    def forward(self, x):
        return self.apply_(x)


class Table(nn.Module):
    """Has state of many kinds that does not change."""

    def __init__(self):
        super().__init__()
        self.random, self.generator = random.Random(0), torch.Generator()
        self.nan, self.slopes, self.parent = float("nan"), {"a": [torch.tensor(0.5)]}, [self]
        self.last = None

    def forward(self, x):
        self.last = None
        self.nan = float("nan")
        return torch.where(x > 0, x, x * self.slopes["a"][0])


def compiled():
    return torch.compile(nn.Sequential(nn.Tanh(), nn.BatchNorm1d(8)), backend="eager")


def compiled_in_place():
    module = nn.Sequential(nn.Tanh(), nn.BatchNorm1d(8))
    module.compile(backend="eager")
    return module


def spectral():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Tanh())


@pytest.mark.parametrize("make", [Hooked, Compiled, Table, compiled, compiled_in_place, spectral])
def test_state_watch_ignores_registered_tensors_and_caches(make):
    module = make()
    watch = StateWatch(module)
    for training in (True, False, True):
        module.train(training)
        y = module(torch.randn(5, 8))
        if y.requires_grad:
            y.sum().backward()
    assert watch.find_change() == ""


class Assigned(Leaky):
    """Assigns a new tensor to its buffer in every step."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        y = self.leaky(x, torch.tanh(x * self.scale))
        if self.training:
            self.scale = 0.9 * self.scale + x.detach().mean().abs()
        return y


class InPlace(Assigned):
    def forward(self, x):
        if self.training:
            self.scale.add_(1)
        return self.leaky(x, 1 / self.scale)


class AssignedAndCounted(Assigned):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.steps += 1
            self.scale = self.scale + self.steps
        return self.leaky(x, 1 / self.scale)


@pytest.mark.parametrize("kind", [Assigned, InPlace, AssignedAndCounted, lambda: nn.BatchNorm1d(8)])
def test_fleet_search_trains_modules_that_change_their_buffers_in_fleets(kind):
    model = create_network(Network, module__activation=kind)
    ours, theirs = by_fleet_and_skorch(model, {"lr": [0.1, 0.05]})
    assert ours.runs_["reason_alone"].eq("").all()
    np.testing.assert_allclose(score_matrix(ours), theirs, rtol=1e-5)


class Residual(Network):
    """Is not sequential, so that the fleet uses autograd."""

    def forward(self, x):
        hidden = self.first(x)
        return self.last(self.activation(hidden) + hidden)


@pytest.mark.parametrize("kind", [Assigned, AssignedAndCounted])
def test_fleet_search_follows_buffers_in_autograd_fleets(kind):
    model = create_network(Residual, module__activation=kind)
    ours, theirs = by_fleet_and_skorch(model, {"lr": [0.1, 0.05]})
    assert ours.runs_["how"].eq("autograd").all()
    assert ours.runs_["reason_alone"].eq("").all()
    np.testing.assert_allclose(score_matrix(ours), theirs, rtol=1e-5)
