"""A physics-informed network that solves a differential equation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from actlab.data.dataset import Dataset, compute_fingerprint
from actlab.models.networks import NeuralNet
from actlab.spec import ActivationLike
from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings


def solve(x: Tensor) -> Tensor:
    """Return the solution u of the equation at x, which is 0 at -1 and at 1."""
    return torch.sin(torch.pi * x) + 0.5 * torch.sin(3 * torch.pi * x)


def compute_source(x: Tensor) -> Tensor:
    """Return the right-hand side f of the equation u'' = f at x."""
    scale = torch.pi**2
    return -scale * torch.sin(torch.pi * x) - 4.5 * scale * torch.sin(3 * torch.pi * x)


def load() -> Dataset:
    """Return points x (n, 1) from -1 to 1 in random order, and the solution (n, 1)."""
    x = np.random.default_rng(0).permutation(np.linspace(-1, 1, 384, dtype=np.float32))[:, None]
    y = solve(torch.from_numpy(x)).numpy()
    return Dataset(x, y, "poisson", compute_fingerprint(x, y), ())


class PhysicsNet(nn.Module):
    """A perceptron u that is 0 at -1 and at 1, trained on the residual of u'' = f.

    In training mode it returns the solution plus 0.01 times the residual. The mean squared error with the
    solution as the target is then proportional to the mean squared residual, so training does not use the
    solution. In evaluation mode it returns u.

    Args:
        activation: The activation.

    References:
        M. Raissi, P. Perdikaris, G. Karniadakis, "Physics-informed neural networks", Journal of
        Computational Physics 378 (2019).
    """

    def __init__(self, activation: ActivationLike = "tanh") -> None:
        super().__init__()
        self.network = NeuralNet((32, 32), activation, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the solution plus 1 % of the residual (n, 1) in training mode, otherwise u (n, 1)."""
        if not self.training:
            return self._compute(x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._compute(x).sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        return solve(x.detach()) + (second - compute_source(x.detach())) / 100

    def _compute(self, x: Tensor) -> Tensor:
        return (1 - x * x) * self.network(x)  # type: ignore[no-any-return]


TASK = Task(
    name="poisson",
    description="physics-informed network for u'' = f",
    data=load,
    module=PhysicsNet,
    settings=TrainSettings(epochs=180, batch_size=256, optimizer="adam", lr=0.003),
    seconds=0.4,
)
