"""Comparisons of modules that take their activation as a module or as a constructor."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
import torch.nn.functional as F
from torch import nn

import actlab
from actlab import UsageError, compare
from actlab.cli import main
from actlab.data.dataset import Dataset
from actlab.models.activation_arguments import make_constructor
from tests.comparison_plans import build_network, plan_runs

SHORT = {"epochs": 2, "batch_size": 32}


class ActLayer(nn.Module):
    def __init__(self, num_features=4, num_classes=3, act_layer=nn.GELU):
        super().__init__()
        self.one, self.act1 = nn.Linear(num_features, 8), act_layer()
        self.two, self.act2 = nn.Linear(8, 8), act_layer()
        self.gate, self.three = nn.Sigmoid(), nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.act1(self.one(x))
        return self.three(self.gate(x) * self.act2(self.two(x)))


class InPlace(nn.Module):
    def __init__(self, num_features=4, num_classes=3, activation_layer=nn.ReLU):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(num_features, 8), activation_layer(inplace=True))
        self.gate, self.head = nn.Sigmoid(), nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.gate(self.body(x)))


class Called(ActLayer):
    """Calls its argument as a constructor, without a hint in the name or the default."""

    def __init__(self, num_features=4, num_classes=3, *, activation):
        super().__init__(num_features, num_classes, activation)


class NormAct(ActLayer):
    def __init__(self, num_features=4, num_classes=3, norm_act=None):
        super().__init__(num_features, num_classes, norm_act or nn.Mish)


class Checked(ActLayer):
    def __init__(self, num_features=4, num_classes=3, act_cls=nn.ReLU):
        assert isinstance(act_cls, type)
        assert issubclass(act_cls, nn.Module)
        super().__init__(num_features, num_classes, act_cls)


class TakesModule(nn.Module):
    """Takes a module, although the argument has the name of a constructor."""

    def __init__(self, num_features=4, num_classes=3, act_layer=None):
        super().__init__()
        act = nn.ReLU() if act_layer is None else act_layer
        assert isinstance(act, nn.Module)
        self.body = nn.Sequential(nn.Linear(num_features, 8), act, nn.Linear(8, 8), nn.Sigmoid())
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.body(x))


class Strict(TakesModule):
    def __init__(self, num_features=4, num_classes=3, activation=None):
        assert isinstance(activation, nn.Module)
        super().__init__(num_features, num_classes, activation)


class ByName(nn.Module):
    """Looks its activation up by its own names."""

    def __init__(self, num_features=4, num_classes=3, activation="relu", use_act=True):
        super().__init__()
        self.one, self.act = nn.Linear(num_features, 8), {"relu": nn.ReLU, "elu": nn.ELU}[activation]()
        self.two = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.two(self.act(self.one(x)))


class Output(nn.Module):
    """Has an argument for the output activation only."""

    def __init__(self, num_features=4, num_classes=3, output_activation=nn.Identity):
        super().__init__()
        self.one, self.two, self.out = (
            nn.Linear(num_features, 8),
            nn.Linear(8, num_classes),
            output_activation(),
        )

    def forward(self, x):
        return self.out(self.two(F.relu(self.one(x))))


class Numbered(nn.Module):
    """Has an argument for each of its activations."""

    def __init__(self, num_features=4, num_classes=3, activation1=nn.ReLU, activation2=nn.ReLU):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(num_features, 8), activation1(), nn.Linear(8, 8), activation2())
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.body(x))


def make_sequential(num_features, num_classes, act=nn.ReLU):
    layers = [nn.Linear(num_features, 8), act(), nn.Linear(8, 8), act(), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(8, num_classes))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = (rng.normal(size=(90, 4)) + 2 * np.eye(3, 4)[y]).astype(np.float32)
    return Dataset(X, y, "made up", "0" * 16, ("a", "b", "c"))


def skorch_net(module, **options):
    defaults = {"criterion": nn.CrossEntropyLoss, "max_epochs": 2, "batch_size": 32, "verbose": 0}
    return skorch.NeuralNetClassifier(module, **defaults, **options)


def kinds(module):
    return [type(part).__name__ for part in module.modules() if not list(part.children())]


MODULES = [ActLayer, InPlace, Called, NormAct, Checked, TakesModule, Strict, make_sequential]


@pytest.mark.parametrize(
    "module",
    [*MODULES, functools.partial(ActLayer, act_layer=nn.Tanh)],
    ids=lambda m: getattr(m, "__name__", type(m).__name__),
)
@pytest.mark.parametrize("wrap", [lambda module: module, skorch_net], ids=["plain", "skorch"])
def test_compare_passes_the_activation_to_the_module(dataset, module, wrap):
    if wrap is skorch_net and module is make_sequential:
        module = functools.partial(module, 4, 3)
    relu, prelu = (build_network(dataset, wrap(module), name) for name in ("relu", "prelu(init=0.5)"))
    assert "PReLU" in kinds(prelu)
    assert "Sigmoid" in kinds(prelu)  # swapping by type would replace it, too
    own = [part for part in prelu.modules() if isinstance(part, actlab.nn.PReLU)]
    assert len({id(p) for part in own for p in part.parameters()}) == len(own)
    others = [p for name, p in prelu.named_parameters() if p.numel() > 1]
    for one, other in zip(relu.parameters(), others, strict=True):
        assert torch.equal(one, other)


def test_compare_trains_modules_that_call_a_constructor_in_fleets(dataset):
    for module in (ActLayer, InPlace, skorch_net(InPlace)):
        comparison = compare(["relu", "elu", "prelu"], dataset, module=module, tune=None, **SHORT)
        assert (comparison.results["failure"] == "").all()
        assert set(comparison.results["how"]) <= {"layer by layer", "autograd"}


def test_compare_initializes_activation_parameters_in_each_run(dataset):
    runs = plan_runs(dataset, ["prelu(init=0.5)"], seeds=2, module=Called)
    first = runs[0].run.build()
    with torch.no_grad():
        for part in first.modules():
            if isinstance(part, actlab.nn.PReLU):
                part.weight.fill_(9.0)
    for each in runs:
        module = each.run.build()
        assert [module.act1.weight.item(), module.act2.weight.item()] == [0.5, 0.5]


def test_compare_passes_inplace_if_the_activation_accepts_it(dataset):
    assert build_network(dataset, InPlace, "relu").body[1].inplace
    assert not build_network(dataset, ActLayer, "relu").act1.inplace
    assert build_network(dataset, InPlace, "leaky_relu(negative_slope=0.2)").body[1].negative_slope == 0.2
    assert kinds(build_network(dataset, InPlace, "gelu"))[1] == "GELU"
    assert kinds(build_network(dataset, InPlace, "formula:x*tanh(x)")).count("Sigmoid") == 1
    assert not build_network(dataset, InPlace, "relu(inplace=False)").body[1].inplace


def test_compare_swaps_if_the_argument_accepts_neither_module_nor_class(dataset):
    assert kinds(build_network(dataset, ByName, "tanh")) == ["Linear", "Tanh", "Linear"]
    assert kinds(build_network(dataset, skorch_net(ByName, module__activation="elu"), "tanh"))[1] == "Tanh"
    x = torch.from_numpy(dataset.X)
    assert not torch.equal(
        build_network(dataset, Output, "relu")(x), build_network(dataset, Output, "tanh")(x)
    )
    assert kinds(build_network(dataset, Output, "tanh")).count("Identity") == 1


def test_compare_swaps_all_activations_with_numbered_arguments(dataset):
    assert kinds(build_network(dataset, Numbered, "tanh")) == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]


def test_compare_refuses_to_tune_a_size_that_the_module_does_not_take(dataset):
    with pytest.raises(UsageError, match="tune contains 'module__num_units', which is not a parameter"):
        compare(["relu"], dataset, module=ActLayer, tune={"module__num_units": [4, 8]})


def test_compare_replace_works_in_a_module_with_a_constructor_argument(dataset):
    network = build_network(dataset, ActLayer, "tanh", replace="sigmoid")
    assert [kinds(network)[index] for index in (1, 3, 4)] == ["GELU", "GELU", "Tanh"]


def test_compare_refuses_unknown_arguments_of_a_skorch_module(dataset):
    with pytest.raises(UsageError, match=r"cannot be built: TypeError: .*widht"):
        compare(["relu"], dataset, module=skorch_net(ActLayer, module__widht=3), tune=None)


def test_compare_refuses_to_tune_the_argument_that_takes_the_activation(dataset):
    model = skorch_net(ActLayer, module__act_layer=nn.ReLU)
    with pytest.raises(
        UsageError, match="tune contains 'module__act_layer', but activations are compared, not tuned"
    ):
        compare(["relu"], dataset, module=model, tune={"module__act_layer": [nn.ReLU, nn.ELU]})


def test_compare_reports_why_an_argument_accepts_no_activation(dataset):
    class Bare(nn.Module):
        def __init__(self, activation="none"):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x)

    with pytest.raises(
        UsageError, match="'activation' does not accept an activation: it is not called in the forward"
    ):
        compare(["relu"], dataset, module=Bare, tune=None, **SHORT)


def test_make_constructor_rejects_other_arguments():
    with pytest.raises(TypeError, match="negative_slope"):
        make_constructor("leaky_relu")(negative_slope=0.1)


def test_compare_records_runs_of_constructors(dataset, tmp_path):
    options = {**SHORT, "module": ActLayer, "ledger": tmp_path / "l.sqlite"}
    first = compare(["relu", "elu"], dataset, tune=None, **options)
    again = compare(["relu", "elu"], dataset, tune=None, **options)
    assert first.results["seconds"].to_list() == again.results["seconds"].to_list()
    assert first.results["key"].nunique() == 6


FILE = """
from torch import nn


class Network(nn.Module):
    def __init__(self, num_features, num_classes, act_layer, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(num_features, width), act_layer(inplace=True))
        self.gate, self.head = nn.Sigmoid(), nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.gate(self.body(x)))
"""


def test_compare_verb_accepts_a_module_that_calls_a_constructor(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("layers_of_mine.py").write_text(FILE)
    np.savez("tiny.npz", X=dataset.X, y=dataset.y)
    call = ["compare", "--no-tune", "relu", "tanh", "--data", "tiny.npz", "--epochs", "1", "--json"]
    assert main([*call, "--module", "layers_of_mine.py:Network(width=6)"]) == 0
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert all(row["mean"] > 0 for row in ranking)
    sys.modules.pop("layers_of_mine", None)
