"""The net that activations are compared in: the notebook's multilayer perceptron."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn

from actlab._spec import get

ActivationLike = str | nn.Module | type[nn.Module] | Callable[[Tensor], Tensor]


class NeuralNet(nn.Module):
    """A perceptron of three layers: ``num_features -> num_units -> num_units // 2 -> num_classes``.

    Each of the two hidden layers has an activation of its own. A module that is given is copied and
    put back to its initial state, so nothing that it learnt, in here or before, gets into the net.

    Args:
        num_units: Width of the first hidden layer; the second is half as wide.
        activation: A spec such as ``"leaky_relu(negative_slope=0.2)"``, an ``nn.Module``, its class,
            or a function from tensor to tensor.
        num_features: Columns of the input.
        num_classes: Columns of the output.

    Raises:
        ValueError: A size is too small.
        UsageError: The spec names nothing.

    Examples:
        >>> import torch
        >>> net = NeuralNet(num_units=8, activation="tanh", num_features=4, num_classes=3)
        >>> net(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        num_units: int = 128,
        activation: ActivationLike = "relu",
        num_features: int = 784,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        _at_least(2, num_units=num_units, num_classes=num_classes)
        _at_least(1, num_features=num_features)
        self.fc1 = nn.Linear(num_features, num_units)
        self.fc2 = nn.Linear(num_units, num_units // 2)
        self.fc3 = nn.Linear(num_units // 2, num_classes)
        self.activation1 = fresh(activation)
        self.activation2 = fresh(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features)."""
        hidden = self.activation1(self.fc1(x))
        hidden = self.activation2(self.fc2(hidden))
        return self.fc3(hidden)  # type: ignore[no-any-return]


def _at_least(least: int, **sizes: int) -> None:
    for name, value in sizes.items():
        if value < least:
            raise ValueError(f"{name} is {value!r}; it must be at least {least}")


def fresh(activation: ActivationLike) -> Callable[[Tensor], Tensor]:
    """Return an activation that shares no parameter with anything and has learnt nothing yet.

    Args:
        activation: A spec, a module, its class, or a function, which is returned as it is.

    Returns:
        A module of its own, back in its initial state as far as its parts have ``reset_parameters``.
    """
    if isinstance(activation, type):
        return fresh(activation())
    if not isinstance(activation, str | nn.Module):
        return activation
    module = copy.deepcopy(get(activation))
    for part in module.modules():
        if callable(reset := getattr(part, "reset_parameters", None)):
            reset()
    return module
