"""Compute the moments of an activation at standard normal inputs, and the gain that follows from them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.integrate import cubature
from torch import Tensor

from actlab.activation.definition import Activation
from actlab.activation.module import ActivationModule
from actlab.errors import UsageError, summarize_error
from actlab.spec import ActivationLike, resolve

_LARGEST = 37.0  # the normal density is 1e-298 there
_TOLERANCE = 1e-10  # relative error of the integrals
_MAX_ERROR = 1e-7  # relative error from which an integral is refused
_MAX_SUBDIVISIONS = 2000

Function = Callable[[Tensor], Tensor]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GaussianMoments:
    """The moments of an activation ``f`` for z ~ N(0, 1).

    Attributes:
        mean: E[f(z)].
        second: E[f(z)^2].
        slope: E[f'(z)^2]; NaN for a gated unit, and if it is not finite.
        variance_slope: The derivative of E[f(s z)^2] / E[f(z)^2] with respect to the variance s^2, at 1. If
            it is below 1, layers with the gain bring signals back to variance 1. At 1, the variance keeps its
            value. Above 1, differences from variance 1 grow from layer to layer. NaN for a gated unit.
    """

    mean: float
    second: float
    slope: float
    variance_slope: float

    @property
    def variance(self) -> float:
        """Var[f(z)]."""
        return max(0.0, self.second - self.mean**2)

    @property
    def gain(self) -> float:
        """1 / sqrt(E[f(z)^2])."""
        return 1 / math.sqrt(self.second)

    @property
    def critical_point(self) -> tuple[float, float] | None:
        """The standard deviations (sigma_w, sigma_b) at which signals and gradients keep their size.

        Weights have the variance sigma_w^2 / fan_in, and biases sigma_b^2. Inputs of the activation with
        variance 1 then have variance 1 in the next layer, and the mean squared gradient stays the same. None
        if that needs a negative variance of the biases.
        """
        if not self.slope > 0:
            return None
        bias_variance = 1 - self.second / self.slope
        if bias_variance < -_MAX_ERROR:
            return None
        return self.slope**-0.5, math.sqrt(bias_variance) if bias_variance > _MAX_ERROR else 0.0


def gain(activation: ActivationLike) -> float:
    """Return the scale of the weights that preserves the size of signals, for any element-wise activation.

    It is 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1), as in :func:`torch.nn.init.kaiming_normal_`. For ReLU and leaky
    ReLU it equals :func:`torch.nn.init.calculate_gain`; for tanh that function returns a rounded 5/3.

    Args:
        activation: A spec, a definition, a module, its class, or a function from tensor to tensor. A module
            keeps the current values of its parameters; other activations have the initial values.

    Returns:
        The gain, with a relative error below 1e-7.

    Raises:
        UsageError: The activation is not element-wise, is zero, or has no finite E[f(z)^2].

    Examples:
        >>> round(gain("relu") ** 2, 9), round(gain("tanh"), 7)
        (2.0, 1.5925374)
        >>> round(gain(torch.nn.LeakyReLU(0.2)), 9) == round((2 / 1.04) ** 0.5, 9)
        True

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", 2015.
    """
    moments = gaussian_moments(activation)
    if not moments.second:
        raise UsageError(f"activation {_name(activation)} is zero at every input, so it has no gain")
    return moments.gain


def gaussian_moments(activation: ActivationLike) -> GaussianMoments:
    """Return the moments of an activation at standard normal inputs.

    The integrals are computed in float64 by adaptive Gauss-Kronrod quadrature, which also handles kinks and
    jumps. For a gated unit, both halves of the input are independent; ``slope`` is NaN.

    Args:
        activation: As for :func:`gain`.

    Raises:
        UsageError: As for :func:`gain`, except that the activation may be zero.

    Examples:
        >>> moments = gaussian_moments("relu")
        >>> round(moments.mean, 9), round(moments.second, 9), round(moments.slope, 9)
        (0.39894228, 0.5, 0.5)

    References:
        S. S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, "Deep information propagation", 2017.
    """
    name = _name(activation)
    try:
        function, is_gated = _in_float64(activation)
        scale = _check_elementwise(function, name)
        moments, errors = _integrate(lambda z: _evaluate_values(function, z, scale, name))
        ends = np.array([-_LARGEST, _LARGEST])
        tails = _evaluate_values(function, ends, scale, name)[:, 1] * _compute_density(ends)
        (slope,), (slope_error,) = _integrate(lambda z: _evaluate_slopes(function, z, scale))
    except UsageError:
        raise
    except Exception as error:  # raised by the user's function
        raise UsageError(f"activation {name} cannot be evaluated: {summarize_error(error)}") from error
    mean, second, spread = moments
    if not tails.max() * _LARGEST <= _MAX_ERROR * second:
        raise UsageError(f"activation {name} has no finite E[f(z)^2] for z ~ N(0, 1): it grows too fast")
    if errors[1] > _MAX_ERROR * second:
        raise UsageError(f"E[f(z)^2] of activation {name} cannot be computed to {_MAX_ERROR:g}")
    if is_gated:
        return GaussianMoments(0.0, second * scale**2, math.nan, math.nan)
    if not (math.isfinite(slope) and slope_error <= _MAX_ERROR * slope):
        slope = math.nan
    mean = 0.0 if abs(mean) < _TOLERANCE * math.sqrt(second) else mean  # an odd function
    variance_slope = (spread / second - 1) / 2 if second else math.nan
    return GaussianMoments(mean * scale, second * scale**2, slope * scale**2, variance_slope)


def list_moments(activation: Activation[...]) -> list[tuple[str, str]]:
    """Return the moments, the gain and the critical point of a definition as pairs of label and text."""
    try:
        moments = gaussian_moments(activation)
    except UsageError as error:
        return [("gain", f"none: {error}")]
    if activation.facts.gated:
        return [("gain", f"{moments.gain:.6g}")]
    slope = "not finite" if math.isnan(moments.slope) else f"{moments.slope:.4g}"
    sizes = f"mean {moments.mean:.4g}, variance {moments.variance:.4g}, mean squared slope {slope}"
    point = moments.critical_point
    critical = f"sigma_w = {point[0]:.4g}, sigma_b = {point[1]:.4g}" if point else "none"
    return [
        ("at z ~ N(0, 1)", sizes),
        ("gain", f"{moments.gain:.6g}" if moments.second else "none: it is zero"),
        ("critical point", critical),
    ]


def _name(activation: Any) -> str:
    if isinstance(activation, Activation):
        return repr(activation.name)
    return " ".join(repr(getattr(activation, "__name__", activation)).split())


def _in_float64(activation: ActivationLike) -> tuple[Function, bool]:
    """Return a function of float64 tensors (n,), and whether it is that of the gate of a gated unit."""
    if isinstance(activation, Activation):
        function: Any = functools.partial(activation, **activation.example)
        definition: Activation[...] | None = activation
    else:
        function = resolve(activation).build().double().eval()
        definition = function.activation if isinstance(function, ActivationModule) else None
    if definition is None or not definition.facts.gated:
        return function, False
    return lambda b: function(torch.stack([torch.ones_like(b), b], -1)).squeeze(-1), True


def _check_elementwise(function: Function, name: str) -> float:
    """Raise UsageError unless a function is applied to each element; return the size of its values."""
    x = torch.linspace(-3, 3, 61, dtype=torch.float64)
    y = function(x.clone())
    whole = isinstance(y, Tensor) and y.shape == x.shape
    if not whole or not torch.allclose(y[:4], function(x[:4].clone()), equal_nan=True):
        raise UsageError(f"activation {name} is not element-wise; its gain depends on the shape of the input")
    return float(y.detach().square().mean().sqrt()) or 1.0


def _integrate(evaluate: Callable[[Array], Array]) -> tuple[list[float], list[float]]:
    """Return the integrals of functions (n, k) of points (n,) times the normal density, and their errors."""

    with np.errstate(invalid="ignore", over="ignore"):  # at a singularity of the slope
        result: Any = cubature(
            lambda z: evaluate(z[:, 0]) * _compute_density(z),  # type: ignore[misc]
            [-_LARGEST],
            [_LARGEST],
            rule="gk21",
            rtol=_TOLERANCE,
            atol=_TOLERANCE,
            max_subdivisions=_MAX_SUBDIVISIONS,
            points=[np.zeros(1)],
        )
    return result.estimate.tolist(), result.error.tolist()


def _compute_density(z: Array) -> Array:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _evaluate_values(function: Function, z: Array, scale: float, name: str) -> Array:
    """Return f, f^2 and z^2 f^2 (n, 3) at points (n,), for f / scale."""
    with torch.no_grad():
        values = function(torch.from_numpy(z.copy())).double().numpy()  # it may work in place
    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values)))
        raise UsageError(f"activation {name} has no finite E[f(z)^2]: f({z[first]:g}) is {values[first]}")
    values = values / scale
    return np.stack([values, values**2, (z * values) ** 2], 1)


def _evaluate_slopes(function: Function, z: Array, scale: float) -> Array:
    """Return f'^2 (n, 1) at points (n,), for f / scale."""
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.from_numpy(z).requires_grad_()
        y = function(x.clone())
        if not y.requires_grad:
            return np.zeros((len(z), 1))
        slopes: Array = torch.autograd.grad(y.sum(), x, materialize_grads=True)[0].numpy()
    return (slopes / scale)[:, None] ** 2
