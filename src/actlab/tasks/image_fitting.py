"""A network that maps coordinates to the colours of a photograph."""

from __future__ import annotations

from typing import Any

import numpy as np

from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

_BLOCK = 8  # pixels


def load() -> tuple[Any, Any]:
    """Return coordinates (n, 2) and colours (n, 3) of a photograph of a flower, in random order.

    Each colour is the mean of 8x8 pixels.
    """
    from sklearn.datasets import load_sample_image

    image = load_sample_image("flower.jpg").astype(np.float32)
    height, width = (size // _BLOCK for size in image.shape[:2])
    pixels = image[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK, 3).mean((1, 3))
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    order = np.random.default_rng(0).permutation(x.size)  # validation takes the first samples
    return np.stack([x.ravel(), y.ravel()], 1)[order], pixels.reshape(-1, 3)[order]


TASK = Task(
    name="image-fitting",
    description="colours of a photograph from coordinates",
    data=load,
    data_options={"regression": True, "scale": "none"},
    settings=TrainSettings(hidden=(64, 64, 64), epochs=60, batch_size=256, optimizer="adam", lr=0.003),
    seconds=0.25,
)
