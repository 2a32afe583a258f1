"""Modules and skorch classes for the configurations in search_cases.py."""

from __future__ import annotations

import numpy as np
import skorch
import torch
from torch import nn

from tests.searches import CLASSES, FEATURES


class Network(nn.Module):
    def __init__(self, width=6, outputs=CLASSES, drop=0.0, norm=False):
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, width), nn.Linear(width, outputs)
        self.between = nn.Sequential(
            *([nn.BatchNorm1d(width)] if norm else []), nn.Tanh(), *([nn.Dropout(drop)] if drop else [])
        )

    def forward(self, X):
        return self.last(self.between(self.first(X)))


class Columns(Network):
    """Takes the columns of a table as named arguments."""

    def forward(self, a, b, c, d):
        return super().forward(torch.stack([v.reshape(-1) for v in (a, b, c, d)], 1).float())


class Halves(Network):
    def forward(self, left, right):
        return super().forward(torch.cat([left, right], 1))


class Table(nn.Module):
    """Takes columns of several dtypes and checks them."""

    def __init__(self):
        super().__init__()
        self.kinds, self.numbers = nn.Embedding(3, 2), nn.Linear(5, 6)
        self.last = nn.Linear(8, 3)

    def forward(self, kind, size, day, **columns):
        assert (kind.dtype, size.dtype, day.dtype) == (torch.int8, torch.float64, torch.int64)
        numbers = torch.cat([*columns.values(), size.float() * (day >= 0)], -1)
        hidden = torch.tanh(self.numbers(numbers))
        return self.last(torch.cat([hidden, self.kinds(kind.squeeze(-1).long())], -1))


class Pictures(nn.Module):
    def __init__(self):
        super().__init__()
        self.kinds, self.first, self.last = nn.Embedding(3, 2), nn.Linear(2, 3), nn.Linear(8, 3)

    def forward(self, picture, kind):
        assert (picture.ndim, kind.ndim, kind.dtype) == (3, 1, torch.int16)
        hidden = torch.relu(self.first(picture)).flatten(-2)
        return self.last(torch.cat([hidden, self.kinds(kind.long())], -1))


class Several(Network):
    def forward(self, X):
        hidden = self.first(X)
        return self.last(hidden), hidden


class Dense(Network):
    def forward(self, X):
        return super().forward(X.to_dense() if X.layout != torch.strided else X)


class Weighed(nn.Module):
    """Takes sample weights as a second input."""

    def __init__(self):
        super().__init__()
        self.net = Network()

    def forward(self, X, sample_weight):
        return self.net(X)


class WeighedNet(skorch.NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X, *args, **kwargs):
        loss = super().get_loss(y_pred, y_true, X, *args, **kwargs)
        return (X["sample_weight"] * loss).mean()


class Logged(skorch.NeuralNetClassifier):
    """Overrides a method that fleets do not support."""

    def train_step(self, batch, **fit_params):
        return super().train_step(batch, **fit_params)


class Auxiliary(skorch.NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred[0], y_true, *args, **kwargs) + y_pred[1].square().mean()


class Tokens(Network):
    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(2, FEATURES)

    def forward(self, X):
        return super().forward(self.embedding(X))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, X):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(X)))))


class Frozen(Network):
    def __init__(self):
        super().__init__()
        self.first.requires_grad_(False)


class Unused(Network):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Counted(Network):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("saved_bytes", torch.arange(3), persistent=False)

    def forward(self, X):
        return self.scale * super().forward(X) + self.saved_bytes


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.last = nn.GRU(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, X):
        return self.last(self.recurrent(X)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.TransformerEncoderLayer(2, 1, 4, 0.0, batch_first=True), nn.Linear(4, 3)

    def forward(self, X):
        return self.last(self.layer(X).flatten(1))


class Branching(Network):
    """Has outputs that depend on the whole batch."""

    def forward(self, X):
        result = super().forward(X)
        return result if result.mean() > 0 else 2 * result


class Backwards(torch.utils.data.Sampler):
    def __init__(self, number):
        self.number = number

    def __iter__(self):
        return iter(range(self.number - 1, -1, -1))

    def __len__(self):
        return self.number


class Doubled(skorch.dataset.Dataset):
    def transform(self, X, y):
        return super().transform(2 * X, y)


def make_mlp(outputs=CLASSES):
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, outputs))


def make_softmax_mlp():
    return nn.Sequential(*make_mlp(), nn.Softmax(dim=-1))


def make_probability_mlp():
    return nn.Sequential(*make_mlp(1), nn.Sigmoid(), nn.Flatten(0))


def make_seeded_mlp():
    torch.manual_seed(5)
    return make_mlp()


def make_flat_mlp():
    return nn.Sequential(*make_mlp(1), nn.Flatten(0))


def negative_squared_distance(net, X, y):
    return -float(np.square(net.forward(X).numpy() - y).mean())


def accuracy(net, X, y):
    return float((net.predict(X) == y).mean())
