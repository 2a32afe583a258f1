"""Integer sequences: load_data keeps them, and models with an embedding train on them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import skorch
import torch
from torch import nn
from torch.utils.data import default_collate

import actlab
from actlab import UsageError
from actlab.cli import main
from actlab.data import load_data
from actlab.training.settings import TrainSettings
from actlab.training.train import train
from tests.command_line import in_empty_folder
from tests.command_line import refused as refused_in_one_line
from tests.datasets import write_npz

__all__ = ["in_empty_folder"]

TOKENS = np.random.default_rng(0).integers(0, 12, (60, 5))
LABELS = (TOKENS == 3).any(axis=1).astype(int)


class Sentences(nn.Module):
    """An embedding, a recurrent layer, and a hidden layer with the activation."""

    def __init__(self, activation):
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(12, 4), nn.LSTM(4, 6, batch_first=True)
        self.hidden, self.activation, self.last = nn.Linear(6, 6), activation, nn.Linear(6, 2)

    def forward(self, tokens):
        states, _ = self.recurrent(self.embedding(tokens))
        return self.last(self.activation(self.hidden(states[:, -1])))


class Words(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.embedding, self.activation, self.last = nn.Embedding(12, 4), activation, nn.Linear(4, 2)

    def forward(self, tokens):
        return self.last(self.activation(self.embedding(tokens).mean(1)))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.uint16])
def test_load_data_keeps_integers_without_a_scale(tmp_path, dtype):
    X = TOKENS.astype(dtype)
    for source in (
        (X, LABELS),
        (torch.from_numpy(X.astype(np.int64)), LABELS),
        write_npz(tmp_path, X=X, y=LABELS),
    ):
        data = load_data(source, scale="none")
        assert (data.X.dtype, data.X.flags.c_contiguous, data.shape) == (np.int64, True, ())
        np.testing.assert_array_equal(data.X, TOKENS)
        np.testing.assert_array_equal(data.scale(np.arange(9)), TOKENS)
        assert repr(data).startswith(f"Dataset('{data.name}', X=int64(60, 5), num_classes=2, ")
        torch.from_numpy(data.X)  # a read-only array would warn here


@pytest.mark.parametrize(
    ("X", "scale"),
    [
        (TOKENS, None),
        (TOKENS, "columns"),
        (TOKENS, "common"),
        (TOKENS.astype(np.float64), "none"),
        (TOKENS > 5, "none"),
    ],
)
def test_load_data_converts_other_features_to_float32(X, scale):
    assert load_data((X, LABELS), scale=scale).X.dtype == np.float32


def test_load_data_without_a_scale_converts_images_to_float32():
    data = load_data((TOKENS.reshape(60, 1, 5), LABELS), scale="none")
    assert (data.X.dtype, data.shape) == (np.float32, (1, 1, 5))
    np.testing.assert_array_equal(data.X, TOKENS)


def test_load_data_refuses_integers_beyond_int64():
    X = TOKENS.astype(np.uint64)
    X[0, 0] = 2**63
    with pytest.raises(UsageError, match=r"arrays: X\[0, 0\] = 9223372036854775808 is beyond int64"):
        load_data((X, LABELS), scale="none")


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize(
    ("module", "reason"), [(Words, "^$"), (Sentences, "^torch.vmap cannot run the network: ")]
)
def test_compare_trains_embeddings_on_integers(module, reason):
    data = load_data((TOKENS, LABELS), scale="none")
    comparison = actlab.compare(["relu", "tanh"], data, module=module, epochs=2, folds=2, tune=None)
    assert comparison.results["failure"].eq("").all()
    assert comparison.results["reason_alone"].str.contains(reason).all()
    assert comparison.results["score"].between(0, 1).all()


def test_compare_trains_a_skorch_net_on_integers():
    data = load_data((TOKENS, LABELS), scale="none")
    net = skorch.NeuralNetClassifier(
        Sentences,
        module__activation=nn.ReLU(),
        criterion=nn.CrossEntropyLoss,
        iterator_train__sampler=None,
        iterator_train__collate_fn=default_collate,  # a fleet does not call it
        max_epochs=2,
        verbose=0,
    )
    comparison = actlab.compare(["relu", "tanh"], data, module=net, folds=2, tune=None)
    assert comparison.results["how"].eq("skorch").all()
    assert comparison.results["failure"].eq("").all()


def test_compare_tunes_a_model_of_integers():
    data = load_data((TOKENS, LABELS), scale="none")
    comparison = actlab.compare(["relu", "tanh"], data, module=Words, epochs=2, folds=2)
    assert comparison.results["failure"].eq("").all()


def test_compare_learns_from_integers():
    tokens = np.random.default_rng(1).integers(0, 12, (300, 1))
    data = load_data((tokens, tokens[:, 0] % 2), scale="none")
    comparison = actlab.compare(
        ["tanh"], data, module=Words, epochs=20, folds=2, tune=None, lr=0.1, batch_size=16
    )
    assert comparison.results["score"].eq(1).all()  # scaled tokens would be fractions


def test_default_network_refuses_integers():
    data = load_data((TOKENS, LABELS), scale="none")
    message = r"arrays: X has integers, which the default network does not take; set module .--module."
    with pytest.raises(UsageError, match=message):
        actlab.compare(["relu", "tanh"], data, tune=None)
    with pytest.raises(UsageError, match=message):
        train(data, "relu", TrainSettings(epochs=1))


def test_compare_verb_trains_embeddings_on_a_file_of_integers(tmp_path, capsys):
    write_npz(tmp_path, X=TOKENS, y=LABELS)
    call = "compare relu tanh --no-tune --epochs 1 --folds 2 --json --data arrays.npz --scale none".split()
    assert main([*call, "--module", f"{__name__}:Words"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == "arrays.npz"
    assert "X has integers, which the default network does not take" in refused_in_one_line(capsys, *call)
