"""Models that use F.relu in different ways."""

import functools
import pickle

import torch
import torch.nn.functional as F
from torch import nn

from actlab.models import find_activations
from tests.searches import one_thread

__all__ = ["one_thread"]


def list_paths(model):
    """Return the paths of the element-wise activations of a model by name."""
    paths = {}
    for place in find_activations(model):
        if place.is_elementwise:
            paths.setdefault(place.activation, []).append(place.path)
    return paths


class Functional(nn.Module):
    """Calls relu in all available ways."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        x = F.relu(self.first(x))
        x = torch.relu(self.second(x))
        return self.third(x).relu()


class Tanhs(Functional):
    """The same model, written with tanh."""

    def forward(self, x):
        return torch.tanh(self.third(torch.tanh(self.second(torch.tanh(self.first(x))))))


class Block(nn.Module):
    """A block of a residual network, in the style of torchvision."""

    def __init__(self, channels, out, stride=1, activation=nn.ReLU):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = activation()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = nn.Conv2d(channels, out, 1, stride) if stride > 1 else None

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class FunctionalBlock(Block):
    def forward(self, x):
        identity = x
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return F.relu(out, inplace=True)


def residual(block, **options):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        block(4, 4, **options),
        block(4, 8, stride=2, **options),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


class Holding(nn.Module):
    """Stores functions as attributes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act, self.leaky = F.relu, functools.partial(F.leaky_relu, negative_slope=0.2)

    def forward(self, x):
        return self.leaky(self.fc(self.act(x)))


class Helped(nn.Module):
    """Calls the function in a method."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def body(self, x):
        return F.relu(self.fc(x))

    def forward(self, x):
        return self.body(x) * 2


def pickle_and_load(model):
    return pickle.loads(pickle.dumps(model))  # noqa: S301


def apply_tanhs(model, x):
    """Return the output of Functional with tanh instead of relu."""
    return torch.tanh(model.third(torch.tanh(model.second(torch.tanh(model.first(x))))))
