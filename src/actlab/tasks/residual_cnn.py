"""A residual network with batch normalization on images of digits."""

from __future__ import annotations

from torch import Tensor, nn

from actlab.models.networks import new_activation
from actlab.spec import ActivationLike
from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings


class Block(nn.Module):
    """Two convolutions whose output is added to the input.

    Args:
        channels: The number of channels.
        activation: The activation.
    """

    def __init__(self, channels: int, activation: ActivationLike) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.activation1, self.activation2 = new_activation(activation), new_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of images ``x`` (n, channels, height, width)."""
        hidden = self.activation1(self.norm1(self.conv1(x)))
        return self.activation2(x + self.norm2(self.conv2(hidden)))  # type: ignore[no-any-return]


class ResidualNet(nn.Sequential):
    """A convolution, two residual blocks and a linear layer.

    Args:
        activation: The activation.
    """

    def __init__(self, activation: ActivationLike = "relu") -> None:
        super().__init__(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            new_activation(activation),
            Block(8, activation),
            Block(8, activation),
            nn.Flatten(),
            nn.Linear(128, 10),
        )


TASK = Task(
    name="residual-cnn",
    description="residual network with batch normalization on 8x8 digits",
    data="digits",
    module=ResidualNet,
    settings=TrainSettings(epochs=6),
    seconds=0.22,
)
