"""Comparisons of modules with other conventions: names of sizes, kinds of arguments, outputs, bad modules."""

from __future__ import annotations

import functools
import os
import resource
import subprocess
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
from actlab.data.dataset import Dataset
from actlab.models.networks import ConvNet
from actlab.training.settings import TrainSettings
from tests.command_line import refused
from tests.comparison_plans import build_network, make_plan

SHORT = {"epochs": 1, "batch_size": 32, "tune": None}


class Base(nn.Module):
    def __init__(self, features=4, classes=3, act=None, width=8):
        super().__init__()
        self.one, self.act, self.two = nn.Linear(features, width), act or nn.ReLU(), nn.Linear(width, classes)

    def forward(self, x):
        return self.two(self.act(self.one(x)))


class Instance(Base):
    def __init__(self, activation=nn.ReLU()):  # noqa: B008
        super().__init__(act=activation)


class Function(Base):
    def __init__(self, activation_fn=F.relu):
        super().__init__()
        self.act = activation_fn


class Nonlinearity(Base):
    def __init__(self, nonlinearity=nn.ELU):
        super().__init__(act=nonlinearity())


class PositionalOnly(Base):
    def __init__(self, num_features, num_classes, activation, /):
        super().__init__(num_features, num_classes, activation)


class KeywordOnly(Base):
    def __init__(self, *, num_features, num_classes, act_layer):
        super().__init__(num_features, num_classes, act_layer())


class AnyKeywords(Base):
    def __init__(self, **options):
        super().__init__(options["num_features"], options["num_classes"], options["activation"])


class InFeatures(Base):
    def __init__(self, in_features, out_features, activation):
        super().__init__(in_features, out_features, activation)


class InputDim(Base):
    def __init__(self, input_dim, output_dim, hidden_dim=8, activation=nn.ReLU):
        super().__init__(input_dim, output_dim, activation(), hidden_dim)


class NFeatures(Base):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)


class NumInputs(Base):
    def __init__(self, num_inputs, num_outputs):
        super().__init__(num_inputs, num_outputs)


class OtherDefaults(Base):
    """Like many networks of tutorials, for MNIST if nothing is passed."""

    def __init__(self, input_size=784, hidden_size=8, num_labels=10):
        super().__init__(input_size, num_labels, width=hidden_size)


class Passes(InFeatures):
    """Passes its arguments on to its base class."""

    def __init__(self, **options):
        super().__init__(**options)


class OwnWidth(Base):
    """Has an argument that looks like a size, but a default with which it works."""

    def __init__(self, output_dim=16):
        super().__init__(width=output_dim)


class Looks(nn.Module):
    """Looks its activation up by name, in forward, and has another activation."""

    def __init__(self, activation="relu"):
        super().__init__()
        self.one, self.two, self.name = nn.Linear(4, 8), nn.Linear(8, 3), activation

    def forward(self, x):
        x = self.one(x)
        x = F.relu(x) if self.name == "relu" else torch.tanh(x)
        return self.two(x * torch.sigmoid(x))


class Config:
    """A configuration like those of Hugging Face."""

    def __init__(self, hidden_act="gelu", num_labels=3):
        self.hidden_act, self.num_labels = hidden_act, num_labels


class Configured(nn.Module):
    def __init__(self, config):
        super().__init__()
        known = {"gelu": nn.GELU, "relu": nn.ReLU}
        act = known[config.hidden_act]() if isinstance(config.hidden_act, str) else config.hidden_act
        self.one, self.act, self.two = nn.Linear(4, 8), act, nn.Linear(8, config.num_labels)

    def forward(self, x):
        return self.two(self.act(self.one(x)))


class Named(Configured):
    """Takes only the names that it knows, and has an activation of its own."""

    def __init__(self, hidden_act):
        if not isinstance(hidden_act, str):
            raise TypeError("hidden_act must be a string")
        super().__init__(Config(hidden_act=hidden_act))
        self.two = nn.Sequential(nn.Tanh(), self.two)


class Pair(Base):
    def forward(self, x):
        return super().forward(x), x


class Ignores(Base):
    def __init__(self, activation):
        super().__init__()


class Discards(Base):
    def __init__(self, activation=nn.ReLU()):  # noqa: B008
        super().__init__(act=activation)

    def forward(self, x):
        self.act(self.one(x))
        return self.two(self.one(x))


class Hides(Base):
    """Replaces NaN, but depends on its activation."""

    def forward(self, x):
        return self.two(self.act(self.one(x)).nan_to_num())


class InTrainingOnly(Base):
    def forward(self, x):
        return super().forward(x) if self.training else self.two(self.one(x))


def make(features, classes):
    return Base(features, classes)


def make_dataset(classes=3, regression=False):
    rng = np.random.default_rng(0)
    y = np.arange(90) % classes
    X = (rng.normal(size=(90, 4)) + 2 * np.eye(classes, 4)[y]).astype(np.float32)
    if regression:
        return Dataset(X, X[:, :1].copy(), "numbers", "1" * 16, ())
    return Dataset(X, y, "made up", "0" * 16, tuple("abc"[:classes]))


@pytest.fixture(scope="module")
def dataset():
    return make_dataset()


def configure(activation):
    return Configured(Config(hidden_act=activation))


MODULES = {
    "instance default": Instance,
    "function default": Function,
    "nonlinearity": Nonlinearity,
    "positional only": PositionalOnly,
    "keyword only": KeywordOnly,
    "any keywords": AnyKeywords,
    "in_features": InFeatures,
    "input_dim": InputDim,
    "n_features": NFeatures,
    "num_inputs": NumInputs,
    "other defaults": OtherDefaults,
    "passes keywords": Passes,
    "own width": OwnWidth,
    "config factory": configure,
    "config default": functools.partial(Configured, Config()),
    "partial": functools.partial(make, 4, 3),
    "lambda": lambda: Base(4, 3),
    "lambda activation": lambda activation: Base(4, 3, activation),
    "an instance": Base(),
    "tuple": Pair,
    "hides NaN": Hides,
    "in training only": InTrainingOnly,
}


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_compare_accepts_modules_of_any_convention(dataset, module):
    relu, prelu = (build_network(dataset, module, name) for name in ("relu", "prelu(init=0.5)"))
    x = torch.from_numpy(dataset.X[:5])
    weights = [p for p in prelu.parameters() if p.numel() > 1]
    assert all(torch.equal(*pair) for pair in zip(relu.parameters(), weights, strict=True))
    one, _, two = weights[0], weights[1], weights[2]
    hidden = F.linear(x, one, weights[1])
    for network, activation in ((relu, F.relu), (prelu, lambda h: F.prelu(h, torch.tensor([0.5])))):
        expected = F.linear(activation(hidden), two, weights[3])
        assert expected.shape == (5, 3)
        torch.testing.assert_close(network.train()(x), expected)


class Draws(Base):
    """Draws numbers for all parameters, or resets all its parts, in its constructor."""

    def __init__(self, reset=False, activation=nn.ReLU()):  # noqa: B008
        super().__init__(act=activation)
        for part in self.modules() if reset else ():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        for parameter in () if reset else self.parameters():
            nn.init.normal_(parameter)


class Wave(nn.Module):
    """An activation that draws its parameter."""

    def __init__(self):
        super().__init__()
        self.frequency = nn.Parameter(torch.zeros(()))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.normal_(self.frequency, 1.0)

    def forward(self, x):
        return torch.sin(self.frequency * x)


@pytest.mark.parametrize("reset", [False, True])
def test_compare_starts_from_the_same_weights_if_a_constructor_draws_for_the_activation(dataset, reset):
    plan = make_plan(dataset, ["relu", "prelu", Wave], module=functools.partial(Draws, reset))
    networks = [run.run.build() for run in plan.runs(plan.config.names, range(1))[::3]]
    weights = [[p for p in network.parameters() if p.numel() > 1] for network in networks]
    for others in weights[1:]:
        assert all(torch.equal(*pair) for pair in zip(weights[0], others, strict=True))
    assert networks[2].act.frequency.item() not in (0.0, 1.0)


def test_compare_keeps_a_default_that_looks_like_a_size_if_the_module_works(dataset):
    assert build_network(dataset, OwnWidth, "relu").one.out_features == 16


def test_compare_replaces_the_activation_that_a_default_name_selects(dataset):
    network, x = build_network(dataset, Looks, "elu"), torch.from_numpy(dataset.X[:5])
    hidden = F.elu(network.one(x))
    torch.testing.assert_close(network(x), network.two(hidden * torch.sigmoid(hidden)))


def test_compare_replaces_the_activation_that_a_required_name_selects(dataset):
    network, x = build_network(dataset, Named, "tanhshrink"), torch.from_numpy(dataset.X[:5])
    torch.testing.assert_close(network(x), network.two(F.tanhshrink(network.one(x))))
    assert isinstance(network.two[0], nn.Tanh)


def test_compare_trains_on_the_first_output_of_a_tuple(dataset):
    first = compare(["relu", "tanh"], dataset, module=Pair, **SHORT).results
    alone = compare(["relu", "tanh"], dataset, module=Base, **SHORT).results
    assert first["score"].to_list() == alone["score"].to_list()
    assert set(first["failure"]) == {""}


@pytest.mark.parametrize("module", [Ignores, Discards])
def test_compare_refuses_a_module_that_ignores_its_activation(dataset, module):
    message = (
        f"module {module.__name__} takes 'activation', but its outputs for two samples do not depend on it"
    )
    with pytest.raises(UsageError, match=message):
        compare(["relu", "tanh"], dataset, module=module, **SHORT)


def test_compare_accepts_activations_that_compute_the_same(dataset):
    results = compare(["relu", "torch.nn:ReLU"], dataset, module=Instance, **SHORT).results
    assert results["score"][:3].to_list() == results["score"][3:].to_list()


# -- skorch models --------------------------------------------------------------------------------------


def skorch_net(kind, module, **options):
    return kind(module, max_epochs=1, batch_size=32, verbose=0, **options)


def test_compare_tunes_any_parameter_of_a_skorch_model_or_module(dataset):
    grid = {"module__hidden_dim": [4, 8], "criterion__label_smoothing": [0.1], "optimizer__nesterov": [False]}
    sizes = {"module__input_dim": 4, "module__output_dim": 3, "criterion": nn.CrossEntropyLoss}
    for module in (InputDim, skorch_net(skorch.NeuralNetClassifier, InputDim, **sizes)):
        plan = make_plan(dataset, ["relu"], module=module, tune=grid)
        widths = [run.run.build().one.out_features for run in plan.runs(["relu"], range(1))]
        assert sorted(set(widths)) == [4, 8]
        given = {"criterion__label_smoothing": 0.0, "module__hidden_dim": 8, "optimizer__nesterov": False}
        assert plan.candidates[0] == given
        assert len(plan.candidates) == 3


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"module__hiden_dim": [4]},
            "not a parameter of the skorch net (did you mean 'module__hidden_dim'?)",
        ),
        ({"module__hidden_dim": [[4]]}, "tune needs tuples instead of lists as values"),
        ({"module__activation": ["elu"]}, "activations are compared, not tuned"),
    ],
)
def test_compare_refuses_to_tune_what_is_no_parameter(dataset, grid, message):
    with pytest.raises(UsageError) as error:
        compare(["relu"], dataset, module=InputDim, tune=grid)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("kind", "classes", "regression", "message"),
    [
        (
            skorch.NeuralNetBinaryClassifier,
            3,
            False,
            "targets of made up are 3 classes; use a NeuralNetClassifier",
        ),
        (skorch.NeuralNetRegressor, 3, False, "set regression=True (--regression)"),
        (skorch.NeuralNetClassifier, 3, True, "targets of numbers are numbers; use a NeuralNetRegressor"),
    ],
)
def test_compare_refuses_a_skorch_model_for_other_targets(kind, classes, regression, message):
    with pytest.raises(UsageError) as error:
        compare(["relu"], make_dataset(classes, regression), module=skorch_net(kind, Base), **SHORT)
    assert message in str(error.value)


def test_compare_names_the_missing_arguments_of_a_skorch_module(dataset):
    with pytest.raises(
        UsageError, match=r"needs the arguments 'in_features', 'out_features'; set module__in"
    ):
        compare(["relu"], dataset, module=skorch_net(skorch.NeuralNetClassifier, InFeatures), **SHORT)


# -- bad modules ----------------------------------------------------------------------------------------


class Needs(Base):
    def __init__(self, num_features, num_classes, depth):
        super().__init__(num_features, num_classes)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Needs, "module Needs needs the argument 'depth'; set it with functools.partial, or as in"),
        (lambda left, right: None, "needs the arguments 'left', 'right'; set them with functools.partial"),
        (lambda: None, "module <lambda> builds a NoneType, not an nn.Module"),
        (lambda: 1 / 0, "module <lambda> cannot be built: ZeroDivisionError: division by zero"),
        (3, "module has the type int; it must be an nn.Module"),
        (functools.partial(Base, 4, 5), "returns the shape (2, 5) for two samples, not (2, 3)"),
        (functools.partial(Base, 7, 3), "fails on two samples of made up: RuntimeError: mat1 and mat2"),
    ],
    ids=["argument", "arguments", "None", "raises", "number", "outputs", "features"],
)
def test_compare_refuses_bad_modules_in_one_line(dataset, module, message):
    with pytest.raises(UsageError) as error:
        compare(["relu", "tanh"], dataset, module=module, **SHORT)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).count("cannot be built") <= 1


def test_compare_refuses_several_widths_for_conv_net():
    with pytest.raises(UsageError, match=r"num_units \(hidden\) must be the width of one .*, got \(32, 20\)"):
        compare(["relu"], "digits", module=ConvNet, hidden=(32, 20), **SHORT)
    assert ConvNet(num_units=(8,), num_features=64).fc1.out_features == 8


@pytest.mark.parametrize(
    "name", ["optimizer", "schedule", "device", "precision", "init", "epochs", "momentum"]
)
def test_train_settings_refuses_a_list(name):
    with pytest.raises(UsageError, match=f"{name} must be "):
        TrainSettings(**{name: ["sgd"]})


def test_compare_verb_refuses_a_module_that_ignores_its_activation(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("tiny.npz", X=dataset.X, y=dataset.y)
    Path("ignoring.py").write_text(
        "from torch import nn\n\n\ndef make(num_features, num_classes, activation):\n"
        "    return nn.Linear(num_features, num_classes)\n"
    )
    call = ["compare", "relu", "tanh", "--data", "tiny.npz", "--module", "ignoring.py:make"]
    assert "module 'ignoring.py:make' takes 'activation', but its outputs" in refused(capsys, *call)


def test_compare_verb_reports_in_one_line_that_no_process_can_start(tmp_path):
    call = [*"-m actlab compare relu tanh --no-tune --epochs 1 --jobs 2 --out out".split()]
    environment = {**os.environ, "PYTHONPATH": str(Path(actlab.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, *call],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)),
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "a worker process cannot start: OSError: [Errno 24] Too many open files; raise" in done.stderr
