import pickle

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from actlab import UsageError
from actlab.data.dataset import Dataset
from actlab.training.settings import TrainSettings
from actlab.training.train import HISTORY_COLUMNS, history_frame, make_net, plan_training, train

SHORT = TrainSettings(epochs=3, batch_size=16, hidden=(8, 4))


def make_dataset(rows=120, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    X = rng.normal(size=(rows, 4)) + np.eye(classes, 4)[y]
    return Dataset(X.astype(np.float32), y.astype(np.int64), "made up", "0" * 16, tuple(range(classes)))


def history_without_times(model):
    """Return the history without its times, which differ between runs."""
    return history_frame(model).drop(columns="dur")


def test_make_train_settings_defaults_are_those_of_the_notebook():
    settings = TrainSettings()
    assert (settings.epochs, settings.batch_size, settings.lr, settings.momentum) == (25, 128, 0.01, 0.95)
    model = make_net(make_dataset(), "relu", settings)
    assert isinstance(model, NeuralNetClassifier)
    assert model.optimizer is torch.optim.SGD
    assert model.criterion is nn.CrossEntropyLoss
    assert model.get_params()["optimizer__momentum"] == 0.95


def test_make_net_keeps_the_order_of_samples():
    dataset = make_dataset()
    model = make_net(dataset, "relu", SHORT).initialize()
    batches = model.get_iterator(model.get_dataset(dataset.X, dataset.y), training=True)
    assert torch.equal(torch.cat([x for x, _ in batches]), torch.from_numpy(dataset.X))


def test_make_net_holds_back_a_fifth_of_every_class():
    dataset = make_dataset()
    model = make_net(dataset, "relu", SHORT)
    held_back = model.get_split_datasets(dataset.X, dataset.y)[1]
    labels = [dataset.y[i] for i in held_back.indices]
    assert np.bincount(labels).tolist() == [8, 8, 8]


def test_history_frame_has_skorchs_columns_and_counts_epochs_from_1():
    history = history_frame(train(make_dataset(), "relu", SHORT))
    assert tuple(history.columns) == HISTORY_COLUMNS
    assert history["epoch"].to_list() == [1, 2, 3]


def test_history_frame_without_validation_has_no_validation_columns():
    dataset = make_dataset()
    model = make_net(dataset, "relu", SHORT).set_params(train_split=None).fit(dataset.X, dataset.y)
    assert list(history_frame(model)) == ["epoch", "train_loss", "train_loss_best", "dur"]


def test_train_learns():
    history = history_frame(train(make_dataset(600), "tanh", TrainSettings(epochs=20, batch_size=16)))
    assert history["valid_acc"].max() > 0.6  # chance level is 1/3
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_train_is_reproducible():
    dataset = make_dataset()
    first = history_without_times(train(dataset, "relu", SHORT))
    torch.manual_seed(123)
    train(dataset, "tanh", SHORT)
    torch.rand(7)
    assert history_without_times(train(dataset, "relu", SHORT)).equals(first)


def test_train_with_another_seed_gives_another_history():
    dataset = make_dataset()
    other = TrainSettings(epochs=3, batch_size=16, hidden=(8, 4), seed=1)
    assert not history_without_times(train(dataset, "relu", SHORT)).equals(
        history_without_times(train(dataset, "relu", other))
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_train_leaves_random_state_and_threads_unchanged(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(make_dataset(), "relu", SHORT)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(before)


def test_train_does_not_change_a_prelu_instance():
    dataset, prelu = make_dataset(), nn.PReLU()
    model = train(dataset, prelu, SHORT)
    assert model.module_.activation1.weight.item() != 0.25
    assert prelu.weight.item() == 0.25
    again = train(dataset, prelu, SHORT)
    assert history_without_times(again).equals(history_without_times(model))
    trained = train(dataset, model.module_.activation1, SHORT)
    assert not history_without_times(trained).equals(history_without_times(model))


def test_train_returns_a_skorch_network_that_can_continue_training():
    dataset = make_dataset()
    model = train(dataset, "relu", SHORT)
    assert model.predict(dataset.X).shape == (120,)
    model.partial_fit(dataset.X, dataset.y)
    assert len(model.history) == 6
    assert pickle.loads(pickle.dumps(model)).history == model.history  # noqa: S301 - bytes of this line


def test_train_writes_the_live_table_to_its_sink(capsys):
    lines = []
    train(make_dataset(), "relu", SHORT, sink=lines.append)
    assert len(lines) == 2 + 3
    assert "train_loss" in lines[0]
    assert capsys.readouterr().out == ""
    train(make_dataset(), "relu", SHORT, sink=print)
    assert "train_loss" in capsys.readouterr().out


def test_train_prints_nothing_without_a_sink(capsys):
    train(make_dataset(), "relu", SHORT)
    assert capsys.readouterr() == ("", "")


def test_train_ends_if_a_loss_is_not_finite():
    history = history_frame(train(make_dataset(), "relu", TrainSettings(epochs=5, lr=1e30)))
    assert len(history) < 5
    assert not np.isfinite(history["valid_loss"].iloc[-1])


def test_train_accepts_a_class_with_few_samples_without_a_warning():
    dataset = make_dataset()
    y = dataset.y.copy()
    y[y == 2] = 1
    y[:2] = 2
    rare = Dataset(dataset.X, y, "rare", "0" * 16, dataset.classes)
    assert len(history_frame(train(rare, "relu", SHORT))) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"epochs": 2.5}, "epochs must be an integer >= 1, got 2.5"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"hidden": (0,)}, "hidden must be widths >= 1"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 2**64}, "seed must be an integer >= 0, got 18446744073709551616"),
        ({"lr": 0.0}, "lr must be finite and > 0, got 0.0"),
        ({"lr": float("nan")}, "lr must be finite and > 0, got nan"),
        ({"lr": "0.1"}, "lr must be finite and > 0, got '0.1'"),
        ({"lr": "fast"}, "lr must be finite and > 0, got 'fast'"),
        ({"momentum": [0.9]}, r"momentum must be >= 0 and < 1, got \[0.9\]"),
        ({"momentum": 1.0}, "momentum must be >= 0 and < 1, got 1.0"),
        ({"device": "gpu"}, "device must be cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:x"}, "device must be cpu, cuda or cuda:N, got 'cuda:x'"),
        ({"device": "cuda:99"}, "device must be available, got 'cuda:99'; PyTorch finds"),
    ],
)
def test_make_train_settings_reject_invalid_values(settings, message):
    with pytest.raises(UsageError, match=message):
        TrainSettings(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"X": [1, 2]},), "cannot load data of type dict; pass a name, a file, a DataFrame and its target"),
        ((make_dataset(), "relu", {"epochs": 1}), "settings must be a TrainSettings, got a dict"),
    ],
)
def test_train_rejects_arguments_of_another_type(arguments, message):
    with pytest.raises(UsageError, match=message):
        train(*arguments)


def test_make_train_settings_report_all_invalid_values_together():
    with pytest.raises(
        UsageError, match=r"epochs must .* got 0; lr must .* got -1.0; device must .* got 'tpu'"
    ):
        TrainSettings(epochs=0, lr=-1.0, device="tpu")


class _Halves(nn.Module):
    def forward(self, x):
        return x[:, ::2]


class _Fails(nn.Module):
    def forward(self, x):
        raise ZeroDivisionError("by zero\nand more")


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("reluu", "did you mean 'relu'"),
        (_Halves(), "fails on two samples of .*: mat1 and mat2 shapes cannot be multiplied"),
        (_Fails(), "fails on two samples of .*: ZeroDivisionError: by zero$"),
    ],
)
def test_plan_training_rejects_an_unusable_activation(activation, message):
    with pytest.raises(UsageError, match=message):
        plan_training(make_dataset(), activation, SHORT)


def test_train_rejects_data_too_small_for_validation():
    with pytest.raises(
        UsageError, match=r"one sample in 5 is held out .* the largest class has only 4 samples"
    ):
        train(make_dataset(rows=12), "relu", SHORT)
