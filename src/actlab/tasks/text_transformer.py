"""A transformer that predicts the next character of Python's own documentation."""

from __future__ import annotations

import math
from pydoc_data import topics

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from actlab.models.networks import new_activation
from actlab.spec import ActivationLike
from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

_ALPHABET = " abcdefghijklmnoprstuvwxy"
_WINDOW, _SAMPLES = 12, 4500


def load() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return windows of 12 characters (n, 12), and the character after each (n,).

    All characters except the 24 most frequent letters become blanks.
    """
    text = " ".join(topics.topics.values()).lower()
    codes = np.array([max(_ALPHABET.find(character), 0) for character in text])
    codes = codes[(codes > 0) | (np.roll(codes, 1) > 0)]  # one blank between words
    starts = np.linspace(0, len(codes) - _WINDOW - 1, _SAMPLES).astype(int)
    windows = codes[starts[:, None] + np.arange(_WINDOW + 1)]
    return windows[:, :-1], windows[:, -1]


class Transformer(nn.Module):
    """A transformer block on characters: attention with 4 heads, and a feed-forward network.

    Args:
        activation: The activation of the feed-forward network.
        size: The number of features of a character, divisible by 4.
    """

    def __init__(self, activation: ActivationLike = "relu", size: int = 32) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(_ALPHABET), size)
        self.positions = nn.Parameter(0.1 * torch.randn(_WINDOW, size))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(size) for _ in range(3))
        self.attention, self.mixed = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, 4 * size), new_activation(activation), nn.Linear(4 * size, size)
        )
        self.head = nn.Linear(size, len(_ALPHABET))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, 25) of the next character of windows ``x`` (n, 12)."""
        hidden = self.characters(x) + self.positions
        parts = self.attention(self.norm1(hidden)).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0][:, :, -1:], parts[1], parts[2]  # only the last position predicts
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])).softmax(3)
        last = hidden[:, -1] + self.mixed((weights @ value).flatten(1))
        last = last + self.feed_forward(self.norm2(last))
        return self.head(self.norm3(last))  # type: ignore[no-any-return]


TASK = Task(
    name="text-transformer",
    description="transformer that predicts the next character of a text",
    data=load,
    data_options={"scale": "none"},
    module=Transformer,
    settings=TrainSettings(epochs=6, optimizer="adamw", lr=0.003),
    seconds=0.3,
)
