"""Periodic functions: a sine, a sine added to a line, and a gated sine."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from actlab.activation.definition import elementwise
from actlab.activation.module import TrainedModule
from actlab.activation.numerics import both_gates, gate

inf, nan = math.inf, math.nan


def _clamp_to_finite(x: Tensor) -> Tensor:
    """Return x clamped to finite values: a sine has no value at infinity."""
    most = torch.finfo(x.dtype).max
    return x.clamp(-most, most)


@elementwise(
    formula="sin(omega * x)",
    limits=(nan, nan),
    slopes=(nan, nan),
    range=(-1, 1),
    monotonic=False,
    paper="Sitzmann et al. 2020",
)
def sine(x: Tensor, omega: float = 30.0) -> Tensor:
    """Sine of SIREN: ``sin(omega x)``.

    Args:
        x: The input.
        omega: The frequency. Must not be 0. The paper uses 30 for the first layer.
    """
    return torch.add(torch.sin(_clamp_to_finite(x * omega)), x, alpha=0)  # NaN at infinity only


sine.derivative(lambda x, omega: torch.cos(_clamp_to_finite(x * omega)) * omega)
sine.second(lambda x, omega: torch.sin(_clamp_to_finite(x * omega)) * (-omega * omega))
sine.exported(lambda x, omega: torch.sin(x * omega))
sine.requires(lambda omega: omega != 0, "omega must not be 0")
Sine = sine.module("Sine")


@elementwise(
    formula="x + sin(alpha * x)**2 / alpha",
    limits=(-inf, inf),
    slopes=(nan, nan),
    monotonic=True,
    paper="Ziyin et al. 2020",
)
def snake(x: Tensor, alpha: float | Tensor = 1.0) -> Tensor:
    """Snake: ``x + sin(alpha x)^2 / alpha``, a line plus a periodic term.

    Args:
        x: The input.
        alpha: The frequency, a number or a tensor that broadcasts. Must not be 0.
    """
    return x + torch.sin(_clamp_to_finite(x) * alpha).square() / alpha


@snake.derivative
def _(x: Tensor, alpha: float | Tensor) -> Tensor:
    z = x * alpha
    return (torch.sin(z) + torch.cos(z)).square()  # 1 + sin(2 z), exact where it touches 0


@snake.second
def _(x: Tensor, alpha: float) -> Tensor:
    z = x * alpha
    sine, cosine = torch.sin(z), torch.cos(z)
    return 2 * alpha * (cosine - sine) * (cosine + sine)  # cos(2 z), but 2 z may overflow


@snake.partial("alpha")
def _(x: Tensor, alpha: Tensor) -> Tensor:
    z = x * alpha
    sine = torch.sin(z)
    return sine * (2 * z * torch.cos(z) - sine) / (alpha * alpha)


snake.requires(lambda alpha: isinstance(alpha, Tensor) or alpha != 0, "alpha must not be 0")


@snake.prepares
def _(x: Tensor, alpha: float | Tensor) -> tuple[float | Tensor]:
    # One frequency for all must also broadcast with a tensor of no dimension.
    return (alpha.reshape(()) if isinstance(alpha, Tensor) and alpha.numel() == 1 else alpha,)


@snake.use_module
class Snake(TrainedModule):
    """Snake with a trained frequency.

    Args:
        num_parameters: 1, or the number of features: the size of the input's last dimension.
        init: The initial value of the frequency. Must not be 0.
        device: The device of the frequency.
        dtype: Its dtype.
    """

    repr_format = "num_parameters={num_parameters}"

    def __init__(
        self, num_parameters: int = 1, init: float = 1.0, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(device, dtype, alpha=(num_parameters, init))
        self.num_parameters = num_parameters


@elementwise(
    formula="(x + a * sin(b * x)) / (1 + exp(-x))",
    limits=(0, inf),
    slopes=(0, nan),
    range=lambda a, b: (-0.49737055418999102 if a == b == 1 else nan, inf),
    monotonic=False,
    paper="Paul et al. 2022",
)
def sinlu(x: Tensor, a: float | Tensor = 1.0, b: float | Tensor = 1.0) -> Tensor:
    """SinLU: ``(x + a sin(b x)) * sigmoid(x)``.

    Args:
        x: The input.
        a: The height of the wave, a number or a tensor that broadcasts.
        b: Its frequency, a number or a tensor that broadcasts.
    """
    return gate(x + torch.sin(_clamp_to_finite(x) * b) * a, x)


def _wave(x: Tensor, b: float | Tensor) -> tuple[Tensor, Tensor]:
    half = _clamp_to_finite(x) * b / 2
    return torch.sin(half), torch.cos(half)


@sinlu.derivative
def _(x: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
    sine, cosine = _wave(x, b)
    # 1 + a b cos(b x), by the half angle exact where it touches 0
    rise = (1 - a * b) + 2 * a * b * cosine * cosine
    return gate(rise + gate(x + 2 * a * sine * cosine, -x), x)


@sinlu.second
def _(x: Tensor, a: float, b: float) -> Tensor:
    sine, cosine = _wave(x, b)
    wave = 2 * a * sine * cosine
    rise = (1 - a * b) + 2 * a * b * cosine * cosine
    return both_gates(2 * rise - (x + wave) * torch.tanh(x / 2), x) - gate(b * b * wave, x)


sinlu.partial("a")(lambda x, a, b: gate(torch.sin(x * b), x))
sinlu.partial("b")(lambda x, a, b: gate(x * a * torch.cos(x * b), x))
SinLU = sinlu.module("SinLU", trained=True)
