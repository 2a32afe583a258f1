"""Reference networks: a multilayer perceptron, and a convolutional network for images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from actlab.errors import UsageError
from actlab.spec import ActivationLike, resolve


class NeuralNet(nn.Module):
    """A perceptron: ``num_features -> num_units -> num_units // 2 -> num_classes``, or other widths.

    Each hidden layer has its own activation. A module passed as the activation is copied with the values of
    its parameters and buffers.

    Args:
        num_units: Width of the first of two hidden layers, the second of which is half as wide; or the widths
            of any number of hidden layers.
        activation: A spec such as ``"leaky_relu(negative_slope=0.2)"``, a definition, an ``nn.Module``, its
            class, a function from tensor to tensor, or an ``autograd.Function``.
        num_features: Number of features of a sample.
        num_classes: Number of outputs.
        dropout: Probability that dropout zeroes an output of an activation.

    Raises:
        ValueError: A size is too small.
        UsageError: The spec is not an activation.

    Examples:
        >>> import torch
        >>> net = NeuralNet(num_units=8, activation="tanh", num_features=4, num_classes=3)
        >>> net(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        num_units: int | Sequence[int] = 128,
        activation: ActivationLike = "relu",
        num_features: int = 784,
        num_classes: int = 10,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(num_units, Sequence):  # any integer, also NumPy's
            _require_at_least(2, num_units=num_units)
            num_units = num_units, num_units // 2
        _require_at_least(1, num_features=num_features, num_classes=num_classes, num_units=min(num_units))
        self.depth = len(num_units)
        sizes = [num_features, *num_units, num_classes]
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
            setattr(self, f"fc{number}", nn.Linear(inputs, outputs))
        for number in range(1, self.depth + 1):
            setattr(self, f"activation{number}", new_activation(activation))
            if dropout:
                setattr(self, f"dropout{number}", nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features)."""
        for number in range(1, self.depth + 1):
            x = getattr(self, f"activation{number}")(getattr(self, f"fc{number}")(x))
            if hasattr(self, f"dropout{number}"):
                x = getattr(self, f"dropout{number}")(x)
        return getattr(self, f"fc{self.depth + 1}")(x)  # type: ignore[no-any-return]


class ConvNet(nn.Module):
    """Two 3x3 convolutions that each halve the image, and two linear layers.

    Each layer except the last has its own activation, made as in :class:`NeuralNet`. The network takes flat
    samples (n, num_features), as in a :class:`Dataset`, and images (n, channels, height, width). Convolutions
    with stride 2 halve the images instead of pooling: a step on 28x28 pixels then takes at most a third of
    the time.

    Args:
        num_units: Width of the hidden linear layer; the convolutions have ``num_units // 4`` and
            ``num_units // 2`` channels. A sequence may have one width only.
        activation: As for :class:`NeuralNet`.
        num_features: Number of features of a sample.
        num_classes: Number of outputs.
        image_shape: Channels, height and width of an image; None for a square with one channel.

    Raises:
        ValueError: A size is too small, or the image does not have ``num_features`` numbers.
        UsageError: The spec is not an activation; in ``forward``: ``x`` contains images of a different shape.

    Examples:
        >>> import torch
        >>> net = ConvNet(activation="tanh", num_features=64)
        >>> net(torch.zeros(2, 64)).shape, net(torch.zeros(2, 1, 8, 8)).shape
        (torch.Size([2, 10]), torch.Size([2, 10]))
    """

    def __init__(
        self,
        num_units: int | Sequence[int] = 32,
        activation: ActivationLike = "relu",
        num_features: int = 784,
        num_classes: int = 10,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(num_units, Sequence):
            if len(num_units) != 1:
                raise ValueError(
                    f"num_units (hidden) must be the width of one hidden linear layer, got {num_units!r}"
                )
            num_units = num_units[0]
        _require_at_least(4, num_units=num_units)
        _require_at_least(1, num_features=num_features, num_classes=num_classes)
        channels, height, width = self.image_shape = _resolve_image_shape(image_shape, num_features)
        quarters = -(-height // 4) * -(-width // 4)
        self.conv1 = nn.Conv2d(channels, num_units // 4, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(num_units // 4, num_units // 2, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(num_units // 2 * quarters, num_units)
        self.fc2 = nn.Linear(num_units, num_classes)
        self.activation1 = new_activation(activation)
        self.activation2 = new_activation(activation)
        self.activation3 = new_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features) or (n, \\*image_shape)."""
        # A fleet traces the layers with torch.fx, whose proxies have no shape.
        if isinstance(x, Tensor) and x.ndim == 4 and tuple(x.shape[1:]) != self.image_shape:
            takes = f"this network takes (channels, height, width) = {self.image_shape}"
            raise UsageError(f"images have shape {tuple(x.shape[1:])}; {takes}")
        hidden = torch.unflatten(x.flatten(1), 1, self.image_shape)
        hidden = self.activation1(self.conv1(hidden))
        hidden = self.activation2(self.conv2(hidden))
        hidden = self.activation3(self.fc1(hidden.flatten(1)))
        return self.fc2(hidden)  # type: ignore[no-any-return]


def _resolve_image_shape(shape: tuple[int, int, int] | None, num_features: int) -> tuple[int, int, int]:
    if shape is None:
        side = math.isqrt(num_features)
        if side * side != num_features:
            raise ValueError(
                f"num_features must be a square number, got {num_features!r}; "
                f"for other images, pass image_shape=(channels, height, width)"
            )
        return 1, side, side
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) != num_features:
        raise ValueError(
            f"image_shape must be (channels, height, width) with the product {num_features}, got {shape!r}"
        )
    channels, height, width = shape
    return channels, height, width


def _require_at_least(least: int, **sizes: int) -> None:
    for name, value in sizes.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}")


def new_activation(activation: ActivationLike) -> nn.Module:
    """Return a new module of an activation, which shares no parameter with another.

    Args:
        activation: As for :func:`actlab.spec.resolve`. The copy of a module has its parameters and buffers.
    """
    return resolve(activation).build()
