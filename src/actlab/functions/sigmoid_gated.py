"""Self-gated functions: the input times a sigmoid of itself."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from actlab.activation.definition import elementwise
from actlab.activation.module import TrainedModule
from actlab.activation.numerics import (
    FAR,
    both_gates,
    exp,
    finite_gate,
    gate,
    gate_slope,
    mills_ratio,
    normal_cdf,
    sigmoid_to_the_last,
    uses_compiled_forms,
)

inf = math.inf
aten = torch.ops.aten


@elementwise(
    formula="x / (1 + exp(-x))",
    limits=(0, inf),
    slopes=(0, 1),
    range=(-0.27846454276107380, inf),
    monotonic=False,
    paper="Elfwing et al. 2017; Hendrycks & Gimpel 2016",
    torch_equivalent="SiLU",
    inplace=True,
)
def silu(x: Tensor) -> Tensor:
    """Sigmoid linear unit: ``x * sigmoid(x)``."""
    return finite_gate(x.clamp_min(-FAR), x)


@silu.derivative
def _(x: Tensor) -> Tensor:
    x = x.clamp(-FAR, FAR)
    return gate_slope(x, x)


# torch's values are 0 below -88 in float32, and NaN at minus infinity. The error of its derivative exceeds 4
# units (of the rounding of the input) above 5.43.
silu.torch_kernels(value=(aten.silu, -80, inf), gradient=(aten.silu_backward, -80, 5.4))

silu.second(lambda x: both_gates(2 - x * torch.tanh(x / 2), x))
SiLU = silu.module("SiLU")


@elementwise(
    formula="x / (1 + exp(-beta * x))",
    limits=lambda beta: (0 if beta > 0 else -inf, inf if beta >= 0 else 0),
    slopes=lambda beta: (0, 1) if beta > 0 else (1, 0) if beta < 0 else (0.5, 0.5),
    range=lambda beta: (
        (-0.27846454276107380 / beta, inf)
        if beta > 0
        else (-inf, -0.27846454276107380 / beta)
        if beta
        else (-inf, inf)
    ),
    monotonic=False,
    paper="Ramachandran et al. 2017",
)
def swish(x: Tensor, beta: float | Tensor = 1.0) -> Tensor:
    """Swish: ``x * sigmoid(beta x)``; SiLU at ``beta=1``, a line at 0, ReLU at infinity.

    Args:
        x: The input.
        beta: The sharpness of the gate, a number or a tensor that broadcasts.
    """
    return gate(x, x * beta)


@swish.derivative
def _(x: Tensor, beta: float | Tensor) -> Tensor:
    z = (x * beta).clamp(-FAR, FAR)
    return gate_slope(z, z)


@swish.second
def _(x: Tensor, beta: float) -> Tensor:
    z = x * beta
    return both_gates(2 - z * torch.tanh(z / 2), z) * beta


swish.exported(lambda x, beta: x * torch.sigmoid(x * beta))  # runtimes have a kernel for it
swish.partial("beta")(lambda x, beta: x * both_gates(x, x * beta))


@swish.use_module
class Swish(TrainedModule):
    """Swish: ``x * sigmoid(beta x)``, with ``beta`` trained or fixed.

    Args:
        beta: The sharpness of the gate, or its initial value.
        trained: Whether ``beta`` is trained.
        device: The device of a trained ``beta``.
        dtype: Its dtype.
    """

    def __init__(
        self, beta: float = 1.0, trained: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(device, dtype, **({"beta": beta} if trained else {}))
        if not trained:
            self.beta = beta

    def extra_repr(self) -> str:
        """Return a fixed ``beta``; a trained one is in the state."""
        return "" if self.starts else f"beta={self.beta}, trained=False"


@elementwise(
    formula="x * min(max(x + 3, 0), 6) / 6",
    limits=(0, inf),
    slopes=(0, 1),
    range=(-0.375, inf),
    monotonic=False,
    paper="Howard et al. 2019",
    kinks={-3: 0, 3: 1},
    torch_equivalent="Hardswish",
    inplace=True,
)
def hardswish(x: Tensor) -> Tensor:
    """Piecewise quadratic approximation of SiLU: 0 below -3, ``x`` above 3."""
    # Divide by 6 before multiplying: 6 * x would overflow, and 0 * -inf is NaN.
    return x.clamp_min(-3).mul_(aten.hardsigmoid(x))


hardswish.derivative(lambda x: torch.where(x < 3, torch.where(x > -3, x / 3 + 0.5, 0.0), 1.0))
hardswish.second(lambda x: (x.abs() < 3).to(x.dtype) / 3)
hardswish.gradient(lambda grad, x: aten.hardswish_backward(grad, x))
Hardswish = hardswish.module("Hardswish", repr_format="")


_BELL = 1 / math.sqrt(2 * math.pi)  # the height of the normal density
_GELU_TANH = 2 * math.sqrt(2 / math.pi)
_GELU_CUBE = 0.044715


def exact_gelu(x: Tensor) -> Tensor:
    """Return ``x Phi(x)``."""
    if uses_compiled_forms() and x.dtype is torch.float32:
        a = x.abs().clamp_max(40)
        return torch.addcmul(torch.relu(x), a * exp(a * a, -0.5), mills_ratio(a), value=-1)
    return normal_cdf(x.clamp(-40, 40)).mul_(x.clamp_min(-40))


def exact_gelu_slope(x: Tensor) -> Tensor:
    """Return the derivative of exact GELU, ``Phi(x) + x phi(x)``."""
    if uses_compiled_forms() and x.dtype is torch.float32:
        a = x.abs().clamp_max(40)
        # the slope at -a; at a it is 1 minus that
        left = torch.sub(mills_ratio(a), a, alpha=_BELL) * exp(a * a, -0.5)
        return left + aten.threshold_backward(1 - 2 * left, x, 0)
    x = x.clamp(-40, 40)
    return _add_bell(normal_cdf(x), x)


def _add_bell(cdf: Tensor, x: Tensor) -> Tensor:
    """Return ``cdf + x phi(x)``."""
    return torch.addcmul(cdf, (x * x).mul_(-0.5).exp_(), x, value=_BELL)


def exact_gelu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return exact GELU and its derivative, for x >= -40."""
    if uses_compiled_forms() and x.dtype is torch.float32:
        return exact_gelu(x), exact_gelu_slope(x)
    c = x.clamp_max(40)
    cdf = normal_cdf(c)
    return cdf * x, _add_bell(cdf, c)


def exact_gelu_second(x: Tensor) -> Tensor:
    """Return the second derivative of exact GELU, ``phi(x) (2 - x^2)``."""
    x = x.clamp(-40, 40)
    square = x * x
    return torch.exp(-0.5 * square) * (2 - square) * _BELL


def _inner(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the argument of the sigmoid of tanh-GELU, and x clamped to where it bends."""
    x = x.clamp(-25, 25)
    return (x * x).mul_(_GELU_TANH * _GELU_CUBE).add_(_GELU_TANH).mul_(x), x


@elementwise(
    formula=lambda approximate: (
        "x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2"
        if approximate == "tanh"
        else "x * (1 + erf(x / sqrt(2))) / 2"
    ),
    limits=(0, inf),
    slopes=(0, 1),
    range=lambda approximate: (
        -0.17004075057125405 if approximate == "tanh" else -0.16997120747990366,
        inf,
    ),
    monotonic=False,
    paper="Hendrycks & Gimpel 2016",
    torch_equivalent="GELU",
)
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit: ``x`` times the normal distribution function of ``x``.

    Args:
        x: The input.
        approximate: ``"none"``, or ``"tanh"`` for the approximation by a hyperbolic tangent.
    """
    if approximate == "tanh":
        return finite_gate(x.clamp_min(-25), _inner(x)[0])
    return exact_gelu(x)


@gelu.derivative
def _(x: Tensor, approximate: str) -> Tensor:
    if approximate == "none":
        return exact_gelu_slope(x)
    v, c = _inner(x)
    rise = (c * c).mul_(3 * _GELU_TANH * _GELU_CUBE).add_(_GELU_TANH).mul_(c)  # x dv/dx
    return gate_slope(rise, v)


@gelu.second
def _(x: Tensor, approximate: str) -> Tensor:
    if approximate == "none":
        return exact_gelu_second(x)
    v, c = _inner(x)
    slope = 3 * _GELU_TANH * _GELU_CUBE * c * c + _GELU_TANH
    bend = 6 * _GELU_TANH * _GELU_CUBE * c
    return both_gates(2 * slope + c * bend - c * slope * slope * torch.tanh(v / 2), v)


gelu.exported(lambda x, approximate: functional.gelu(x, approximate=approximate))
gelu.requires(
    lambda approximate: approximate in ("none", "tanh"), "approximate must be 'none' or 'tanh'", RuntimeError
)
GELU = gelu.module("GELU")


@elementwise(
    formula="x * log(1 + 1 / (1 + exp(-x)))",
    limits=(0, inf),
    slopes=(0, math.log(2)),
    range=(-0.25276881678944036, inf),
    monotonic=False,
    paper="Zhu et al. 2021",
)
def logish(x: Tensor) -> Tensor:
    """Logish: ``x * log(1 + sigmoid(x))``."""
    return x.clamp_min(-FAR) * torch.log1p(sigmoid_to_the_last(x))


@logish.derivative
def _(x: Tensor) -> Tensor:
    x = x.clamp(-FAR, FAR)
    s = sigmoid_to_the_last(x)
    return torch.log1p(s) + finite_gate(finite_gate(x, x, -1) / (1 + s), x)


@logish.second
def _(x: Tensor) -> Tensor:
    s = sigmoid_to_the_last(x)
    return both_gates((2 + x * (1 - 2 * s - s * s) / (1 + s)) / (1 + s), x)


Logish = logish.module("Logish")
