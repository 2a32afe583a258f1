"""An MLP mixer on images of digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from actlab.models.networks import new_activation
from actlab.spec import ActivationLike
from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings


class MixerBlock(nn.Module):
    """Mixes the patches of an image, and then the channels of each patch.

    Args:
        patches: The number of patches.
        channels: The number of channels of a patch.
        activation: The activation.

    References:
        I. Tolstikhin et al., "MLP-Mixer: an all-MLP architecture for vision", NeurIPS 34 (2021).
    """

    def __init__(self, patches: int, channels: int, activation: ActivationLike) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.over_patches = nn.Sequential(
            nn.Linear(patches, 2 * patches), new_activation(activation), nn.Linear(2 * patches, patches)
        )
        self.over_channels = nn.Sequential(
            nn.Linear(channels, 2 * channels), new_activation(activation), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of ``x`` (n, patches, channels)."""
        x = x + self.over_patches(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.norm2(x))  # type: ignore[no-any-return]


class MixerNet(nn.Module):
    """A mixer on the 16 patches of 2x2 pixels of an 8x8 image.

    Args:
        activation: The activation.
    """

    def __init__(self, activation: ActivationLike = "relu") -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 2, stride=2)
        self.block = MixerBlock(16, 16, activation)
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, 10) of images ``x`` (n, 64)."""
        patches = self.patches(torch.unflatten(x, 1, (1, 8, 8))).flatten(2).transpose(1, 2)
        return self.head(self.block(patches).flatten(1))  # type: ignore[no-any-return]


TASK = Task(
    name="digits-mixer",
    description="MLP mixer on 8x8 digits",
    data="digits",
    module=MixerNet,
    settings=TrainSettings(epochs=7, optimizer="adamw", lr=0.003),
    seconds=0.2,
)
