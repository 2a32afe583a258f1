"""Moments of activations at standard normal inputs, against exact values and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import actlab
from actlab.models import gaussian_moments
from tests.exact_values import exact_values

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
ELEMENTWISE = [name for name, activation in actlab.catalogue.items() if not activation.facts.gated]


def integrate(activation):
    """Return E[f], E[f^2] and E[f'^2] from exact values, by Gauss-Legendre quadrature between all kinks."""
    edges = sorted({*np.arange(-12, 12.5, 0.5), *map(float, activation.kinks())})
    low, high = np.array(edges[:-1])[:, None], np.array(edges[1:])[:, None]
    z = ((high + low + (high - low) * NODES) / 2).ravel()
    weights = ((high - low) / 2 * WEIGHTS).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    f, slope, *_ = exact_values(activation, z).high
    return [(weights * values).sum() for values in (f, f**2, slope**2)]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_gaussian_moments_equal_integrals_of_exact_values(name):
    activation = actlab.catalogue[name]
    moments = gaussian_moments(activation)
    found = [moments.mean, moments.second, moments.slope]
    np.testing.assert_allclose(found, integrate(activation), rtol=1e-7, atol=1e-9)
    assert actlab.gain(activation) == moments.gain


GATES = {"glu": "sigmoid", "reglu": "relu", "geglu": "gelu", "swiglu": "silu"}


@pytest.mark.parametrize("name", GATES)
def test_gain_of_a_gated_unit_is_that_of_its_gate(name):
    assert actlab.gain(name) == pytest.approx(actlab.gain(GATES[name]), rel=1e-9)
    assert math.isnan(gaussian_moments(name).slope)
    assert gaussian_moments(name).critical_point is None
    assert actlab.gain("bilinear") == pytest.approx(1, rel=1e-9)


def double_exponential(x):
    return x.exp()


class Square(nn.Module):
    def forward(self, x):
        return x * x


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


KNOWN = [
    ("relu", math.sqrt(2)),
    (nn.ReLU(inplace=True), math.sqrt(2)),
    (nn.LeakyReLU, math.sqrt(2 / 1.0001)),
    (nn.LeakyReLU(0.3), nn.init.calculate_gain("leaky_relu", 0.3)),
    ("prelu", math.sqrt(2 / (1 + 0.25**2))),
    (actlab.functional.selu, 1.0),
    ("tanh", 1.5925374197228),
    ("formula:x**3", 15**-0.5),
    ("formula:exp(x)", math.exp(-1)),
    ("formula:1000*x", 0.001),
    ("formula:x/10**9", 1e9),
    ("formula:sin(50*x)", (0.5 - 0.5 * math.exp(-5000)) ** -0.5),
    (double_exponential, math.exp(-1)),
    (torch.sign, 1.0),
    (Square, 3**-0.5),
    (Doubled, 0.5),
    (lambda x: (x > 1.25).double(), (math.erfc(1.25 / math.sqrt(2)) / 2) ** -0.5),
]


@pytest.mark.parametrize(("activation", "expected"), KNOWN, ids=range(len(KNOWN)))
def test_gain_equals_closed_forms(activation, expected):
    assert actlab.gain(activation) == pytest.approx(expected, rel=1e-6 if expected == 1.0 else 1e-8)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gain_does_not_depend_on_the_grad_mode(mode):
    with mode():
        assert gaussian_moments("tanh") == gaussian_moments(nn.Tanh()) == gaussian_moments(torch.tanh)
    assert gaussian_moments("tanh").slope == pytest.approx(0.4644, abs=1e-4)


@pytest.mark.parametrize("power", [0.3, 0.45, 0.5])
def test_slope_is_nan_if_it_is_not_finite(power):
    moments = gaussian_moments(lambda x: x.abs() ** power)
    expected = 2**power * math.gamma(power + 0.5) / math.sqrt(math.pi)
    assert moments.second == pytest.approx(expected, rel=1e-7)
    assert math.isnan(moments.slope)
    assert moments.critical_point is None


def test_gain_leaves_the_module_unchanged():
    module = nn.Sequential(nn.BatchNorm1d(1), nn.PReLU()).train()
    with pytest.raises(actlab.UsageError):
        actlab.gain(module)
    assert module.training
    assert module[1].weight.dtype == torch.float32
    assert module[0].num_batches_tracked == 0


def test_critical_point_keeps_the_variance_and_the_mean_squared_gradient():
    for name in ("tanh", "gelu", "elu", "softsign"):
        moments = gaussian_moments(name)
        sigma_w, sigma_b = moments.critical_point
        assert sigma_w**2 * moments.second + sigma_b**2 == pytest.approx(1)
        assert sigma_w**2 * moments.slope == pytest.approx(1)
    assert gaussian_moments("relu").critical_point == (pytest.approx(math.sqrt(2)), 0.0)
    assert gaussian_moments("sigmoid").critical_point is None


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "sigmoid", "gaussian"])
def test_variance_slope_is_the_derivative_with_respect_to_the_variance(name):
    function, step = actlab.catalogue[name], 1e-4
    seconds = [
        gaussian_moments(lambda x, s=s: function(x * math.sqrt(s))).second for s in (1 - step, 1 + step)
    ]
    slope = (seconds[1] - seconds[0]) / (2 * step) / gaussian_moments(name).second
    assert gaussian_moments(name).variance_slope == pytest.approx(slope, abs=1e-6)


REFUSED = {
    "formula:exp(x**2)": r"has no finite E\[f\(z\)\^2\]: f\(.*\) is inf",
    "formula:exp(x**2/4)": "it grows too fast",
    "nope": "unknown activation 'nope'",
    "elu(": "arguments must be literals",
    nn.Softmax(-1): "is not element-wise",
    nn.LayerNorm(61): "is not element-wise|cannot be evaluated",
    nn.Linear(3, 3): "cannot be evaluated",
    math.tanh: "cannot be evaluated",
    (lambda x: 0 * x): "is zero at every input",
    (lambda x: torch.log(x)): r"f\(.*\) is nan",
    (lambda x: x.sum()): "is not element-wise",
    (lambda x: None): "is not element-wise",
}


@pytest.mark.parametrize("activation", REFUSED, ids=range(len(REFUSED)))
def test_gain_refuses_what_has_none(activation):
    with pytest.raises(actlab.UsageError, match=REFUSED[activation]):
        actlab.gain(activation)
