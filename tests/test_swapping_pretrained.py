"""swap in models of torchvision, timm and transformers with random weights, where these are installed."""

import pytest
import torch
from benchmarks.swapping import run_model

from actlab import swap
from actlab.models import find_activations
from tests.swaps import one_thread

__all__ = ["one_thread"]


@pytest.fixture(autouse=True)
def default_dtype():
    """Restore the default dtype, which the benchmark sets."""
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name"),
    [
        *[("torchvision", name) for name in ("googlenet", "mobilenet_v3_small", "swin_t")],
        *[("timm", name) for name in ("test_vit", "test_efficientnet", "caformer_s18", "efficientvim_m1")],
        *[("transformers", name) for name in ("bert", "esm", "gemma2", "whisper")],
    ],
)
def test_swap_replaces_or_reports_every_activation_of_a_real_model(package, name):
    pytest.importorskip(package, reason=f"{package} is not installed")
    with torch.no_grad():
        row = run_model(package, name)
    assert (row.missed, row.changed, row.keeps_weights) == (0, True, True)
    assert row.places == row.replaced + sum(row.reported.values())
    assert row.difference < 1e-6


class OwnKernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        y = torch.sigmoid(x)
        return gradient * (y + x * y * (1 - y))


class MemoryEfficient(torch.nn.Module):
    """An activation in the style of timm's ``SwishMe``."""

    def __init__(self, inplace=False):
        super().__init__()

    def forward(self, x):
        return OwnKernel.apply(x)


class Squared(torch.nn.Module):
    """An activation in the style of timm's ``SquaredReLU``."""

    def __init__(self):
        super().__init__()
        self.relu = torch.nn.ReLU()

    def forward(self, x):
        return self.relu(x) ** 2


class GammaAct(torch.nn.Module):
    """A scaled activation in the style of timm's normalizer-free networks."""

    def __init__(self):
        super().__init__()
        self.act_fn, self.gamma = torch.nn.functional.silu, 1.7

    def forward(self, x):
        return self.act_fn(x, inplace=False).mul_(self.gamma)


@pytest.mark.parametrize(
    ("module", "places"),
    [
        (MemoryEfficient(), [("0", "silu")]),
        (Squared(), [("0", "relu_squared")]),
        (GammaAct(), [("0", "GammaAct")]),
    ],
)
def test_find_activations_recognizes_activations_in_the_style_of_timm(module, places):
    model, x = torch.nn.Sequential(module), torch.randn(5)
    assert [(place.path, place.activation) for place in find_activations(model)] == places
    torch.testing.assert_close(swap(model, "tanh")(x), torch.tanh(x))
