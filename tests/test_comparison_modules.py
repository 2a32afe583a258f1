"""Comparisons of activations in a user's own network."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
import torch.nn.functional as F
from torch import nn

from actlab import NeuralNet, UsageError, compare
from actlab.cli import main
from actlab.data import Dataset, load_data
from actlab.models.networks import ConvNet
from tests.command_line import refused
from tests.comparison_plans import build_network, plan_runs

SHORT = {"epochs": 4, "batch_size": 16}

OWN = """
import torch
import torch.nn.functional as F
from torch import nn


class Network(nn.Module):
    def __init__(self, num_features, num_classes, width=8):
        super().__init__()
        inner = [nn.Linear(num_features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        self.body = nn.Sequential(*inner)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.body(x))


class Two(Network):
    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


class Bare(nn.Module):
    def __init__(self, num_features, num_classes):
        super().__init__()
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, x):
        return self.head(x)


class Wrong(Network):
    def __init__(self, num_features, num_classes):
        super().__init__(num_features, num_classes + 1)


class Taking(nn.Module):
    def __init__(self, num_features, num_classes, activation):
        super().__init__()
        self.one, self.act, self.two = nn.Linear(num_features, 8), activation, nn.Linear(8, num_classes)

    def forward(self, x):
        return self.two(self.act(self.one(x)))


def soar(x, b=0.5):
    return (x + torch.sqrt(x * x + b)) / 2


def broken():
    raise RuntimeError("no such thing")
"""


class Network(nn.Module):
    """A network whose first activation is a module and whose second is a function call."""

    def __init__(self, num_features=4, num_classes=3):
        super().__init__()
        self.one, self.act = nn.Linear(num_features, 8), nn.ReLU()
        self.two, self.three = nn.Linear(8, 8), nn.Linear(8, num_classes)

    def forward(self, x):
        return self.three(F.relu(self.two(self.act(self.one(x)))))


class Written(nn.Module):
    """The same network, written with tanh."""

    def __init__(self, num_features=4, num_classes=3):
        super().__init__()
        self.one, self.two = nn.Linear(num_features, 8), nn.Linear(8, 8)
        self.three = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.three(torch.tanh(self.two(torch.tanh(self.one(x)))))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = (rng.normal(size=(120, 4)) + 2 * np.eye(3, 4)[y]).astype(np.float32)
    return Dataset(X, y, "made up", "0" * 16, ("a", "b", "c"))


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    np.savez("tiny.npz", X=rng.normal(size=(90, 4)) + 2 * np.eye(3, 4)[y], y=y)


def test_compare_swaps_activations_of_a_class_and_keeps_weights(dataset):
    x = torch.from_numpy(dataset.X)
    relu, tanh, written = (
        build_network(dataset, Network, "relu"),
        build_network(dataset, Network, "tanh"),
        build_network(dataset, Written, "tanh"),
    )
    for one, other in zip(relu.parameters(), tanh.parameters(), strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(tanh(x), written(x))
    assert not torch.allclose(relu(x), tanh(x))


def test_compare_trains_a_user_class_in_a_fleet(dataset):
    comparison = compare(["relu", "tanh"], dataset, module=Network, seeds=2, tune=None, **SHORT)
    assert (comparison.results["failure"] == "").all()
    assert set(comparison.results["how"]) <= {"layer by layer", "autograd"}
    written = compare(["relu"], dataset, module=Network, seeds=2, tune=None, **SHORT)
    same = comparison.results[comparison.results["activation"] == "relu"]
    assert same["score"].to_list() == pytest.approx(written.results["score"].to_list(), abs=0.026)


def test_compare_initializes_an_instance_for_every_seed(dataset):
    instance = Network()
    before = [weight.clone() for weight in instance.parameters()]
    runs = plan_runs(dataset, ["tanh"], seeds=2, module=instance)
    first, second = runs[0].run, runs[3].run
    weights = [torch.cat([w.flatten() for w in run.build().parameters()]) for run in (first, second)]
    assert not torch.equal(*weights)
    assert all(torch.equal(a, b) for a, b in zip(before, instance.parameters(), strict=True))
    assert (
        compare(["relu", "tanh"], dataset, module=instance, tune=None, **SHORT).results["failure"] == ""
    ).all()


def test_compare_keeps_the_settings_of_a_skorch_network(dataset):
    model = skorch.NeuralNetClassifier(
        Network, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, max_epochs=3, lr=0.01, verbose=0
    )
    comparison = compare(["relu", "tanh"], dataset, module=model, tune={"lr": [0.001, 0.01]})
    assert comparison.results["epochs"].unique().tolist() == [3]
    assert set(comparison.results["lr"]) <= {0.001, 0.01}
    assert (comparison.results["failure"] == "").all()


def test_compare_replace_selects_the_swapped_activation(dataset):
    x = torch.from_numpy(dataset.X)
    only_module = build_network(dataset, Network, "tanh", replace="act")
    written = build_network(dataset, Written, "tanh")
    assert not torch.allclose(only_module(x), written(x))
    with pytest.raises(UsageError, match="replace is 'relu', but NeuralNet takes its activation"):
        compare(["relu"], dataset, module=NeuralNet, replace="relu", tune=None, **SHORT)


def test_compare_trains_a_convolutional_network_on_images():
    data = load_data("digits")
    assert data.shape == (1, 8, 8)
    rows = np.sort(np.random.default_rng(0).permutation(len(data.y))[:300])
    few = Dataset(data.X[rows], data.y[rows], "few digits", "1" * 16, data.classes, data.shape)
    comparison = compare(["relu", "tanh"], few, module=ConvNet, epochs=12, lr=0.05, batch_size=16, tune=None)
    assert (comparison.results["failure"] == "").all()
    assert comparison.ranking["mean"].min() > 0.6


# -- on the command line --------------------------------------------------------------------------


def test_compare_verb_module_option_reads_a_file(own, tmp_path, capsys):
    call = ["compare", "--no-tune", "relu", "tanh", "--data", "tiny.npz", "--epochs", "2", "--seeds", "2"]
    assert main([*call, "--module", "own.py:Network(width=12)", "--out", "a"]) == 0
    first = capsys.readouterr().out
    assert main([*call, "--module", "own.py:Network(width=12)", "--out", "a", "--jobs", "2"]) == 0
    assert capsys.readouterr().out == first
    assert main([*call, "--module", "own.py:Two", "--replace", "tanh", "--out", "b"]) == 0


def test_compare_verb_accepts_a_module_with_an_activation_argument(own, capsys):
    call = [*"compare --no-tune relu own.py:soar own.py:soar(b=0.1) --data tiny.npz --epochs 2".split()]
    assert main([*call, "--module", "own.py:Taking", "--jobs", "2", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert {row["activation"] for row in output["ranking"]} == {"relu", "own.py:soar", "own.py:soar(b=0.1)"}
    assert main([*call, "--module", "own.py:Taking", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ranking"] == output["ranking"]


def test_compare_verb_exits_with_1_if_every_run_diverges(own, capsys):
    call = ["compare", "--no-tune", "relu", "elu", "--data", "tiny.npz", "--lr", "1e30"]
    assert main([*call, "--until-decided"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "No activation has a rank." in out
    assert "fewer than two activations are left" in out
    assert "may need another learning rate or initialization" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--module own.py:Networkk",
            "module 'own.py:Networkk': 'Networkk' not found (did you mean 'Network'?)",
        ),
        ("--module own.py", "module is 'own.py', not 'package.module:Net'"),
        ("--module nowhere.py:Network", "file 'nowhere.py' does not exist"),
        ("--module own.py:Network(width=x)", "arguments must be literals"),
        ("--module own.py:Network(widht=3)", "cannot be built: TypeError"),
        ("--module own.py:broken", "cannot be built: RuntimeError: no such thing"),
        ("--module own.py:Two", "has relu, tanh; name one of them with replace"),
        ("--module own.py:Bare", "has no known activation"),
        ("--module own.py:Wrong", "returns the shape (2, 4) for two samples, not (2, 3)"),
        ("--module own.py:Network --replace mish", "mish"),
        ("--replace relu", "replace needs a module"),
        ("--tune lr", "--tune 'lr' is not NAME=VALUE,VALUE"),
        ("--tune lr=0.1 --tune lr=0.2", "repeats 'lr'"),
        ("--tune lr=fast", "tune needs learning rates > 0, got lr='fast'"),
        ("--scoring acuracy", "did you mean 'accuracy'"),
        ("--rope -1", "rope must be a number >= 0"),
        ("--budget 5", "budget='5' needs until_decided"),
        ("--seeds 2 --until-decided", "until_decided chooses the number of seeds"),
    ],
)
def test_compare_verb_rejects_invalid_modules(own, capsys, arguments, message):
    before = sorted(os.listdir())
    call = ["compare", "relu", "tanh", "--data", "tiny.npz", *arguments.split()]
    assert message in refused(capsys, *call)
    assert sorted(set(os.listdir()) - {"__pycache__"}) == before


def test_compare_verb_redirects_output_of_a_module_to_standard_error(own, capsys):
    Path("loud.py").write_text(f"print('hello')\n{OWN}")
    sys.modules.pop("loud", None)
    call = [*"compare --no-tune relu --data tiny.npz --epochs 1 --module loud.py:Network".split()]
    assert main([*call, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("{")
    assert "hello" in err


# -- a known result -------------------------------------------------------------------------------


@pytest.mark.slow
def test_compare_gives_no_rank_to_sigmoid_in_thirty_layers():
    options = {
        "hidden": (64,) * 29,
        "init": "matched",
        "seeds": 2,
        "epochs": 20,
        "lr": 0.003,
        "momentum": 0.9,
    }
    comparison = compare(["sigmoid", "relu", "elu"], "digits", tune=None, **options)
    ranking = comparison.ranking.set_index("activation")
    assert ranking["status"].to_dict() == {"elu": "", "relu": "", "sigmoid": "chance level for 2 of 2 seeds"}
    assert ranking["rank"].isna().to_dict() == {"elu": False, "relu": False, "sigmoid": True}
    assert ranking["mean"][["elu", "relu"]].min() > 0.5
    assert "sigmoid is at chance level (0.1013) for 2 of 2 seeds; it has no rank." in comparison.sentences()
    words = comparison.verdicts.set_index(["a", "b"])["verdict"]
    assert words["sigmoid", "elu"] == "worse"


def test_compare_in_processes_replaces_calls_in_a_class_that_no_process_can_import(dataset):
    class Calling(nn.Module):  # like a class of a script or a notebook, it is pickled without its source
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(F.relu(self.inner(x)))

    here, there = (
        compare(["relu", "tanh"], dataset, module=Calling, jobs=jobs, tune=None, **SHORT) for jobs in (1, 2)
    )
    assert set(there.results["failure"]) == {""}
    assert there.results["score"].equals(here.results["score"])
    assert there.results["how"].equals(here.results["how"])
