"""A recurrent network that reads images of digits row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from actlab.models.networks import new_activation
from actlab.spec import ActivationLike
from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings


class RecurrentNet(nn.Module):
    """A recurrent cell with the activation, and a linear layer for its last state.

    Args:
        activation: The activation.
        size: The number of units of the cell.
    """

    def __init__(self, activation: ActivationLike = "relu", size: int = 48) -> None:
        super().__init__()
        self.inputs = nn.Linear(8, size)
        self.state = nn.Linear(size, size, bias=False)
        self.activation = new_activation(activation)
        self.head = nn.Linear(size, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, 10) of images ``x`` (n, 64)."""
        rows = self.inputs(torch.unflatten(x, 1, (8, 8))).unbind(1)
        state = self.activation(rows[0])
        for row in rows[1:]:
            state = self.activation(row + self.state(state))
        return self.head(state)  # type: ignore[no-any-return]


TASK = Task(
    name="digits-rnn",
    description="recurrent cell that reads 8x8 digits row by row",
    data="digits",
    module=RecurrentNet,
    settings=TrainSettings(epochs=15, optimizer="adam", lr=0.003),
    seconds=0.17,
)
