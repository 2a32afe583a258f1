"""Parameters of activations: values out of range raise the errors of torch, and trained ones are trained."""

from __future__ import annotations

import pickle
import re

import pytest
import torch

import actlab
from actlab import functional, nn

X = torch.linspace(-2, 2, 24).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: functional.hardshrink(X, -1.0),
            RuntimeError,
            "hardshrink: lambd must not be negative, got -1",
        ),
        (
            lambda: functional.softshrink(X, lambd=-0.5),
            RuntimeError,
            "lambd must not be negative",
        ),
        (lambda: nn.Softshrink(-0.5), RuntimeError, "got -0.5"),
        (
            lambda: functional.hardtanh(X, 2.0, 1.0),
            ValueError,
            "must be at most max_val, got min_val=2.0, max_val=1.0",
        ),
        (lambda: nn.Hardtanh(1.0, 1.0), AssertionError, "max_val must be greater than min_val"),
        (lambda: functional.rrelu(X, 0.5, 0.25), RuntimeError, "lower must be at most upper, got lower=0.5"),
        (lambda: nn.RReLU(0.5, 0.25), RuntimeError, "lower must be at most upper, got lower=0.5, upper=0.25"),
        (lambda: functional.celu(X, 0.0), RuntimeError, "celu: alpha must not be 0"),
        (lambda: functional.softplus(X, beta=0), ValueError, "softplus: beta must not be 0"),
        (lambda: functional.squareplus(X, b=-4.0), ValueError, "squareplus: b must be positive, got -4.0"),
        (lambda: functional.isru(X, -1.0), ValueError, "isru: alpha must be positive, got -1.0"),
        (lambda: nn.ISRLU(0.0), ValueError, "isrlu: alpha must be positive, got 0.0"),
        (lambda: nn.BReLU(0.0), ValueError, "clipped_relu: upper must be positive, got 0.0"),
        (lambda: nn.GELU("tan"), RuntimeError, "approximate must be 'none' or 'tanh', got 'tan'"),
        (lambda: functional.snake(X, 0.0), ValueError, "snake: alpha must not be 0"),
        (lambda: functional.sine(X, 0.0), ValueError, "sine: omega must not be 0"),
        (lambda: nn.XIELU(alpha_n=0.4), ValueError, "alpha_n more than beta, got alpha_p=0.8, alpha_n=0.4"),
        (lambda: nn.PReLU(4)(X), RuntimeError, "got 4 elements and 3 channels"),
        (
            lambda: functional.prelu(X, torch.ones(2, 2)),
            RuntimeError,
            "one dimension, got shape (2, 2)",
        ),
        (lambda: functional.prelu(X), TypeError, "prelu: argument 'weight' is missing"),
        (lambda: functional.threshold(X, 0.5), TypeError, "threshold: argument 'value' is missing"),
        (lambda: functional.relu(X, 1, 2), TypeError, "relu takes at most 1 arguments ['inplace'], got 2"),
        (lambda: functional.elu(X, beta=1), TypeError, "elu: argument 'beta' is unknown"),
        (lambda: functional.elu(X, 1.0, alpha=1.0), TypeError, "elu: argument 'alpha' is given twice"),
        (lambda: functional.elu(X, torch.ones(())), NotImplementedError, "'alpha' must be a number"),
        (lambda: functional.glu(X[..., :3]), RuntimeError, "glu: the input is halved along dim=-1"),
        (lambda: nn.SwiGLU(dim=3)(X), IndexError, "swiglu: dim must be from -3 to 2, got 3"),
        (lambda: nn.GLU()(torch.tensor(1.0)), RuntimeError, "glu: input must have at least one dimension"),
    ],
)
def test_activation_rejects_parameters_out_of_range(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_gated_activations_accept_any_dimension():
    x = torch.randn(4, 6, 2, dtype=torch.float64)
    for dim in (-1, 0, 1, -3):
        assert torch.equal(functional.glu(x, dim), torch.nn.functional.glu(x, dim))
        a, b = x.chunk(2, dim)
        torch.testing.assert_close(functional.swiglu(x, dim), a * torch.nn.functional.silu(b))
        torch.testing.assert_close(functional.geglu(x, dim), a * torch.nn.functional.gelu(b))


def test_rrelu_draws_the_same_slopes_as_torch():
    x = torch.linspace(-3, 3, 40)
    ours, theirs = nn.RReLU(0.1, 0.4), torch.nn.RReLU(0.1, 0.4)
    for mode in (True, False):
        torch.manual_seed(3)
        one = ours.train(mode)(x)
        torch.manual_seed(3)
        assert torch.equal(one, theirs.train(mode)(x))
    torch.manual_seed(3)
    leaf = x.clone().requires_grad_()
    y = ours.train()(leaf)
    y.sum().backward()
    torch.testing.assert_close(leaf.grad, torch.where(x > 0, 1.0, (y / x).detach()))


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (nn.PReLU(8), {"weight"}),
        (nn.StarReLU(), {"scale", "bias"}),
        (nn.Swish(beta=1.5), {"beta"}),
        (nn.Snake(8), {"alpha"}),
        (nn.SinLU(), {"a", "b"}),
        (nn.XIELU(), {"raw_p", "raw_n"}),
        (nn.DynamicTanh(8), {"alpha", "weight", "bias"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else "",
)
def test_reset_parameters_restores_trained_parameters(module, names):
    assert set(module.state_dict()) == names
    start = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(4, 8)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(value, start[name]) for name, value in module.state_dict().items())
    module.reset_parameters()
    assert all(torch.equal(value, start[name]) for name, value in module.state_dict().items())


def test_swish_trained_false_fixes_beta():
    fixed = nn.Swish(beta=2.0, trained=False)
    assert list(fixed.parameters()) == []
    assert repr(fixed) == "Swish(beta=2.0, trained=False)"
    x = torch.linspace(-3, 3, 7)
    assert torch.equal(fixed(x), nn.Swish(beta=2.0)(x))
    torch.testing.assert_close(functional.swish(x, 1.0), torch.nn.functional.silu(x))


@actlab.elementwise(
    formula="x**2",
    limits=(float("inf"), float("inf")),
    slopes=(-float("inf"), float("inf")),
    range=(0, float("inf")),
    monotonic=False,
    paper="-",
)
def square(x):
    """User-defined square."""
    return x * x


@square.derivative
def _(x):
    return 2 * x


@square.second
def _(x):
    return torch.full_like(x, 2.0)


Square = square.module("Square")


def test_user_definition_passes_check_and_can_be_pickled():
    assert actlab.check(square, skip=["compile", "export"]).passed
    assert Square.__module__ == __name__
    copied = pickle.loads(pickle.dumps(torch.nn.Sequential(Square())))  # noqa: S301 - bytes of this line
    assert torch.equal(copied(X), X * X)


def test_telu_is_tanhexp_under_its_own_name():
    x = torch.linspace(-3, 3, 7)
    assert torch.equal(functional.telu(x), functional.tanhexp(x))
    assert repr(nn.TeLU()) == "TeLU()"
    assert actlab.catalogue["telu"].facts.paper != actlab.catalogue["tanhexp"].facts.paper
