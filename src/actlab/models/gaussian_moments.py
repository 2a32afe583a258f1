"""Compute the moments of an activation at standard normal inputs, and the gain that follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.integrate import cubature
from torch import Tensor, nn

from actlab.activation.definition import Activation
from actlab.errors import UsageError, summarize_error
from actlab.models.networks import ActivationLike, fresh
from actlab.spec import definition

_LARGEST = 37.0  # the normal density is 1e-298 there
_TOLERANCE = 1e-10  # relative error of the integrals
_MAX_ERROR = 1e-7  # relative error from which an integral is refused
_MAX_SUBDIVISIONS = 2000

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GaussianMoments:
    """The moments of an activation ``f`` for z ~ N(0, 1).

    Attributes:
        mean: E[f(z)].
        second: E[f(z)^2].
        slope: E[f'(z)^2].
        curvature: E[z^2 f(z)^2]. It says how E[f(z)^2] changes with the variance of z.
    """

    mean: float
    second: float
    slope: float
    curvature: float

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

        Weights are drawn with the variance sigma_w^2 / fan_in, and biases with sigma_b^2. The variance of the
        inputs of the activations then stays 1, and the mean squared gradient does not change from layer to
        layer. None if there is no such point: it would need a negative variance of the biases.
        """
        if not self.slope:
            return None
        bias_variance = 1 - self.second / self.slope
        if bias_variance < -_MAX_ERROR:
            return None
        return 1 / math.sqrt(self.slope), math.sqrt(max(0.0, bias_variance))


def gain(activation: ActivationLike | Activation[...]) -> float:
    """Return the factor of the weights that keeps the size of signals, for any element-wise activation.

    It is 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1), as in :func:`torch.nn.init.kaiming_normal_`. For ReLU and leaky
    ReLU it equals :func:`torch.nn.init.calculate_gain`; for tanh that function returns a rounded 5/3.

    Args:
        activation: A spec, a definition, a module, its class, or a function from tensor to tensor. Parameters
            have their initial values.

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


def gaussian_moments(activation: ActivationLike | Activation[...]) -> GaussianMoments:
    """Return the moments of an activation at standard normal inputs.

    The integrals are computed in float64 by adaptive Gauss-Kronrod quadrature, which also handles kinks and
    jumps. For a gated unit, both halves of the input are independent; ``slope`` is NaN.

    Args:
        activation: As for :func:`gain`.

    Raises:
        UsageError: As for :func:`gain`, but for zero.

    Examples:
        >>> moments = gaussian_moments("relu")
        >>> round(moments.mean, 9), round(moments.second, 9), round(moments.slope, 9)
        (0.39894228, 0.5, 0.5)

    References:
        S. S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, "Deep information propagation", 2017.
    """
    function, name = _evaluable(activation), _name(activation)
    try:
        _check_elementwise(function, name)
        breaks = [np.array([point]) for point in (*_kinks(activation), 0.0)]
        estimate = cubature(
            lambda z: _integrands(function, z[:, 0], name),
            [-_LARGEST],
            [_LARGEST],
            rule="gk21",
            rtol=_TOLERANCE,
            atol=_TOLERANCE**2,
            max_subdivisions=_MAX_SUBDIVISIONS,
            points=breaks,
        )
    except UsageError:
        raise
    except Exception as error:  # raised by the user's function
        raise UsageError(f"activation {name} cannot be evaluated: {summarize_error(error)}") from error
    mean, second, slope, curvature = map(float, estimate.estimate)
    tails = _integrands(function, np.array([-_LARGEST, _LARGEST]), name)[:, 1].max()
    if not tails * _LARGEST <= _MAX_ERROR * second:
        raise UsageError(f"activation {name} has no finite E[f(z)^2] for z ~ N(0, 1); it grows too fast")
    if not (estimate.error[[1, 3]] <= _MAX_ERROR * estimate.estimate[[1, 3]]).all():
        raise UsageError(f"E[f(z)^2] of activation {name} cannot be computed to {_MAX_ERROR:g}")
    return GaussianMoments(mean, second, slope, curvature)


def _integrands(function: Callable[[Tensor], Tensor], z: Array, name: str) -> Array:
    """Return f, f^2, f'^2 and z^2 f^2 at points (n,), times the normal density (n, 4)."""
    x = torch.from_numpy(z).requires_grad_()
    with torch.enable_grad():
        y = function(x)
    values = y.detach().double().numpy()
    if not np.isfinite(values).all():
        point = z[~np.isfinite(values)][0]
        value = values[~np.isfinite(values)][0]
        raise UsageError(f"activation {name} has no finite E[f(z)^2]: f({point:g}) is {value}")
    slopes = np.zeros_like(z)
    if y.requires_grad:
        (grad,) = torch.autograd.grad(y.sum(), x, materialize_grads=True)
        slopes = grad.numpy()
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    columns = (values, values**2, slopes**2, (z * values) ** 2)
    return np.stack([column * density for column in columns], 1)
