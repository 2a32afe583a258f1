"""Models and activations with lazy layers, which have no weights before their first forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from actlab import UsageError, compare, swap
from actlab.cli import main
from actlab.data.dataset import Dataset
from actlab.spec import copy_module
from actlab.training.settings import TrainSettings
from actlab.training.train import train
from tests.comparison_plans import make_plan, plan_runs

SHORT = {"epochs": 3, "batch_size": 16}


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(8), nn.ReLU())
        self.head = nn.LazyLinear(3)

    def forward(self, x):
        return self.head(self.body(x))


class LazyTaking(Lazy):
    def __init__(self, activation):
        super().__init__()
        self.body[1] = activation


class LazyCalling(Lazy):
    def __init__(self, act_layer=nn.ReLU):
        super().__init__()
        self.body[1], self.body[3] = act_layer(), act_layer()


class LazyConv(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.conv, self.norm = nn.LazyConv2d(4, 2), nn.LazyBatchNorm2d()
        self.act, self.drop = nn.ReLU(), nn.Dropout(0.2)
        self.head = nn.LazyLinear(num_classes)

    def forward(self, x):
        return self.head(self.drop(self.act(self.norm(self.conv(x.unflatten(1, (1, 2, 2)))))).flatten(1))


class Unused(Lazy):
    def __init__(self):
        super().__init__()
        self.aux = nn.LazyLinear(2)


class Scaled(nn.Module):
    """An activation with one trained parameter per feature."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LazyBatchNorm1d()

    def forward(self, x):
        return torch.relu(self.norm(x))


SCALED = f"{__name__}:Scaled"


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = (rng.normal(size=(90, 4)) + 3 * np.eye(3, 4)[y]).astype(np.float32)
    return Dataset(X, y, "made up", "0" * 16, ("a", "b", "c"))


def skorch_net(module, **options):
    defaults = {"criterion": nn.CrossEntropyLoss, "max_epochs": 3, "batch_size": 16, "verbose": 0}
    return skorch.NeuralNetClassifier(module, **defaults, **options)


@pytest.mark.parametrize(
    "module",
    [Lazy, Lazy(), LazyTaking, LazyCalling, LazyConv, LazyConv(), lambda: Lazy(),
     skorch_net(Lazy), skorch_net(LazyTaking), skorch_net(LazyConv())],
    ids="class instance taking calling conv conv-inst function skorch skorch-taking skorch-inst".split(),
)  # fmt: skip
def test_compare_trains_lazy_layers_from_the_same_weights(dataset, module):
    plan = make_plan(dataset, ["relu", "rrelu"], TrainSettings(**SHORT), module=module)
    for each in plan.runs(["relu"], range(2)):
        relu = each.run.build()
        assert not any(is_lazy(t) for t in (*relu.parameters(), *relu.buffers()))
        assert all(int(n) == 0 for name, n in relu.named_buffers() if name.endswith("num_batches_tracked"))
        twin = next(
            other.run.build()
            for other in plan.runs(["rrelu"], range(2))
            if (other.seed, other.fold) == (each.seed, each.fold)
        )
        for one, other in zip(relu.parameters(), twin.parameters(), strict=True):
            assert torch.equal(one, other)
    comparison = compare(["relu", "prelu"], dataset, module=module, tune=None, **SHORT)
    assert comparison.results["failure"].to_list() == [""] * 6
    assert comparison.results["saved_bytes"].notna().all()
    assert len(comparison.history) == 18


def test_compare_initializes_lazy_layers_for_every_seed(dataset):
    for module in (LazyConv, Lazy()):
        runs = plan_runs(dataset, ["relu"], seeds=2, module=module)
        one, other = (torch.cat([p.flatten() for p in runs[i].run.build().parameters()]) for i in (0, 3))
        assert not torch.equal(one, other)
    assert all(is_lazy(p) for p in Lazy().parameters())


def test_compare_leaves_a_lazy_instance_unchanged(dataset):
    instance = LazyConv()
    compare(["relu"], dataset, module=instance, tune=None, **SHORT)
    assert all(is_lazy(p) for p in instance.parameters())


def test_compare_scores_lazy_models_with_a_scorer_that_needs_their_weights(dataset):
    comparison = compare(
        ["relu", "tanh"], dataset, module=Lazy, scoring="f1_macro", tune={"lr": [0.01, 0.1]}, **SHORT
    )
    assert comparison.results["failure"].to_list() == [""] * 6


def test_compare_trains_lazy_models_by_skorch(dataset):
    class Own(skorch.NeuralNetClassifier):
        def get_loss(self, *args, **kwargs):
            return super().get_loss(*args, **kwargs) * 1.0

    options = {"criterion": nn.CrossEntropyLoss, "max_epochs": 3, "batch_size": 16, "verbose": 0}
    separate = compare(["relu", "tanh"], dataset, module=Own(Lazy, **options), tune=None)
    fused = compare(["relu", "tanh"], dataset, module=skorch_net(Lazy), tune=None)
    assert set(separate.results["how"]) == {"skorch"}
    assert separate.history["train_loss"].to_list() == pytest.approx(
        fused.history["train_loss"].to_list(), rel=1e-4
    )


def test_compare_refuses_a_lazy_layer_that_is_never_used(dataset):
    with pytest.raises(UsageError, match=r"Unused has the lazy parameter 'aux\.weight', which its forward"):
        compare(["relu"], dataset, module=Unused, tune=None, **SHORT)


def test_compare_keeps_lazy_runs_in_the_ledger(dataset, tmp_path):
    options = {**SHORT, "module": Lazy(), "ledger": tmp_path / "l.sqlite"}
    first = compare(["relu", "tanh"], dataset, tune=None, **options)
    again = compare(["relu", "tanh"], dataset, tune=None, **{**options, "module": Lazy()})
    assert first.results["key"].to_list() == again.results["key"].to_list()
    assert first.results["seconds"].to_list() == again.results["seconds"].to_list()


@pytest.mark.slow
def test_compare_trains_lazy_layers_in_processes(dataset):
    for module in (LazyConv, LazyConv()):
        local = compare(["relu", "tanh"], dataset, module=module, tune=None, **SHORT)
        parallel = compare(["relu", "tanh"], dataset, module=module, jobs=2, tune=None, **SHORT)
        assert local.results["score"].to_list() == parallel.results["score"].to_list()


# -- activations with lazy layers -----------------------------------------------------------------


def test_train_accepts_an_activation_with_lazy_layers(dataset):
    model = train(dataset, SCALED, TrainSettings(epochs=3, batch_size=16, hidden=(8, 4)))
    assert [
        p.shape[0] for p in (model.module_.activation1.norm.weight, model.module_.activation2.norm.weight)
    ] == [8, 4]
    assert model.predict(dataset.X).shape == (90,)


def test_compare_accepts_an_activation_with_lazy_layers(dataset):
    comparison = compare(["relu", SCALED], dataset, hidden=(8, 4), tune=None, **SHORT)
    assert comparison.results["failure"].to_list() == [""] * 6


def test_train_verb_accepts_an_activation_with_lazy_layers(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("tiny.npz", X=dataset.X, y=dataset.y)
    call = [
        "train",
        "--activation",
        SCALED,
        "--data",
        "tiny.npz",
        "--epochs",
        "2",
        "--hidden",
        "8",
        "--json",
    ]
    assert main([*call, "--out", "run"]) == 0
    assert json.loads(capsys.readouterr().out)["files"]
    assert Path("run/training.json").exists()


# -- swap -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "count"), [(Lazy(), 2), (LazyConv(), 1), (nn.Sequential(nn.LazyBatchNorm1d(), nn.ReLU()), 1)]
)
def test_swap_accepts_a_model_with_lazy_layers(model, count):
    new = swap(model, {"relu": "prelu(init=0.5)"})
    assert sum(type(part).__name__ == "PReLU" for part in new.modules()) == count
    x = torch.randn(5, 4)
    assert new(x).isfinite().all()
    assert not any(is_lazy(t) for t in (*new.parameters(), *new.buffers()))
    assert any(is_lazy(t) for t in model.parameters())
    assert model(x).shape == new(x).shape


def test_copy_module_keeps_shared_buffers():
    norm = nn.LazyBatchNorm1d()
    both = copy_module(nn.Sequential(norm, nn.LazyLinear(2), norm))
    assert both[0] is both[2]
    assert both[0] is not norm
    assert both[0].running_mean is not norm.running_mean
    assert both.eval()(torch.ones(3, 2)).shape == (3, 2)
