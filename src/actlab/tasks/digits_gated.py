"""Gated feed-forward blocks, as in large language models, on images of digits."""

from __future__ import annotations

from torch import Tensor, nn

from actlab.models.networks import new_activation
from actlab.spec import ActivationLike
from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings


class GatedBlock(nn.Module):
    """A residual block whose activation multiplies another linear layer (GLU).

    Args:
        features: The number of features.
        activation: The activation of the gate.

    References:
        N. Shazeer, "GLU variants improve transformer", 2020.
    """

    def __init__(self, features: int, activation: ActivationLike) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.gate, self.value = nn.Linear(features, features), nn.Linear(features, features)
        self.output = nn.Linear(features, features)
        self.activation = new_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of features ``x`` (n, features)."""
        normed = self.norm(x)
        return x + self.output(self.activation(self.gate(normed)) * self.value(normed))  # type: ignore[no-any-return]


class GatedNet(nn.Sequential):
    """Two gated blocks and a linear layer.

    Args:
        activation: The activation.
    """

    def __init__(self, activation: ActivationLike = "relu") -> None:
        super().__init__(GatedBlock(64, activation), GatedBlock(64, activation), nn.Linear(64, 10))


TASK = Task(
    name="digits-gated",
    description="gated feed-forward blocks (GLU) on 8x8 digits",
    data="digits",
    module=GatedNet,
    settings=TrainSettings(epochs=10, optimizer="adamw", lr=0.003),
    seconds=0.1,
)
