"""Activations with one fault each, and their sound versions; test_checking_faults.py checks them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

Formula = Callable[[Tensor], Tensor]


def tanh_slope(x: Tensor) -> Tensor:
    return 1 - x.tanh() ** 2


def node(forward: Formula = torch.tanh, slope: Formula = tanh_slope, **others: Any) -> Formula:
    """Return a function with its own backward and jvp; with the default arguments it is a sound tanh."""

    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    methods = {
        "forward": lambda x: forward(x),  # a built-in function has no signature
        "setup_context": setup_context,
        "backward": lambda ctx, g: g * slope(ctx.saved_tensors[0]),
        "jvp": lambda ctx, t: t * slope(ctx.saved_tensors[0]),
        **others,
    }
    namespace: dict[str, Any] = {name: staticmethod(method) for name, method in methods.items()}
    namespace["generate_vmap_rule"] = "vmap" not in others
    function: Formula = type("Node", (Function,), namespace).apply
    return function


# -- values ---------------------------------------------------------------------------------------


def negative_tanh(x: Tensor) -> Tensor:
    return -x.tanh()


def scaled_tanh(x: Tensor) -> Tensor:
    return 1.000001 * x.tanh()


def tanh_in_single_precision(x: Tensor) -> Tensor:
    return x.float().tanh().to(x.dtype)


def tanh_wrong_in_double(x: Tensor) -> Tensor:
    return x.tanh() * (1.001 if x.dtype is torch.float64 else 1)


def tanh_wrong_far_out(x: Tensor) -> Tensor:
    """Wrong beyond 50 in float32."""
    return x.tanh() * (torch.where(x.abs() > 50, 1.01, 1.0) if x.dtype is torch.float32 else 1)


def tanh_by_exp_in(narrow: torch.dtype) -> Formula:
    """Return a tanh that loses all digits near 0 in one dtype."""

    def function(x: Tensor) -> Tensor:
        if x.dtype is not narrow:
            return x.tanh()
        e = torch.exp(2 * x.clamp(-5, 5))
        return (e - 1) / (e + 1)

    return function


def mish_by_exp_in(narrow: torch.dtype) -> Formula:
    """Return a mish whose exp overflows in one dtype, so that its gradient there is inf / inf."""

    def function(x: Tensor) -> Tensor:
        wide = x if x.dtype is narrow else x.double()
        return (wide * torch.log1p(wide.clamp(max=100).exp()).tanh()).to(x.dtype)

    return function


double_mish = mish_by_exp_in(torch.float64)


def relu_that_drops_nan(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0)


# -- shapes, dtypes and state ---------------------------------------------------------------------


def relu_that_flattens(x: Tensor) -> Tensor:
    return x.flatten().relu()


def relu_and_mask(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.relu(), x > 0


def relu_in_place(x: Tensor) -> Tensor:
    y = x.relu()
    x.detach().clamp_(min=0)
    return y


def tanh_with_float32_constant(x: Tensor) -> Tensor:
    return x.tanh() * torch.ones(1, dtype=torch.float32)


def noisy_tanh(x: Tensor) -> Tensor:
    return x.tanh() + 1e-3 * torch.rand_like(x)


class TanhThatShrinks:
    """Tanh whose values shrink with every call."""

    def __init__(self) -> None:
        self.calls = itertools.count()

    def __call__(self, x: Tensor) -> Tensor:
        return x.tanh() * 0.999 ** next(self.calls)


class TanhOfFirstScale:
    """Tanh divided by the largest magnitude of the previous input."""

    scale: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        last, self.scale = self.scale, x.detach().abs().max()
        return x.tanh() if last is None else x.tanh() / last


def tanh_in_storage_order(x: Tensor) -> Tensor:
    shape = x.shape
    return x.as_strided(shape, torch.empty(shape, device="meta").stride()).tanh()


def tanh_into_same_strides(x: Tensor) -> Tensor:
    with torch.no_grad():
        out = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
    return out.copy_(x.tanh())


def _backward_by_storage(ctx: Any, g: Tensor) -> Tensor:
    """Sum the gradients of all elements that share a storage location."""
    (x,) = ctx.saved_tensors
    location = sum(
        torch.arange(n).mul(step).view(-1, *[1] * (x.ndim - d - 1))
        for d, (n, step) in enumerate(zip(x.shape, x.stride(), strict=True))
    )
    assert isinstance(location, Tensor)
    summed = x.new_zeros(int(location.max()) + 1).index_add(
        0, location.flatten(), (g * tanh_slope(x)).flatten()
    )
    return summed[location]


tanh_that_sums_shared_memory = node(backward=_backward_by_storage)


def tanh_by_largest(x: Tensor) -> Tensor:
    """Tanh that fails for an empty tensor."""
    return x.tanh() + 0 * x.max()


def tanh_at_least_a_row(x: Tensor) -> Tensor:
    return torch.atleast_1d(x).tanh()


def tanh_by_matmul(x: Tensor) -> Tensor:
    """Tanh that mixes dtypes under autocast."""
    one = torch.ones(1, 1, dtype=x.dtype)
    return torch.lerp(x.tanh(), (x.tanh()[..., None] @ one)[..., 0], 0.5)


# -- derivatives ----------------------------------------------------------------------------------


def detached_tanh(x: Tensor) -> Tensor:
    return x.detach().tanh()


def softplus_by_where(x: Tensor) -> Tensor:
    """Softplus whose unused branch overflows: 0 times its infinite gradient is NaN."""
    return torch.where(x > 20, x, torch.log1p(x.exp()))


def _cut_at_six(x: Tensor) -> Tensor:
    return ((x > 0) & (x < 6)).to(x.dtype)


def _above_zero(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


relu6 = node(nn.functional.relu6, _cut_at_six)
relu6_with_slope_of_relu = node(nn.functional.relu6, _above_zero)
tanh_with_negative_slope = node(slope=lambda x: -tanh_slope(x))
tanh_with_slope_off = node(slope=lambda x: 1.001 * tanh_slope(x))
tanh_with_slope_far_out = node(slope=lambda x: torch.where(x.abs() > 50, 1e-3, tanh_slope(x)))
waves = node(lambda x: (10 * x).sin(), lambda x: 10 * (10 * x).cos())
waves_with_slope_far_out = node(
    lambda x: (10 * x).sin(),
    lambda x: 10 * (10 * x).cos() * torch.where(x.abs() > 10, 1.001, 1.0).to(x.dtype),
)
tanh_with_rounded_slope = node(
    slope=lambda x: tanh_slope(x.bfloat16()).to(x.dtype) if x.dtype is torch.float32 else tanh_slope(x)
)
tanh_with_wrong_half_slope = node(slope=lambda x: tanh_slope(x) * (1.05 if x.dtype is torch.float16 else 1))
tanh_with_flat_gradient = node(backward=lambda ctx, g: (g * tanh_slope(ctx.saved_tensors[0])).flatten())
tanh_with_single_slope = node(slope=lambda x: tanh_slope(x).float().to(x.dtype))
relu_with_one_at_zero = node(torch.relu, lambda x: (x >= 0).to(x.dtype))
ceiling_with_one_at_one = node(lambda x: x.clamp_max(1), lambda x: (x <= 1).to(x.dtype))
relu_with_two_at_zero = node(torch.relu, lambda x: _above_zero(x) + 2 * (x == 0))
relu = node(torch.relu, _above_zero)


class MishOfSaved(Function):
    """Mish that saves tanh(softplus(x)) as an attribute, which is a constant for the second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.inner = softplus(x).tanh()
        return x * ctx.inner

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * (ctx.inner + x * x.sigmoid() * (1 - ctx.inner**2))


class TanhOfSaved(Function):
    """Tanh that saves its output as an attribute, so that backward cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.y = x.tanh()
        return ctx.y.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (1 - ctx.y**2)


class TanhOnce(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * tanh_slope(*ctx.saved_tensors)


# -- torch's transforms ---------------------------------------------------------------------------


def relu_by_item(x: Tensor) -> Tensor:
    return x.relu() if x.sum().item() > -1e9 else x


def _vmap_with_wrong_dimension(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
    return x.tanh(), 0  # the batch is at in_dims[0]


def _vmap_without_tanh(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
    return x, in_dims[0]


def _backward_by_item(ctx: Any, g: Tensor) -> Tensor:
    return g * tanh_slope(ctx.saved_tensors[0]) if g.abs().max().item() else g


tanh_with_wrong_vmap_dimension = node(vmap=_vmap_with_wrong_dimension)
tanh_with_vmap_without_tanh = node(vmap=_vmap_without_tanh)
tanh_with_backward_by_item = node(backward=_backward_by_item)
tanh_with_jvp_off = node(jvp=lambda ctx, t: 1.001 * t * tanh_slope(ctx.saved_tensors[0]))
tanh_with_jvp_negative = node(jvp=lambda ctx, t: -t * tanh_slope(ctx.saved_tensors[0]))
tanh = node()


# -- modules --------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """Tanh times a parameter (sound)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.tanh()


class _MeanOverBatch(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return scale * x.tanh()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        return g * scale * tanh_slope(x), (g * x.tanh()).mean()


class ScaledByMean(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _MeanOverBatch.apply(x, self.scale)
        return y


class ScaledByNumber(Scaled):
    """Converts the parameter to a number, which has no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return float(self.scale) * x.tanh()


class ScaledWithoutState(Scaled):
    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Save nothing."""


class ScaledByTensor(nn.Module):
    """Trains a plain tensor that is missing in parameters() and state_dict()."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.tensor(1.5, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * x.tanh()


class ScaledByList(nn.Module):
    """Stores its parameter in a list, which nn.Module does not search."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = [nn.Parameter(torch.tensor(1.5))]

    def forward(self, x: Tensor) -> Tensor:
        return self.scales[0].to(x.dtype) * x.tanh()


class ScaledShared(Scaled):
    """Shares its parameter with its deep copies."""

    def __deepcopy__(self, memo: Any) -> ScaledShared:
        return copy.copy(self)


class ScaledCopiedInitial(Scaled):
    """Has deep copies with the initial parameter."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.scale.fill_(2.5)

    def __deepcopy__(self, memo: Any) -> Scaled:
        return Scaled().to(self.scale.dtype)


class ScaledLessByCopy(nn.Module):
    """Has deep copies with half of its factor."""

    def __init__(self, factors: tuple[float, ...] = (1.5,)) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        return self.factors[0] * x.tanh()

    def __deepcopy__(self, memo: Any) -> ScaledLessByCopy:
        return ScaledLessByCopy((self.factors[0] / 2,))


class ScaledWithoutLoading(Scaled):
    """Ignores the state that it loads."""

    def _load_from_state_dict(self, *args: Any) -> None:
        """Do nothing."""


class ScaledByLambda(Scaled):
    """Has an attribute that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.function = lambda x: x.tanh()
